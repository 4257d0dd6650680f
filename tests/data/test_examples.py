import struct
import subprocess
import sys
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_fcn.data.examples import (
    check_label_map,
    check_pairs,
    read_example,
    read_image,
    read_label_map,
)
from keras_fcn.data.files import Pair, find_pairs
from keras_fcn.label_spaces import CAMVID as CAMVID_SPACE
from keras_fcn.label_spaces import PASCAL_VOC

pytestmark = pytest.mark.any_backend

CAMVID = Path(__file__).resolve().parents[3] / "shared" / "camvid"
EXIF_ORIENTATION = 0x0112

# What an upright viewer shows of an image that is stored as `stored`, from the EXIF standard: the
# place of the stored row 0 and column 0 is (1) top left, (2) top right, (3) bottom right, ...
UPRIGHT = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: stored.swapaxes(0, 1)[:, ::-1],
    7: lambda stored: stored.swapaxes(0, 1)[::-1, ::-1],
    8: lambda stored: stored.swapaxes(0, 1)[::-1],
}


def pixels(height, width, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype="uint8")


def class_ids(height, width, num_classes=3, seed=0, dtype="uint8"):
    return np.random.default_rng(seed).integers(0, num_classes, (height, width)).astype(dtype)


def save(array, path, mode=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def save_palette(array, path, **options):
    image = Image.fromarray(array)
    image.putpalette([value for index in range(256) for value in (index, 255 - index, 7)])
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def save_packed_grey_png(array, path, bits):
    """A grey PNG of less than 8 bits per pixel, which Pillow cannot write; PNG standard, ch. 7."""
    height, width = array.shape
    rows = b""
    for row in array:
        stream = "".join(f"{value:0{bits}b}" for value in row)
        stream += "0" * (-len(stream) % 8)
        rows += b"\0" + bytes(int(stream[i : i + 8], 2) for i in range(0, len(stream), 8))

    def chunk(kind, content):
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    return path


def orientation(value):
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = value
    return exif


def cut(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


@pytest.fixture
def folders(tmp_path):
    """Five images of two formats and sizes with their label maps."""
    for index in range(5):
        height = 8 + index % 2
        suffix = (".jpg", ".png")[index % 2]
        save(pixels(height, 12, seed=index), tmp_path / "images" / f"{index}{suffix}")
        save(class_ids(height, 12, seed=index), tmp_path / "labels" / f"{index}.png")
    return tmp_path / "images", tmp_path / "labels"


class TestReadImage:
    def test_rgb_comes_unchanged(self, tmp_path):
        image = pixels(5, 7)
        result = read_image(save(image, tmp_path / "a.png"))
        assert result.dtype == np.uint8
        np.testing.assert_array_equal(result, image)

    def test_result_can_be_written_to(self, tmp_path):
        read_image(save(pixels(5, 7), tmp_path / "a.png"))[:] = 0

    @pytest.mark.parametrize("suffix", [".jpg", ".webp"])
    def test_reads_lossy_formats(self, tmp_path, suffix):
        image = np.zeros((16, 16, 3), "uint8")
        image[:, 8:] = (250, 120, 20)
        result = read_image(save(image, tmp_path / f"a{suffix}", quality=95)).astype(int)
        # Twelve grey levels of 255 are more than either format errs by in even areas.
        assert abs(result - image)[:, 12:].max() <= 12
        assert abs(result - image)[:, :4].max() <= 12

    @pytest.mark.parametrize("suffix", [".png", ".tif"])
    def test_alpha_is_dropped_and_what_it_hid_shows(self, tmp_path, suffix):
        image = pixels(5, 7, channels=4)
        image[..., 3] = 0
        with pytest.warns(UserWarning, match="Alpha channels are dropped"):
            result = read_image(save(image, tmp_path / f"a{suffix}"))
        np.testing.assert_array_equal(result, image[..., :3])

    def test_grey_goes_to_all_channels(self, tmp_path):
        grey = pixels(5, 7, channels=1)[..., 0]
        result = read_image(save(grey, tmp_path / "a.png"))
        np.testing.assert_array_equal(result, np.stack([grey] * 3, axis=-1))

    def test_grey_with_alpha_goes_to_all_channels(self, tmp_path):
        grey_and_alpha = pixels(5, 7, channels=2)
        with pytest.warns(UserWarning, match="Alpha channels are dropped"):
            result = read_image(save(grey_and_alpha, tmp_path / "a.png"))
        np.testing.assert_array_equal(result, np.stack([grey_and_alpha[..., 0]] * 3, axis=-1))

    def test_black_and_white_is_0_and_255(self, tmp_path):
        bits = class_ids(5, 7, num_classes=2).astype(bool)
        result = read_image(save(bits, tmp_path / "a.png"))
        np.testing.assert_array_equal(result, np.where(bits, 255, 0)[..., None].repeat(3, axis=-1))

    @pytest.mark.parametrize("transparency", [None, 3, bytes(range(256))])
    def test_palette_colours_are_looked_up_without_a_warning(self, tmp_path, transparency):
        indices = pixels(5, 7, channels=1)[..., 0]
        options = {} if transparency is None else {"transparency": transparency}
        path = save_palette(indices, tmp_path / "a.png", **options)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            result = read_image(path)
        expected = np.stack([indices, 255 - indices, np.full_like(indices, 7)], axis=-1)
        np.testing.assert_array_equal(result, expected)

    @pytest.mark.parametrize("suffix", [".png", ".tif"])
    def test_16_bit_grey_is_scaled_to_8_bits(self, tmp_path, suffix):
        grey = np.array([[0, 128, 129], [32768, 65278, 65535]], "uint16")
        result = read_image(save(grey, tmp_path / f"a{suffix}"))
        assert result.dtype == np.uint8
        assert result[..., 0].tolist() == [[0, 0, 1], [128, 254, 255]]
        assert (result[..., 0] == result[..., 2]).all()

    def test_cmyk_becomes_rgb(self, tmp_path):
        image = np.full((16, 16, 3), (200, 30, 90), "uint8")
        result = read_image(save(image, tmp_path / "a.jpg", mode="CMYK", quality=95))
        assert result.shape == (16, 16, 3)
        assert abs(result.astype(int) - image).max() <= 12

    @pytest.mark.parametrize("value", range(1, 9))
    @pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
    def test_exif_orientation_turns_the_image_upright(self, tmp_path, suffix, value):
        image = np.zeros((16, 32, 3), "uint8")
        image[:8, :16] = (240, 40, 40)
        image[8:, :16] = (40, 240, 40)
        options = {"quality": 95} if suffix in (".jpg", ".webp") else {}
        path = save(image, tmp_path / f"a{suffix}", exif=orientation(value), **options)
        result, expected = read_image(path).astype(int), UPRIGHT[value](image)
        assert result.shape == expected.shape
        # The middles of the four quadrants, away from the blur of the compression.
        height, width = expected.shape[:2]
        for row in (height // 4, 3 * height // 4):
            for column in (width // 4, 3 * width // 4):
                assert abs(result[row, column] - expected[row, column]).max() <= 30

    @pytest.mark.parametrize("share", [0.9, 0.5, 0.02, 0])
    @pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".tif"])
    def test_names_a_file_that_is_cut_off(self, tmp_path, suffix, share):
        path = cut(save(pixels(64, 64), tmp_path / f"cut{suffix}"), share)
        with pytest.raises(ValueError, match=rf"cut\{suffix} cannot be read as an image"):
            read_image(path)

    def test_names_a_file_with_damaged_bytes(self, tmp_path):
        path = save(pixels(64, 64), tmp_path / "damaged.png")
        content = bytearray(path.read_bytes())
        content[len(content) // 2 : len(content) // 2 + 40] = bytes(40)
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"damaged\.png cannot be read as an image"):
            read_image(path)

    def test_names_a_file_that_is_no_image(self, tmp_path):
        (tmp_path / "page.png").write_text("<html>404</html>")
        with pytest.raises(ValueError, match=r"page\.png cannot be read as an image"):
            read_image(tmp_path / "page.png")

    def test_names_a_file_that_is_not_there(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"gone\.png"):
            read_image(tmp_path / "gone.png")

    def test_refuses_floating_point(self, tmp_path):
        path = save(np.zeros((4, 4), "float32"), tmp_path / "a.tif")
        with pytest.raises(ValueError, match=r"a\.tif must hold integers.*floating-point values"):
            read_image(path)

    def test_refuses_grey_of_more_than_16_bits(self, tmp_path):
        path = save(np.full((4, 4), 70000, "int32"), tmp_path / "a.tif")
        with pytest.raises(ValueError, match=r"a\.tif must hold values of at most 16 bits"):
            read_image(path)


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

    @pytest.mark.parametrize("channels", [2, 3, 4])
    def test_refuses_colours_and_says_what_belongs_there(self, tmp_path, channels):
        path = save(pixels(5, 7, channels), tmp_path / "colours.png")
        with pytest.raises(
            ValueError, match=r"colours\.png must hold one class id per pixel.*mode (LA|RGBA?)\)"
        ):
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

    def test_examples_and_checks_take_the_palette(self, tmp_path):
        image = np.array(self.SPACE_COLOURS, "uint8")[class_ids(5, 7)]
        pair = Pair(save(image, tmp_path / "i" / "a.png"), save(image, tmp_path / "l" / "a.png"))
        example = read_example(pair, 3, None, self.SPACE_COLOURS)
        np.testing.assert_array_equal(example["label_map"], class_ids(5, 7))
        assert check_pairs([pair], 3, None, palette=self.SPACE_COLOURS) == {(5, 7): 1}
        with pytest.raises(ValueError, match=r"holds the value 2 .* of 2 classes"):
            read_example(pair, 2, None, self.SPACE_COLOURS)


class TestCheckLabelMap:
    @pytest.mark.parametrize(("values", "ignore"), [([0, 2], None), ([0, 255], 255), ([-1], -1)])
    def test_takes_class_ids_and_the_ignore_class(self, values, ignore):
        check_label_map("a.png", np.array([values], "int32"), 3, ignore)

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
    code = (
        "import sys, keras_fcn.data, keras_fcn.data.examples; keras_fcn.data.find_pairs; "
        "sys.exit(str({'keras', 'tensorflow'} & set(sys.modules) or ''))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stderr.strip() == ""
