import numpy as np
import pytest
from data.formats.folders import label_map, rows, save_array, save_image
from data.written_files import cut, damage_chunk
from PIL import Image

from keras_fcn.data.formats import import_data

pytestmark = pytest.mark.any_backend

CAT = rows("1100 1100 0000")
DOG = rows("0110 0110 0110")


@pytest.fixture
def folder(tmp_path):
    for seed, name in enumerate(("1", "2")):
        save_image(tmp_path / "images" / f"{name}.png", 3, 4, seed=seed)
    return tmp_path


def run(folder, **options):
    options = {"images": folder / "images"} | options
    return import_data("masks", folder / "masks", folder / "out", **options)


class TestPixels:
    def test_without_a_mapping_255_is_class_1(self, folder):
        save_array(folder / "masks" / "1.png", 255 * CAT)
        run(folder)
        np.testing.assert_array_equal(label_map(folder / "out", "1"), CAT)

    def test_values_are_mapped(self, folder):
        save_array(folder / "masks" / "1.png", 100 * CAT + 50 * DOG)
        report = run(folder, mapping={100: 1, "50": "2", 150: "ignore"})
        assert report.label_space.class_names == ("background", "class 1", "class 2")
        wanted = np.array([0, 1, 2, 255])[CAT + 2 * DOG]
        np.testing.assert_array_equal(label_map(folder / "out", "1"), wanted)

    def test_greys_in_a_file_of_colours_are_values(self, folder):
        save_array(folder / "masks" / "1.png", np.repeat(255 * CAT[..., None], 3, 2))
        run(folder)
        np.testing.assert_array_equal(label_map(folder / "out", "1"), CAT)

    @pytest.mark.parametrize("as_palette", [True, False])
    def test_colours_are_mapped_to_names(self, folder, as_palette):
        colours = np.array([(0, 0, 0), (128, 0, 0), (0, 0, 9), (7, 7, 7)], "uint8")
        image = Image.fromarray(colours[CAT + 2 * DOG])
        if as_palette:
            image = image.quantize(4)
            assert image.mode == "P"
        (folder / "masks").mkdir()
        image.save(folder / "masks" / "1.png")
        report = run(folder, mapping={(128, 0, 0): "cat", "0,0,9": "dog", "7,7,7": "cat"})
        assert report.label_space.class_names == ("background", "cat", "dog")
        wanted = np.array([0, 1, 2, 1])[CAT + 2 * DOG]
        np.testing.assert_array_equal(label_map(folder / "out", "1"), wanted)

    def test_the_value_0_may_be_a_class(self, folder):
        save_array(folder / "masks" / "1.png", CAT)
        run(folder, mapping={"0": "1", "1": "0"})
        np.testing.assert_array_equal(label_map(folder / "out", "1"), 1 - CAT)

    @pytest.mark.parametrize(
        ("array", "message"),
        [
            (
                7 * CAT,
                r"1\.png must hold the values 0, 255. Received: 7. Name its class \(--map 7=1",
            ),
            (np.stack([CAT, CAT, 9 * CAT], 2), r"holds the colour \(1, 1, 9\)"),
        ],
    )
    def test_a_value_without_a_class_is_refused(self, folder, array, message):
        save_array(folder / "masks" / "1.png", array)
        with pytest.raises(ValueError, match=message):
            run(folder)


class TestBinaryFiles:
    def save(self, folder, *names):
        for name, region in zip(names, (CAT, DOG), strict=True):
            save_array(folder / "masks" / f"{name}.png", 255 * region)

    def test_subfolders_are_classes_in_alphabetical_order(self, folder):
        self.save(folder, "cat/1", "dog/1")
        report = run(folder)
        assert report.label_space.class_names == ("background", "cat", "dog")
        np.testing.assert_array_equal(label_map(folder / "out", "1"), np.where(DOG, 2, CAT))
        assert report.left_out == {"images without a mask": 1}

    def test_a_subfolder_that_is_called_background_is_class_0(self, folder):
        self.save(folder, "Background/1", "cat/1")
        report = run(folder)
        assert report.label_space.class_names == ("background", "cat")
        np.testing.assert_array_equal(label_map(folder / "out", "1"), DOG)

    def test_the_last_of_the_mapping_is_on_top(self, folder):
        self.save(folder, "cat/1", "dog/1")
        run(folder, mapping={"dog": "2", "cat": "1"})
        np.testing.assert_array_equal(label_map(folder / "out", "1"), np.where(CAT, 1, 2 * DOG))

    def test_suffixes_are_classes_of_which_the_longest_counts(self, folder):
        self.save(folder, "1_cat", "1_big_cat")
        report = run(folder, mapping={"_cat": "cat", "_big_cat": "lion"})
        assert report.label_space.class_names == ("background", "cat", "lion")
        np.testing.assert_array_equal(label_map(folder / "out", "1"), np.where(DOG, 2, CAT))

    def test_an_image_may_lack_the_mask_of_a_class(self, folder):
        self.save(folder, "cat/1", "dog/2")
        run(folder)
        np.testing.assert_array_equal(label_map(folder / "out", "2"), 2 * DOG)

    def test_masks_without_an_image_are_counted(self, folder):
        self.save(folder, "cat/1", "dog/9")
        assert run(folder).left_out["masks without an image"] == 1

    def test_a_mask_of_more_values_is_refused(self, folder):
        save_array(folder / "masks" / "cat" / "1.png", CAT + 2 * DOG)
        with pytest.raises(ValueError, match=r"must hold 0 and one other value. Received: 3"):
            run(folder)

    def test_binary_files_may_hold_a_colour(self, folder):
        for name, region in (("cat", CAT), ("dog", DOG)):
            colours = region[..., None] * (0, 90, 7)
            save_array(folder / "masks" / name / "1.png", colours)
        run(folder)
        np.testing.assert_array_equal(label_map(folder / "out", "1"), np.where(DOG, 2, CAT))

    def test_a_mask_that_is_no_image_is_named(self, folder):
        self.save(folder, "cat/1", "dog/1")
        (folder / "masks" / "dog" / "1.png").write_bytes(b"no image")
        with pytest.raises(ValueError, match=r"dog/1\.png cannot be read as an image"):
            run(folder)

    @pytest.mark.parametrize("damage", [damage_chunk, lambda path: cut(path, 0.7)])
    @pytest.mark.parametrize("mode", ["RGB", "L", "P"])
    def test_a_damaged_mask_is_named(self, folder, mode, damage):
        self.save(folder, "cat/1", "dog/1")
        path = folder / "masks" / "cat" / "1.png"
        colours = np.zeros((64, 64, 3), "uint8")
        colours[np.random.default_rng(0).random((64, 64)) < 0.5] = 255
        Image.fromarray(colours).convert(mode).save(path)
        damage(path)
        with pytest.raises(ValueError, match=r"cat/1\.png cannot be read as an image"):
            run(folder)

    def test_masks_of_several_sizes_are_refused(self, folder):
        self.save(folder, "cat/1", "dog/1")
        save_array(folder / "masks" / "dog" / "1.png", 255 * DOG[:2])
        with pytest.raises(ValueError, match=r"dog/1\.png must have the size .* 4x3 .*: 4x2"):
            run(folder)


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"images": None}, r"must be given \(--images\)"),
            ({"mapping": {"255": "1", "cat": "2"}}, "keys of one kind"),
            ({"mapping": {"255": "1", "1,2,3": "2"}}, "keys of one kind"),
            ({"mapping": {"255": "1", "254": "cat"}}, "class ids or names, not both"),
            ({"mapping": {"255": "2"}, "classes": "no,yes"}, "must name the class 2"),
            ({"mapping": {"255": "cat"}, "classes": "no,yes"}, "Received: cat"),
            ({"mapping": {"_dog": "dog"}}, "Received: _dog, of which there is none"),
            ({"mapping": {"1,2,300": "1"}}, "from 0 to 255"),
        ],
    )
    def test_options_that_do_not_fit_are_refused(self, folder, options, message):
        save_array(folder / "masks" / "1.png", np.zeros((3, 4, 3)))
        with pytest.raises(ValueError, match=message):
            run(folder, **options)

    @pytest.mark.parametrize("place", ["images/1.bmp", "masks/1.bmp"])
    def test_files_that_differ_in_their_suffix_alone_are_refused(self, folder, place):
        save_array(folder / "masks" / "1.png", 255 * CAT)
        save_array(folder / place, 255 * CAT)
        with pytest.raises(ValueError, match=r"one file per name. Received: 1\.bmp and 1\.png"):
            run(folder)

    def test_other_names_than_those_of_the_images_are_refused(self, folder):
        save_array(folder / "masks" / "1_mask.png", CAT)
        with pytest.raises(ValueError, match="masks such as 1_mask, images such as 1"):
            run(folder)
