"""The expected label maps were printed by `shapes_to_label` of labelme 6.3.1 with Pillow 13.0."""

import base64

import numpy as np
import pytest
from data.formats.folders import files, label_map, rows, save_array, save_image, save_json

from keras_fcn.data.formats import import_data

pytestmark = pytest.mark.any_backend

# PNG of [[1, 0, 1], [0, 1, 0]].
MASK = (
    "iVBORw0KGgoAAAANSUhEUgAAAAMAAAACCAAAAAC4HznGAAAAEElEQVR4nGNgZGBkYGBkAAAAFgAEWCCH/wAAAABJRU5ErkJg"
    "gg=="
)


def shape(label, points, kind="polygon", **more):
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, **more}


SHAPES = [
    shape("cat", [[1.3, 1.2], [12.6, 2.4], [9.5, 8.5], [2.2, 9.9]]),
    shape("dog", [[14.4, 7.7], [8.2, 3.5]], "rectangle"),
    shape("cat", [[12.0, 9.0], [13.5, 10.4]], "circle"),
    shape("__ignore__", [[0.0, 0.0], [4.5, 0.2], [1.0, 3.0]]),
    shape("dog", [[2.0, 9.0], [4.0, 10.0]], "mask", mask=MASK),
    shape("cat", [[5.0, 10.0], [7.5, 8.5], [8.5, 10.5], [6.0, 12.0]], "oriented_rectangle"),
]
# 9 stands for __ignore__.
EXPECTED = rows("""
    9999900000000000
    9999000000000000
    0991111111111000
    0911111122222220
    0111111122222220
    0011111122222220
    0011111122211220
    0011111122111120
    0011111111111110
    0020201101111110
    0002011110111100
    0000001100011000
""")


def write(folder, *shapes, name="a", **content):
    content = {
        "imagePath": "a.png",
        "imageData": None,
        "imageHeight": 12,
        "imageWidth": 16,
    } | content
    return save_json(folder / f"{name}.json", {"version": "6.3.1", "shapes": shapes, **content})


@pytest.fixture
def folder(tmp_path):
    save_image(tmp_path / "in" / "a.png", 12, 16)
    return tmp_path / "in"


def run(folder, **options):
    return import_data("labelme", folder, folder.parent / "out", **options)


class TestShapes:
    def test_every_kind_is_drawn_as_labelme_draws_it(self, folder):
        write(folder, *SHAPES)
        report = run(folder)
        assert report.label_space.class_names == ("background", "cat", "dog")
        assert report.label_space.ignore_class == 255
        wanted = np.where(EXPECTED == 9, 255, EXPECTED)
        np.testing.assert_array_equal(label_map(folder.parent / "out", "a"), wanted)

    @pytest.mark.parametrize("kind", ["rotation", "quadrilateral"])
    def test_shapes_of_x_anylabeling(self, folder, kind):
        """Version 4.2.1 writes the corners of a rectangle, and these for `oriented_rectangle`."""
        corners = [[8.2, 3.5], [14.4, 3.5], [14.4, 7.7], [8.2, 7.7]]
        turned = SHAPES[5] | {"shape_type": kind, "direction": 0.52}
        write(folder, SHAPES[0], shape("dog", corners, "rectangle"), *SHAPES[2:5], turned)
        run(folder)
        wanted = np.where(EXPECTED == 9, 255, EXPECTED)
        np.testing.assert_array_equal(label_map(folder.parent / "out", "a"), wanted)

    def test_points_and_lines_are_counted(self, folder):
        kinds = ("point", "line", "linestrip", "points", "line")
        write(folder, SHAPES[0], *(shape("road", [[1, 1], [5, 5]], kind) for kind in kinds))
        report = run(folder)
        assert report.left_out == {"points": 2, "lines": 2, "linestrips": 1}
        assert report.label_space.class_names == ("background", "cat")

    @pytest.mark.parametrize("label", ["_background_", "Background"])
    def test_background_is_class_0(self, folder, label):
        write(folder, SHAPES[0], shape(label, SHAPES[0]["points"]))
        assert run(folder).label_space.class_names == ("background", "cat")
        assert not label_map(folder.parent / "out", "a").any()

    @pytest.mark.parametrize("given", ["dog,cat", "labels.txt"])
    def test_given_classes_have_the_given_order(self, folder, given):
        write(folder, *SHAPES)
        if given == "labels.txt":
            # As for labelme's own conversion to VOC.
            given = folder.parent / given
            given.write_text("__ignore__\n_background_\ndog\ncat\n")
        assert run(folder, classes=given).label_space.class_names == ("background", "dog", "cat")
        assert label_map(folder.parent / "out", "a")[4, 10] == 1

    def test_a_label_of_no_class_is_refused(self, folder):
        write(folder, *SHAPES)
        with pytest.raises(ValueError, match=r"a\.json must hold labels of .*dog. Received: 'cat'"):
            run(folder, classes="bird,dog")


class TestImages:
    def test_subfolders_are_kept(self, folder):
        for name in ("oslo", "bern"):
            save_image(folder / name / "a.png", 12, 16)
            write(folder / name, *SHAPES)
        (folder / "a.png").unlink()
        run(folder)
        assert {"labels/oslo/a.png", "labels/bern/a.png"} <= set(files(folder.parent / "out"))

    def test_an_image_that_is_missing_comes_from_the_json(self, folder):
        content = (folder / "a.png").read_bytes()
        (folder / "a.png").unlink()
        for path in ("a.png", "../../secret.png"):
            write(folder, *SHAPES, imageData=base64.b64encode(content).decode(), imagePath=path)
            out = folder.parent / f"out{len(path)}"
            for _ in range(2):
                report = import_data("labelme", folder, out)
            assert report.written == 0
            assert (out / "images" / "a.png").read_bytes() == content

    def test_a_path_that_leads_out_of_the_folder_needs_the_option(self, folder):
        save_array(folder.parent / "a.png", np.zeros((12, 16, 3)))
        write(folder, *SHAPES, imagePath="..\\a.png")
        with pytest.raises(ValueError, match=r"a\.json names the image .* outside of .*--images"):
            run(folder)
        assert run(folder, images=folder).written == 1

    def test_sizes_may_be_missing(self, folder):
        write(folder, *SHAPES, imageHeight=None, imageWidth=None)
        run(folder)
        assert (label_map(folder.parent / "out", "a") == 2).sum() == (EXPECTED == 2).sum()


class TestRefusals:
    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            (shape("cat", [[1, 1], [2, 2]]), r"Received: polygon of \[\[1, 1\], \[2, 2\]\]"),
            (shape("cat", [[1, 1]], "circle"), "Received: circle"),
            (shape("cat", [[1, "x"]] * 3), "Received: polygon"),
            (shape("cat", [[1, 1]] * 3, "star"), "Received: star"),
            ({"points": []}, "shapes with a label"),
            (shape("cat", [[2, 9], [5, 10]], "mask", mask=MASK), r"Received: \(3, 2\) for the box"),
            (shape("cat", [[-1, 9], [1, 10]], "mask", mask=MASK), "within the image"),
            (shape("cat", [[2, 9], [4, 10]], "mask", mask="?"), "masks in base64"),
            (shape("cat", [[2, 9], [4, 10]], "mask", mask="aaaa"), "masks as images"),
        ],
    )
    def test_a_shape_that_cannot_be_drawn_is_refused_with_its_file(self, folder, wrong, message):
        write(folder, wrong)
        with pytest.raises(ValueError, match=rf"a\.json must .*{message}"):
            run(folder)

    def test_another_json_is_refused(self, folder):
        save_json(folder / "b.json", {"images": []})
        with pytest.raises(ValueError, match=r"b\.json must be a file of labelme"):
            run(folder)

    def test_a_folder_without_json_is_refused(self, folder):
        with pytest.raises(FileNotFoundError, match=r"must hold the \.json files of labelme"):
            run(folder)
