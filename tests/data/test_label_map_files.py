import time

import numpy as np
import pytest
from data.written_files import (
    UPRIGHT,
    class_ids,
    cut,
    orientation,
    pixels,
    save,
    save_packed_grey_png,
    save_palette,
)
from PIL import Image

from keras_fcn.data.label_map_files import check_label_map, read_label_map
from keras_fcn.label_spaces import CAMVID as CAMVID_SPACE
from keras_fcn.label_spaces import PASCAL_VOC

pytestmark = pytest.mark.any_backend


class TestReadLabelMap:
    def test_grey_values_are_class_ids(self, tmp_path):
        label_map = class_ids(5, 7, num_classes=256)
        result = read_label_map(save(label_map, tmp_path / "a.png"))
        assert result.dtype == np.int32
        np.testing.assert_array_equal(result, label_map)

    def test_palette_indices_are_class_ids_whatever_their_colours(self, tmp_path):
        label_map = class_ids(5, 7, num_classes=256)
        np.testing.assert_array_equal(
            read_label_map(save_palette(label_map, tmp_path / "a.png")), label_map
        )

    @pytest.mark.parametrize("bits", [1, 2, 4])
    def test_palette_of_few_bits(self, tmp_path, bits):
        label_map = class_ids(5, 7, num_classes=2**bits)
        path = save_palette(label_map, tmp_path / "a.png", bits=bits)
        np.testing.assert_array_equal(read_label_map(path), label_map)

    @pytest.mark.parametrize("bits", [1, 2, 4])
    def test_grey_of_few_bits_is_not_stretched(self, tmp_path, bits):
        label_map = class_ids(5, 7, num_classes=2**bits)
        path = save_packed_grey_png(label_map, tmp_path / "a.png", bits)
        np.testing.assert_array_equal(read_label_map(path), label_map)

    @pytest.mark.parametrize(("suffix", "dtype"), [(".png", "uint16"), (".tif", "int32")])
    def test_more_than_256_class_ids(self, tmp_path, suffix, dtype):
        label_map = class_ids(5, 7, num_classes=40000, dtype=dtype)
        np.testing.assert_array_equal(
            read_label_map(save(label_map, tmp_path / f"a{suffix}")), label_map
        )

    @pytest.mark.parametrize(
        ("image", "kind"),
        [
            (pixels(5, 7, 2), r"grey with an alpha channel \(Pillow's mode LA\)"),
            (pixels(5, 7, 3), r"a colour image \(Pillow's mode RGB\)"),
            (pixels(5, 7, 4), r"a colour image \(Pillow's mode RGBA\)"),
            (np.ones((5, 7), "float32"), r"floating-point values \(Pillow's mode F\)"),
        ],
    )
    def test_refuses_other_files_and_says_what_belongs_there(self, tmp_path, image, kind):
        path = save(image, tmp_path / ("a.tif" if image.dtype == "float32" else "a.png"))
        with pytest.raises(ValueError, match=rf"one class id per pixel\. Received: {kind}\. Save"):
            read_label_map(path)

    def test_refuses_grey_saved_as_rgb(self, tmp_path):
        path = save(class_ids(5, 7), tmp_path / "a.png", mode="RGB")
        with pytest.raises(ValueError, match="Save it as a grey or palette PNG"):
            read_label_map(path)

    def test_refuses_a_jpeg_even_under_another_suffix(self, tmp_path):
        path = save(class_ids(5, 7), tmp_path / "a.png", format="JPEG")
        with pytest.raises(ValueError, match=r"a\.png must be lossless\. Received: a JPEG"):
            read_label_map(path)

    @pytest.mark.parametrize("share", [0.9, 0.5, 0.02, 0])
    def test_names_a_file_that_is_cut_off(self, tmp_path, share):
        path = cut(save(class_ids(64, 64), tmp_path / "cut.png"), share)
        with pytest.raises(ValueError, match=r"cut\.png cannot be read as an image"):
            read_label_map(path)

    @pytest.mark.parametrize("value", range(1, 9))
    @pytest.mark.parametrize("save_as", [save, save_palette])
    def test_exif_orientation_turns_the_label_map_upright(self, tmp_path, save_as, value):
        label_map = class_ids(5, 7)
        path = save_as(label_map, tmp_path / "a.png", exif=orientation(value))
        np.testing.assert_array_equal(read_label_map(path), UPRIGHT[value](label_map))


class TestColours:
    SPACE_COLOURS = ((0, 0, 0), (128, 0, 0), (0, 128, 0))

    def test_colours_are_looked_up_in_the_order_of_the_palette(self, tmp_path):
        label_map = class_ids(5, 7)
        path = save(np.array(self.SPACE_COLOURS, "uint8")[label_map], tmp_path / "a.png")
        result = read_label_map(path, self.SPACE_COLOURS)
        assert result.dtype == np.int32
        np.testing.assert_array_equal(result, label_map)

    @pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
    @pytest.mark.parametrize("space", [PASCAL_VOC, CAMVID_SPACE])
    def test_every_colour_of_a_label_space(self, tmp_path, suffix, space):
        label_map = np.arange(space.num_classes, dtype="uint8").reshape(1, -1).repeat(3, axis=0)
        path = save(np.array(space.palette, "uint8")[label_map], tmp_path / f"a{suffix}")
        np.testing.assert_array_equal(read_label_map(path, space.palette), label_map)

    def test_several_colours_may_share_a_class_id_and_void_has_its_own(self, tmp_path):
        image = np.array([[[9, 9, 9], [1, 2, 3]], [[0, 0, 0], [3, 2, 1]]], "uint8")
        palette = {(1, 2, 3): 0, (3, 2, 1): 0, (9, 9, 9): 300, (0, 0, 0): 255}
        result = read_label_map(save(image, tmp_path / "a.png"), palette)
        assert result.tolist() == [[300, 0], [255, 0]]

    def test_alpha_is_dropped(self, tmp_path):
        image = np.zeros((4, 4, 4), "uint8")
        image[1, 2, :2] = (128, 0)
        result = read_label_map(save(image, tmp_path / "a.png"), self.SPACE_COLOURS)
        assert result.tolist() == [[0] * 4, [0, 0, 1, 0], [0] * 4, [0] * 4]

    def test_an_unknown_colour_names_file_pixel_and_colour(self, tmp_path):
        image = np.zeros((4, 5, 3), "uint8")
        image[2, 3], image[3, 0] = (0, 128, 1), (255, 255, 255)
        with pytest.raises(
            ValueError,
            match=r"a\.png holds the colour \(0, 128, 1\) at row 2, column 3 \(and 1 other .*"
            r"none of the 3 colours of `palette`.*\{\(0, 128, 1\): 255",
        ):
            read_label_map(save(image, tmp_path / "a.png"), self.SPACE_COLOURS)

    def test_grey_and_palette_files_keep_their_values_beside_a_palette(self, tmp_path):
        label_map = class_ids(5, 7)
        for save_as in (save, save_palette):
            path = save_as(label_map, tmp_path / "a.png")
            np.testing.assert_array_equal(read_label_map(path, self.SPACE_COLOURS), label_map)

    @pytest.mark.parametrize("value", range(1, 9))
    def test_exif_orientation_turns_colours_upright(self, tmp_path, value):
        label_map = class_ids(5, 7)
        image = np.array(self.SPACE_COLOURS, "uint8")[label_map]
        path = save(image, tmp_path / "a.png", exif=orientation(value))
        result = read_label_map(path, self.SPACE_COLOURS)
        np.testing.assert_array_equal(result, UPRIGHT[value](label_map))

    def test_refuses_a_jpeg(self, tmp_path):
        path = save(pixels(5, 7), tmp_path / "a.png", format="JPEG")
        with pytest.raises(ValueError, match=r"a\.png must be lossless\. Received: a JPEG"):
            read_label_map(path, self.SPACE_COLOURS)

    @pytest.mark.parametrize(
        ("palette", "message"),
        [
            ((), "at least one colour"),
            (((0, 0, 0), (0, 0, 256)), r"integers from 0 to 255. Received: the colour \(0, 0, 256"),
            (((0, 0, 0), (1, 2)), r"three integers.* Received: the colour \(1, 2\)"),
            (((5, 0, 0), (5, 0, 0)), r"one class id. Received: the colour \(5, 0, 0\) for 0 and 1"),
        ],
    )
    def test_refuses_a_palette_that_is_none(self, tmp_path, palette, message):
        path = save(pixels(5, 7), tmp_path / "a.png")
        with pytest.raises(ValueError, match=message):
            read_label_map(path, palette)

    def test_large_files_take_no_loop_over_pixels(self, tmp_path):
        label_map = class_ids(1000, 2000, num_classes=21)
        path = save(np.array(PASCAL_VOC.palette, "uint8")[label_map], tmp_path / "a.bmp")
        start = time.process_time()
        np.testing.assert_array_equal(read_label_map(path, PASCAL_VOC.palette), label_map)
        # A loop over two million pixels takes longer on any machine; this takes a tenth of it.
        assert time.process_time() - start < 3


class TestColourTables:
    """Palette files, whose table holds the colours of the palette in its order or in another."""

    COLOURS = ((0, 0, 0), (128, 0, 0), (0, 128, 0), (255, 255, 255))
    VOID = {colour: class_id for class_id, colour in enumerate(COLOURS)} | {(224, 224, 192): 255}

    @staticmethod
    def save(indices, table, path):
        image = Image.fromarray(np.array(indices, "uint8"))
        image.putpalette([channel for colour in table for channel in colour])
        image.save(path)
        return path

    @pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
    @pytest.mark.parametrize("classes", [[0, 2], [0, 1, 2, 3], [2], [3, 255, 0]])
    def test_colours_that_another_program_reordered_are_read_by_colour(
        self, tmp_path, suffix, classes
    ):
        label_map = np.array(classes)[class_ids(5, 7, num_classes=len(classes))]
        colour_of = {class_id: colour for colour, class_id in self.VOID.items()}
        image = np.array([[colour_of[i] for i in row] for row in label_map.tolist()], "uint8")
        quantized = Image.fromarray(image).quantize()
        assert (np.asarray(quantized.convert("RGB")) == image).all()
        assert (np.asarray(quantized) != label_map).any()
        quantized.save(tmp_path / f"a{suffix}")
        result = read_label_map(tmp_path / f"a{suffix}", self.VOID)
        assert result.dtype == np.int32
        np.testing.assert_array_equal(result, label_map)

    @pytest.mark.parametrize("transparency", [0, b"\x00\xff"])
    def test_transparency_changes_no_colour(self, tmp_path, transparency):
        path = self.save([[0, 1]], [(0, 128, 0), (128, 0, 0)], tmp_path / "a.png")
        Image.open(path).save(tmp_path / "b.png", transparency=transparency)
        assert read_label_map(tmp_path / "b.png", self.COLOURS).tolist() == [[2, 1]]

    @pytest.mark.parametrize(
        ("indices", "table"),
        [
            # The palette's own colours, and white for the rest, which is class 3 and void.
            ([0, 1, 2, 255], [*COLOURS, *[(255, 255, 255)] * 252]),
            # Void beyond a table that was cut.
            ([0, 1, 255], [*COLOURS, *[(9, 9, 9)] * 13]),
            # Void without a colour in the palette.
            ([0, 1, 255], [*COLOURS, *[(9, 9, 9)] * 252]),
            # Colours of a program's own, of which one or two are a class's by coincidence.
            ([0], [(128, 0, 0), (200, 0, 0), (0, 0, 200), (1, 1, 1)]),
            ([0, 1, 2], [(128, 0, 0), (200, 0, 0), (0, 0, 200)]),
            ([0, 1, 2, 3], [(128, 0, 0), (0, 0, 0), (0, 0, 200), (200, 0, 0)]),
        ],
    )
    def test_indices_stay_class_ids_if_the_table_is_no_other_order(self, tmp_path, indices, table):
        path = self.save([indices], table, tmp_path / "a.png")
        assert read_label_map(path, self.COLOURS).tolist() == [indices]

    def test_greys_stay_class_ids_even_if_all_in_use_are_colours(self, tmp_path):
        image = Image.fromarray(np.array([[0, 255]], "uint8")).convert("P")
        image.save(tmp_path / "a.png")
        palette = {(255, 255, 255): 0, (0, 0, 255): 1, (0, 0, 0): 255}
        assert read_label_map(tmp_path / "a.png", palette).tolist() == [[0, 255]]

    def test_without_a_palette_indices_are_class_ids(self, tmp_path):
        path = self.save([[0, 1]], [(0, 128, 0), (0, 0, 0)], tmp_path / "a.png")
        assert read_label_map(path).tolist() == [[0, 1]]

    def test_an_unknown_colour_among_reordered_ones_is_named(self, tmp_path):
        table = [(0, 128, 0), (0, 0, 0), (224, 224, 192)]
        path = self.save([[0, 1, 2]], table, tmp_path / "a.png")
        with pytest.raises(ValueError, match=r"holds the colour \(224, 224, 192\) at row 0, col"):
            read_label_map(path, self.COLOURS)


class TestCheckLabelMap:
    @pytest.mark.parametrize(("values", "ignore"), [([0, 2], None), ([0, 255], 255), ([-1], -1)])
    def test_takes_class_ids_and_the_ignore_class(self, values, ignore):
        check_label_map("a.png", np.array([values], "int32"), 3, ignore)

    @pytest.mark.parametrize(
        ("label_map", "num_classes", "ignore_class", "name"),
        [
            (np.full((2, 2), np.nan), 3, None, "label_map"),
            (np.zeros(2, int), 3, None, "label_map"),
            (np.zeros((2, 2), int), float("nan"), None, "num_classes"),
            (np.zeros((2, 2), int), [3], None, "num_classes"),
            (np.full((2, 2), 9), 3, "9", "ignore_class"),
        ],
    )
    def test_wrong_arguments_are_named(self, label_map, num_classes, ignore_class, name):
        with pytest.raises(ValueError, match=f"^`{name}` must be"):
            check_label_map("a.png", label_map, num_classes, ignore_class)

    def test_names_file_value_and_first_place(self):
        label_map = np.zeros((4, 5), "int32")
        label_map[2, 3] = label_map[3, 0] = 7
        with pytest.raises(
            ValueError,
            match=r"street\.png holds the value 7 at row 2, column 3, but the class ids of 3 "
            r"classes are 0 to 2\..*`num_classes` must be at least 8",
        ):
            check_label_map("street.png", label_map, 3, None)

    def test_names_the_other_values_too(self):
        with pytest.raises(ValueError, match=r"value 9 .*elsewhere also 4, 5, 6, \.\.\.\)"):
            check_label_map("a.png", np.array([[9, 8, 7, 6, 5, 4]]), 3, None)

    @pytest.mark.parametrize("value", [255, -1])
    def test_tells_the_way_out_for_pixels_to_leave_out(self, value):
        with pytest.raises(ValueError, match=rf"pass `ignore_class={value}` \(--ignore-class"):
            check_label_map("a.png", np.array([[0, 1, 2, value]]), 3, None)

    def test_tells_which_ignore_class_was_given(self):
        with pytest.raises(ValueError, match=r"are 0 to 2 and 11 \(`ignore_class`\)"):
            check_label_map("a.png", np.array([[0, 255]]), 3, 11)

    def test_tells_the_way_out_for_black_and_white_of_two_classes(self):
        with pytest.raises(ValueError, match="Save the second class as 1 instead of 255"):
            check_label_map("a.png", np.array([[0, 255]]), 2, None)
