from pathlib import Path

import numpy as np
import pytest
from data.written_files import class_ids, cut, orientation, pixels, save
from programs import imported_by

from keras_fcn.data.examples import check_pairs, read_example
from keras_fcn.data.files import Pair, find_pairs

pytestmark = pytest.mark.any_backend

CAMVID = Path(__file__).resolve().parents[3] / "shared" / "camvid"


@pytest.fixture
def folders(tmp_path):
    """Five images of two formats and sizes with their label maps."""
    for index in range(5):
        height = 8 + index % 2
        suffix = (".jpg", ".png")[index % 2]
        save(pixels(height, 12, seed=index), tmp_path / "images" / f"{index}{suffix}")
        save(class_ids(height, 12, seed=index), tmp_path / "labels" / f"{index}.png")
    return tmp_path / "images", tmp_path / "labels"


class TestReadExample:
    def test_reads_both(self, folders):
        pair = find_pairs(*folders)[1]
        example = read_example(pair, 3, None)
        assert set(example) == {"image", "label_map"}
        np.testing.assert_array_equal(example["image"], pixels(9, 12, seed=1))
        np.testing.assert_array_equal(example["label_map"], class_ids(9, 12, seed=1))

    def test_without_a_number_of_classes_any_value_goes(self, folders):
        pair = find_pairs(*folders)[1]
        save(np.full((9, 12), 200, "uint8"), pair.label_map)
        assert (read_example(pair)["label_map"] == 200).all()

    def test_examples_and_checks_take_the_palette(self, tmp_path):
        colours = ((0, 0, 0), (128, 0, 0), (0, 128, 0))
        image = np.array(colours, "uint8")[class_ids(5, 7)]
        pair = Pair(save(image, tmp_path / "i" / "a.png"), save(image, tmp_path / "l" / "a.png"))
        example = read_example(pair, 3, None, colours)
        np.testing.assert_array_equal(example["label_map"], class_ids(5, 7))
        assert check_pairs([pair], 3, None, palette=colours) == {(5, 7): 1}
        with pytest.raises(ValueError, match=r"holds the value 2 .* of 2 classes"):
            read_example(pair, 2, None, colours)

    def test_names_both_files_and_sizes_where_they_differ(self, tmp_path):
        image = save(pixels(6, 9), tmp_path / "i" / "a.jpg")
        label_map = save(class_ids(3, 4), tmp_path / "l" / "a.png")
        with pytest.raises(ValueError, match=r"i.a\.jpg 9x6, .*l.a\.png 4x3\.$"):
            read_example(Pair(image, label_map), 3, None)

    def test_a_turned_label_map_points_to_the_orientation(self, tmp_path):
        image = save(pixels(6, 9), tmp_path / "i" / "a.jpg", exif=orientation(6))
        label_map = save(class_ids(6, 9), tmp_path / "l" / "a.png")
        with pytest.raises(ValueError, match=r"6x9, .* 9x6\. .* EXIF orientation"):
            read_example(Pair(image, label_map), 3, None)

    def test_image_and_label_map_stay_in_register_when_turned_upright(self, tmp_path):
        label_map = class_ids(16, 32)
        painted = np.stack([label_map * 100] * 3, axis=-1)
        pair = Pair(
            save(painted, tmp_path / "i" / "a.png", exif=orientation(6)),
            save(label_map, tmp_path / "l" / "a.png", exif=orientation(6)),
        )
        example = read_example(pair, 3, None)
        assert example["image"].shape == (32, 16, 3)
        np.testing.assert_array_equal(example["image"][..., 1], example["label_map"] * 100)


class TestCheckPairs:
    def test_counts_the_sizes(self, folders):
        assert check_pairs(find_pairs(*folders), 3, None) == {(8, 12): 3, (9, 12): 2}

    @pytest.mark.parametrize("pixels", [[0] * 4, np.zeros(3, int)])
    def test_pixels_are_counted_in_an_array_of_one_more_than_the_classes(self, folders, pixels):
        with pytest.raises(ValueError, match="`pixels` must be an array of 4 integers"):
            check_pairs(find_pairs(*folders), 3, 255, pixels=pixels)

    def test_reports_progress_after_every_pair(self, folders):
        seen = []
        check_pairs(find_pairs(*folders), 3, None, progress=lambda *done: seen.append(done))
        assert seen == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]

    def test_of_several_bad_pairs_the_first_in_order_is_reported(self, folders):
        images, labels = folders
        pairs = find_pairs(images, labels)
        # The second is large and fails after the fourth has failed.
        large = class_ids(800, 800)
        large[-1, -1] = 9
        save(pixels(800, 800), images / "1.png")
        save(large, labels / "1.png")
        cut(images / "3.png", 0.5)
        with pytest.raises(ValueError, match=r"1\.png holds the value 9 at row 799"):
            check_pairs(pairs, 3, None)


def test_camvid_reads_and_checks():
    if not CAMVID.is_dir():
        pytest.skip(f"{CAMVID} is absent")
    pairs = find_pairs(CAMVID / "val", CAMVID / "valannot")
    assert len(pairs) == 101
    assert check_pairs(pairs[:24], 11, 11) == {(360, 480): 24}
    with pytest.raises(ValueError, match=r"holds the value 11 .*--ignore-class 11"):
        check_pairs(pairs[:24], 11, None)


def test_reading_files_does_not_load_tensorflow():
    script = "import keras_fcn.data, keras_fcn.data.examples; keras_fcn.data.find_pairs"
    assert imported_by(script, "keras", "tensorflow") == []
