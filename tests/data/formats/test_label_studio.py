"""Strokes were encoded and decoded by `label_studio_sdk` 2.1.2; pycocotools fills polygons."""

import base64
import io

import numpy as np
import pytest
from data.formats.folders import files, label_map, rows, save_image, save_json
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from keras_fcn.data.formats import import_data
from keras_fcn.data.formats.brush import decode_brush

pytestmark = pytest.mark.any_backend

# encode_rle of alpha values 1, 128 and 255, and of colours under alpha 0.
STROKE = [
    *(0, 0, 0, 140, 57, 27, 254, 26, 0, 0, 6, 112),
    *(0, 2, 128, 20, 0, 120, 15, 240, 2, 128, 20, 0, 120, 15, 240, 2, 128, 20, 0, 120, 15, 240),
    *(2, 128, 20, 0, 120, 15, 251, 96, 0, 5, 0, 40, 0, 240, 31, 224, 0, 128, 4, 0, 24, 16, 0, 5),
    *(0, 40, 0, 240, 31, 224, 5, 0, 40, 0, 240, 31, 246, 192, 0, 10, 0, 80, 1, 224, 63, 192, 10),
    *(0, 80, 1, 224, 63, 192, 10, 0, 80, 1, 224, 63, 192, 10, 0, 80, 1, 224, 63, 227, 0, 136, 39),
    *(12, 0, 0),
]
STROKED = rows("0000001 0011110 0011110 0011110 0000000")
# mask2rle of a box with a hole.
BOX = [0, 0, 0, 216, 57, 27, 254, 75, 0, 194, 255, 246, 192, 39, 255, 140, 2, 223, 253, 176, 12, 47]
BOX += [255, 138, 192, 0]
BOXED = rows("000000000 000000000 011111100 011011100 011111100 000000000")


def region(label, value, kind, size, **more):
    """A result of Label Studio; `size` is (height, width)."""
    value = dict(value) | ({f"{kind}labels": [label]} if label else {})
    height, width = size
    sizes = {"original_height": height, "original_width": width, "image_rotation": 0}
    return {"id": "r1", "type": f"{kind}labels", "value": value, **sizes, **more}


def task(*results, image="/data/upload/1/0a1b2c3d-a.png", **more):
    return {
        "id": 9,
        "data": {"image": image},
        "annotations": [{"id": 1, "result": results}],
        **more,
    }


def run(tmp_path, *tasks, size=(10, 20), name="a.png", **options):
    save_image(tmp_path / "in" / name, *size)
    path = save_json(tmp_path / "in" / "export.json", tasks)
    return import_data("label-studio", path, tmp_path / "out", **options)


def filled(points, size):
    """Pixels of a polygon that is given in percent."""
    height, width = size
    flat = [c for x, y in points for c in (x * width / 100, y * height / 100)]
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects([flat], height, width)))


class TestBrush:
    def test_strokes_are_those_of_label_studio(self, tmp_path):
        stroke = region("cat", {"format": "rle", "rle": STROKE}, "brush", (5, 7))
        run(tmp_path, task(stroke), size=(5, 7))
        np.testing.assert_array_equal(label_map(tmp_path / "out", "a"), STROKED)

    def test_masks_that_were_uploaded(self):
        np.testing.assert_array_equal(decode_brush(BOX, (6, 9), "x"), BOXED == 1)

    @given(
        data=st.data(),
        widths=st.lists(st.integers(1, 16), min_size=4, max_size=4),
        alphas=st.lists(st.sampled_from([0, 1, 255]), min_size=1, max_size=20),
    )
    def test_any_choice_of_runs_and_lengths_is_decoded(self, data, widths, alphas):
        values = [value for alpha in alphas for value in (7, 0, 7, alpha)]
        bits = f"{len(values):032b}{7:05b}" + "".join(f"{width - 1:04b}" for width in widths)
        done = 0
        while done < len(values):
            choice = data.draw(st.integers(0, 3))
            count = data.draw(st.integers(1, min(2 ** widths[choice], len(values) - done, 6)))
            run = values[done : done + count]
            repeats = len(set(run)) == 1 and data.draw(st.booleans())
            bits += f"{int(repeats)}{choice:02b}{count - 1:0{widths[choice]}b}"
            bits += "".join(f"{value:08b}" for value in (run[:1] if repeats else run))
            done += count
        bits += "0" * (-len(bits) % 8)
        rle = [int(bits[place : place + 8], 2) for place in range(0, len(bits), 8)]
        assert decode_brush(rle, (1, len(alphas)), "x").tolist() == [[a > 0 for a in alphas]]

    @pytest.mark.parametrize(
        ("rle", "message"),
        [
            (STROKE[:30], "ends too early"),
            ([], "something else than a list of bytes"),
            ([300] * 9, "something else"),
            ("abc", "Received"),
            (BOX, "216 values instead of 140"),
        ],
    )
    def test_damaged_strokes_are_refused_with_their_task(self, tmp_path, rle, message):
        stroke = region("cat", {"format": "rle", "rle": rle}, "brush", (5, 7))
        with pytest.raises(ValueError, match=rf"task 9 must hold brush strokes of 7x5 .*{message}"):
            run(tmp_path, task(stroke), size=(5, 7))


def bitmask(alpha):
    """As Label Studio 1.23 writes it: `canvas.toDataURL` of a mask in black on nothing."""
    pixels = np.dstack([np.zeros((*alpha.shape, 3)), alpha]).astype("uint8")
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


class TestBitmask:
    def run(self, tmp_path, url):
        run(tmp_path, task(region("cat", {"imageDataURL": url}, "bitmask", (5, 7))), size=(5, 7))

    def test_pixels_that_are_not_transparent_are_of_the_class(self, tmp_path):
        self.run(tmp_path, bitmask(STROKED * 255))
        np.testing.assert_array_equal(label_map(tmp_path / "out", "a"), STROKED)

    @pytest.mark.parametrize(
        ("url", "received"),
        [
            (bitmask(STROKED.T), r"\(5, 7\)"),
            (bitmask(STROKED)[:-60], "data:image/png;base64,iVBO"),
            (bitmask(STROKED)[22:], "iVBO"),
            (None, "None"),
        ],
    )
    def test_damaged_bitmasks_are_refused_with_their_task(self, tmp_path, url, received):
        message = rf"task 9 must hold bitmasks of 7x5 pixels .* Received: {received}"
        with pytest.raises(ValueError, match=message):
            self.run(tmp_path, url)


class TestPolygons:
    POINTS = ((10, 10), (90.5, 20), (70, 95), (15, 60))

    def test_polygons_are_filled_as_pycocotools_fills_them(self, tmp_path):
        run(tmp_path, task(region("cat", {"points": self.POINTS}, "polygon", (10, 20))))
        wanted = filled(self.POINTS, (10, 20))
        np.testing.assert_array_equal(label_map(tmp_path / "out", "a"), wanted)

    def test_background_is_class_0(self, tmp_path):
        regions = [
            region(label, {"points": self.POINTS}, "polygon", (10, 20), id=label)
            for label in ("cat", "Background")
        ]
        report = run(tmp_path, task(*regions))
        assert report.label_space.class_names == ("background", "cat")
        assert not label_map(tmp_path / "out", "a").any()

    def test_rectangles(self, tmp_path):
        box = {"x": 10, "y": 20, "width": 50, "height": 40, "rotation": 0}
        run(tmp_path, task(region("cat", box, "rectangle", (10, 20))))
        wanted = np.zeros((10, 20))
        wanted[2:6, 2:12] = 1
        np.testing.assert_array_equal(label_map(tmp_path / "out", "a"), wanted)

    def test_rectangles_turn_clockwise_around_their_upper_left_corner(self, tmp_path):
        box = {"x": 50, "y": 20, "width": 25, "height": 40, "rotation": 90}
        run(tmp_path, task(region("cat", box, "rectangle", (10, 20))))
        # 5 pixels wide and 4 high become 4 wide, to the left of (10, 2), and 5 high.
        wanted = np.zeros((10, 20))
        wanted[2:7, 6:10] = 1
        np.testing.assert_array_equal(label_map(tmp_path / "out", "a"), wanted)

    def test_the_last_is_on_top_and_labels_are_in_alphabetical_order(self, tmp_path):
        boxes = [{"x": 0, "y": 0, "width": w, "height": 100} for w in (50, 25)]
        results = [
            region(n, box, "rectangle", (10, 20)) for n, box in zip("ba", boxes, strict=True)
        ]
        assert run(tmp_path, task(*results)).label_space.class_names == ("background", "a", "b")
        assert label_map(tmp_path / "out", "a")[5, ::5].tolist() == [1, 2, 0, 0]


class TestTasks:
    CAT = region("cat", {"points": TestPolygons.POINTS}, "polygon", (10, 20))

    def test_what_has_no_area_or_no_label_is_counted(self, tmp_path):
        point = region("eye", {"x": 1, "y": 1, "width": 1}, "keypoint", (10, 20))
        ellipse = region("cat", {"x": 1, "y": 1, "radiusX": 1, "radiusY": 1}, "ellipse", (10, 20))
        line = region("cat", {"points": TestPolygons.POINTS[:2]}, "polygon", (10, 20))
        choice = {"id": "c", "type": "choices", "value": {"choices": ["sharp"]}}
        relation = {"type": "relation", "from_id": "r1", "to_id": "r2", "direction": "right"}
        report = run(tmp_path, task(self.CAT, point, ellipse, line, choice, relation))
        assert report.left_out == {
            "regions of the type keypointlabels": 1,
            "regions of the type ellipselabels": 1,
            "regions of the type polygonlabels": 1,
            "regions of the type choices": 1,
            "relations": 1,
        }

    def test_a_label_may_be_in_a_result_of_its_own(self, tmp_path):
        value = {"points": TestPolygons.POINTS}
        shape = region(None, value, "polygon", (10, 20), type="polygon")
        label = region(None, value | {"labels": ["cat"]}, "polygon", (10, 20), type="labels")
        report = run(tmp_path, task(shape, label))
        assert not report.left_out
        assert label_map(tmp_path / "out", "a").max() == 1

    def test_of_several_annotations_the_ground_truth_counts(self, tmp_path):
        skipped = {"was_cancelled": True, "result": [self.CAT]}
        empty, good = {"result": []}, {"result": [self.CAT], "ground_truth": True}
        report = run(
            tmp_path,
            task() | {"annotations": [skipped, empty, good]},
            {"id": 2, "data": {"image": "b.png"}, "annotations": [skipped]},
        )
        assert label_map(tmp_path / "out", "a").any()
        assert report.left_out == {
            "further annotations of a task": 1,
            "tasks without an annotation": 1,
        }

    @pytest.mark.parametrize(
        ("image", "name", "stem"),
        [
            ("/data/upload/1/0a1b2c3d-a.png", "a.png", "a"),
            ("/data/upload/1/0a1b2c3d-a.png", "0a1b2c3d-a.png", "0a1b2c3d-a"),
            ("/data/local-files/?d=oslo%2Fa.png", "oslo/a.png", "oslo/a"),
            ("https://host/photos/a%20b.png?key=1", "a b.png", "a b"),
            ("s3://bucket/oslo/a.png", "oslo/a.png", "oslo/a"),
        ],
    )
    def test_files_are_found_by_what_is_left_of_their_url(self, tmp_path, image, name, stem):
        run(tmp_path, task(self.CAT, image=image), name=name)
        assert f"labels/{stem}.png" in files(tmp_path / "out")

    def test_a_url_that_leads_out_of_the_folder_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match=r"relative paths without '\.\.'"):
            run(tmp_path, task(self.CAT, image="/data/local-files/?d=../../a.png"))

    def test_another_export_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match=r"export\.json must be Label Studio's export 'JSON'"):
            run(tmp_path, {"image": "a.png", "label": []})

    def test_a_label_of_no_class_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match=r"task 9 must have labels of .*dog. Received: 'cat'"):
            run(tmp_path, task(self.CAT), classes="bird,dog")

    def test_another_column_may_repeat_the_name_of_the_file(self, tmp_path):
        data = {"image": "s3://bucket/oslo/a.png?versionId=1", "file": "a.png", "note": "sunny"}
        run(tmp_path, task(self.CAT) | {"data": data})
        assert "labels/a.png" in files(tmp_path / "out")
        with pytest.raises(ValueError, match=r"must have one image in its data.*b\.png"):
            run(tmp_path, task(self.CAT) | {"data": data | {"second": "b.png"}})

    def test_sizes_of_several_images_are_refused(self, tmp_path):
        other = region("cat", {"points": TestPolygons.POINTS}, "polygon", (11, 20))
        with pytest.raises(ValueError, match="must have regions of one image"):
            run(tmp_path, task(self.CAT, other))
