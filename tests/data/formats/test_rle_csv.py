"""Kaggle's own description of the format, and COCO's run lengths, which are in the same order."""

import numpy as np
import pytest
from data.formats.folders import label_map, rows, save_image
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco_mask

from keras_fcn.data.formats import import_data
from keras_fcn.data.formats.rle_csv import _draw

pytestmark = pytest.mark.any_backend


@pytest.fixture
def folder(tmp_path):
    for seed, name in enumerate(("a.jpg", "b.jpg", "deep/c.png")):
        save_image(tmp_path / "images" / name, 4, 5, seed=seed)
    return tmp_path


def run(folder, text, **options):
    (folder / "train.csv").write_text(text)
    options = {"images": folder / "images"} | options
    return import_data("rle-csv", folder / "train.csv", folder / "out", **options)


class TestRuns:
    def test_pixels_are_counted_from_1_down_the_columns(self, folder):
        run(folder, "ImageId,EncodedPixels\na.jpg,1 2 7 3 20 1\n")
        wanted = rows("10000 10000 01000 01001") + 0
        wanted[0, 2] = 1
        np.testing.assert_array_equal(label_map(folder / "out", "a"), wanted)

    @given(
        blob=arrays.arrays("uint8", st.tuples(*[st.integers(1, 9)] * 2), elements=st.integers(0, 1))
    )
    def test_runs_are_those_of_coco(self, blob):
        height, width = blob.shape
        flat, runs = [0, *blob.T.ravel().tolist(), 0], []
        for place in range(1, len(flat)):
            if flat[place] > flat[place - 1]:
                runs.append([place, 0])
            if flat[place]:
                runs[-1][1] += 1
        counts, end = [], 1
        for first, length in runs:
            counts += [first - end, length]
            end = first + length
        counts.append(height * width + 1 - end)
        coco = coco_mask.frPyObjects({"counts": counts, "size": [height, width]}, height, width)
        text = " ".join(f"{first} {length}" for first, length in runs)
        drawn = _draw([(1, text, "x")] if text else [], (height, width))
        np.testing.assert_array_equal(drawn, coco_mask.decode(coco))

    def test_several_rows_of_an_image_are_one_label_map(self, folder):
        text = "ImageId,EncodedPixels,ClassId\na.jpg,1 4,1\na.jpg,4 2,3\nb.jpg,,\ndeep/c.png,-1,2\n"
        report = run(folder, text)
        assert report.label_space.class_names == ("background", "class 1", "class 2", "class 3")
        assert label_map(folder / "out", "a").T.ravel()[:6].tolist() == [1, 1, 1, 3, 3, 0]
        assert not label_map(folder / "out", "b").any()
        assert not label_map(folder / "out", "deep/c").any()

    def test_a_very_long_row_is_read(self, folder):
        text = " ".join(["1 1"] * 50_000)
        assert run(folder, f"ImageId,EncodedPixels\na.jpg,{text}\n").written == 1

    @pytest.mark.parametrize(
        ("runs", "message"),
        [
            ("0 1", "within the 20 pixels of its image, counted from 1. Received: 1 pixels from 0"),
            ("20 2", "Received: 2 pixels from 20"),
            ("3 0", "Received: 0 pixels"),
            ("1 2 3", "pairs of a first pixel and a length. Received: 1 2 3"),
            ("1 -2", "pairs"),
            ("1 x", "pairs"),
        ],
    )
    def test_damaged_runs_are_refused_with_their_row(self, folder, runs, message):
        with pytest.raises(ValueError, match=rf"train\.csv, row 3 must hold .*{message}"):
            run(folder, f"ImageId,EncodedPixels\nb.jpg,1 1\na.jpg,{runs}\n")


class TestColumns:
    @pytest.mark.parametrize("image", ["a", "a.jpg"])
    @pytest.mark.parametrize("header", ["ImageId,EncodedPixels", "id,rle", "image_name,rle_mask"])
    def test_known_names_are_found(self, folder, header, image):
        report = run(folder, f"{header}\n{image},1 2\n")
        assert report.label_space.class_names == ("background", "foreground")
        assert label_map(folder / "out", "a").sum() == 2

    @pytest.mark.parametrize("header", ["ImageId_ClassId", "Image_Label"])
    def test_image_and_class_may_be_one_column(self, folder, header):
        text = f"{header},EncodedPixels\na.jpg_Fish,1 2\na.jpg_Sugar,3 1\nb.jpg_Fish,\n"
        report = run(folder, text)
        assert report.label_space.class_names == ("background", "Fish", "Sugar")
        assert label_map(folder / "out", "a")[:, 0].tolist() == [1, 1, 2, 0]

    def test_other_names_are_given(self, folder):
        text = "photo,what,where,id\na,cat,1 2,7\n"
        options = {"image_column": "photo", "class_column": "what", "rle_column": "where"}
        assert run(folder, text, **options).label_space.class_names == ("background", "cat")

    def test_a_column_that_is_not_found_is_asked_for(self, folder):
        message = (
            r"one column of the rle. Received: the columns ImageId, px. Name it \(--rle-column\)"
        )
        with pytest.raises(ValueError, match=message):
            run(folder, "ImageId,px\na,1 2\n")
        with pytest.raises(ValueError, match="one column of the image"):
            run(folder, "ImageId,rle,name\na,1 2,b\n", image_column="nome")

    def test_a_class_0_is_no_background(self, folder):
        report = run(folder, "ImageId,rle,class\na,1 1,0\na,2 1,2\n")
        assert report.label_space.class_names == ("background", "class 0", "class 1", "class 2")
        assert label_map(folder / "out", "a")[:3, 0].tolist() == [1, 3, 0]

    def test_names_of_classes_are_given(self, folder):
        report = run(folder, "ImageId,rle,class\na,1 1,2\n", classes="scratch,hole,stain")
        assert report.label_space.class_names == ("background", "scratch", "hole", "stain")
        assert label_map(folder / "out", "a")[0, 0] == 2

    def test_a_class_that_is_called_background_is_class_0(self, folder):
        report = run(folder, "ImageId,rle,class\na,1 3,hole\na,2 1,Background\n")
        assert report.label_space.class_names == ("background", "hole")
        assert label_map(folder / "out", "a")[:4, 0].tolist() == [1, 0, 1, 0]

    def test_a_class_that_a_label_map_of_16_bits_cannot_hold_is_refused(self, folder):
        with pytest.raises(ValueError, match=r"at most 65535 classes, .* Received: 70001"):
            run(folder, "ImageId,rle,class\na,1 3,70000\n")

    @pytest.mark.parametrize("label", ["4", "dent"])
    def test_a_class_without_a_name_is_refused(self, folder, label):
        with pytest.raises(ValueError, match=f"must hold classes of .*hole. Received: '{label}'"):
            run(folder, f"ImageId,rle,class\na,1 1,{label}\n", classes="scratch,hole")


class TestImages:
    def test_images_without_a_row_are_counted(self, folder):
        report = run(folder, "ImageId,rle\na,1 1\n")
        assert report.left_out == {"images without a row": 2}

    def test_or_imported_as_background(self, folder):
        report = run(folder, "ImageId,rle\na,1 1\n", unlisted=True)
        assert report.num_pairs == {"": 3}
        assert not label_map(folder / "out", "deep/c").any()

    @pytest.mark.parametrize("image", ["z", "../a"])
    def test_an_image_that_is_missing_is_named_with_its_row(self, folder, image):
        with pytest.raises(FileNotFoundError, match=r"row 2 names the image .* is no file in"):
            run(folder, f"ImageId,rle\n{image},1 1\n")

    def test_a_row_without_an_image_is_refused(self, folder):
        with pytest.raises(ValueError, match=r"row 2 must hold an image\. Received: ''"):
            run(folder, "ImageId,rle\n,1 1\n")
