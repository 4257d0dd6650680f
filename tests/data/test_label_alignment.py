import cv2
import numpy as np
import pytest
from PIL import Image

from keras_fcn.data.label_alignment import CHANGES, boundary_fits, misalignments

pytestmark = pytest.mark.any_backend


def pair(seed, size=(120, 160)):
    """An image of noisy regions, and its label map with an ignored block."""
    rng = np.random.default_rng(seed)
    label_map = np.zeros(size, "int32")
    for _ in range(12):
        top, left = rng.integers(0, size[0] - 20), rng.integers(0, size[1] - 20)
        height, width = rng.integers(10, 50, 2)
        label_map[top : top + height, left : left + width] = rng.integers(0, 5)
    image = np.array([20, 70, 120, 170, 220])[label_map] + rng.normal(0, 12, size)
    label_map[:8, :8] = 255
    return np.repeat(np.clip(image, 0, 255).astype("uint8")[:, :, None], 3, axis=2), label_map


def shifted(label_map, down, right):
    return np.roll(label_map, (down, right), axis=(0, 1))


def problems(change, count=24, split="train"):
    pairs = [pair(seed) for seed in range(count)]
    fits = [(f"{n}.png", boundary_fits(i, change(n, m), 255)) for n, (i, m) in enumerate(pairs)]
    return list(misalignments({split: fits}))


class TestBoundaryFits:
    def test_fits_are_those_of_opencv_s_edges(self):
        image, label_map = pair(0)
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype("float32")
        edges = np.zeros_like(grey)
        for x, y in ((1, 0), (0, 1)):
            kernel = np.zeros((3, 3), "float32")
            kernel[1 - y, 1 - x], kernel[1 + y, 1 + x] = -1, 1
            part = np.abs(cv2.filter2D(grey, -1, kernel, borderType=cv2.BORDER_REFLECT_101))
            edges += part
        edges = np.minimum(edges, np.quantile(edges[::4, ::4], 0.95))
        edges = cv2.blur(edges, (3, 3), borderType=cv2.BORDER_REPLICATE)
        edges = (edges - edges.mean()) / edges.std()
        at = [
            (row, column)
            for row in range(120)
            for column in range(160)
            if label_map[row, column] != 255
            and any(
                label_map[row - down, column - right] not in (255, label_map[row, column])
                for down, right in ((1, 0), (0, 1))
                if row >= down and column >= right
            )
        ]
        expected = {
            "as they are": np.mean([edges[y, x] for y, x in at]),
            "flipped horizontally": np.mean([edges[y, 159 - x] for y, x in at]),
            "flipped vertically": np.mean([edges[119 - y, x] for y, x in at]),
            "rotated by 180 degrees": np.mean([edges[119 - y, 159 - x] for y, x in at]),
            "shifted by 8 pixels down": np.mean([edges[y + 8, x] for y, x in at if y < 112]),
            "shifted by 16 pixels up and 8 pixels left": np.mean(
                [edges[y - 16, x - 8] for y, x in at if y >= 16 and x >= 8]
            ),
        }
        fits = dict(zip(CHANGES, boundary_fits(image, label_map, 255), strict=True))
        for change, value in expected.items():
            np.testing.assert_allclose(fits[change], value, atol=2e-3, err_msg=change)

    def test_what_says_little_has_none(self):
        image, label_map = pair(0)
        assert boundary_fits(image[:60], label_map[:60], 255) is None
        assert boundary_fits(image, np.zeros_like(label_map), 255) is None
        assert boundary_fits(np.zeros_like(image), label_map, 255) is None
        # Around an ignored region there is no boundary.
        assert boundary_fits(image, np.where(label_map > 1, 255, 0), 255) is None


class TestMisalignments:
    def test_true_pairs_have_none(self):
        assert problems(lambda n, label_map: label_map) == []

    @pytest.mark.parametrize(
        ("change", "cure"),
        [
            (lambda n, m: m[:, ::-1], "flipped horizontally"),
            (lambda n, m: m[::-1], "flipped vertically"),
            (lambda n, m: m[::-1, ::-1], "rotated by 180 degrees"),
            (lambda n, m: shifted(m, 8, 0), "shifted by 8 pixels up"),
            (lambda n, m: shifted(m, 0, -16), "shifted by 16 pixels right"),
            (lambda n, m: shifted(m, 8, -8), "shifted by 8 pixels up and 8 pixels right"),
        ],
    )
    def test_a_changed_split_is_told_what_undoes_the_change(self, change, cure):
        (problem,) = problems(change)
        assert problem.kind == "alignment"
        assert problem.severity == "warning"
        assert f"fit their images better {cure}: " in problem.message
        assert "of 24 do." in problem.message

    def test_few_pairs_are_named_one_by_one(self):
        (problem,) = problems(lambda n, m: m[:, ::-1] if n in (3, 5) else m)
        assert problem.files == ("3.png", "5.png") or problem.files == ("5.png", "3.png")
        assert problem.message.startswith("2 label maps of train would fit better")
        assert "3.png flipped horizontally" in problem.message
        assert problem.severity == "warning"

    def test_pairs_without_a_fit_do_not_count(self):
        assert list(misalignments({"train": [("a.png", None)] * 30, "val": []})) == []

    def test_real_streets_fit_until_they_are_flipped(self, shared):
        found, flipped = [], []
        for path in sorted((shared / "camvid" / "val").iterdir())[::5]:
            image = np.asarray(Image.open(path).convert("RGB"))
            label_map = np.asarray(Image.open(shared / "camvid" / "valannot" / path.name), "int32")
            found.append((path.name, boundary_fits(image, label_map, 11)))
            flipped.append((path.name, boundary_fits(image, label_map[:, ::-1], 11)))
        assert list(misalignments({"val": found})) == []
        (problem,) = misalignments({"val": flipped})
        assert "flipped horizontally" in problem.message
