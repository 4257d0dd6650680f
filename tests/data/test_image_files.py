import contextlib
import io
import struct
import warnings

import numpy as np
import pytest
from data.written_files import UPRIGHT, class_ids, cut, orientation, pixels, save, save_palette
from PIL import Image

from keras_fcn.data.image_files import read_image, read_size
from keras_fcn.data.label_map_files import read_label_map

pytestmark = pytest.mark.any_backend


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
        with pytest.warns(UserWarning, match="Transparency is dropped"):
            result = read_image(save(image, tmp_path / f"a{suffix}"))
        np.testing.assert_array_equal(result, image[..., :3])

    def test_grey_goes_to_all_channels(self, tmp_path):
        grey = pixels(5, 7, channels=1)[..., 0]
        result = read_image(save(grey, tmp_path / "a.png"))
        np.testing.assert_array_equal(result, np.stack([grey] * 3, axis=-1))

    def test_grey_with_alpha_goes_to_all_channels(self, tmp_path):
        grey_and_alpha = pixels(5, 7, channels=2)
        with pytest.warns(UserWarning, match="Transparency is dropped"):
            result = read_image(save(grey_and_alpha, tmp_path / "a.png"))
        np.testing.assert_array_equal(result, np.stack([grey_and_alpha[..., 0]] * 3, axis=-1))

    def test_black_and_white_is_0_and_255(self, tmp_path):
        bits = class_ids(5, 7, num_classes=2).astype(bool)
        result = read_image(save(bits, tmp_path / "a.png"))
        np.testing.assert_array_equal(result, np.where(bits, 255, 0)[..., None].repeat(3, axis=-1))

    @pytest.mark.parametrize(
        ("transparency", "is_transparent"),
        [(None, False), (3, True), (200, False), (bytes([255] * 34 + [128]), True)],
    )
    def test_palette_colours_are_looked_up(self, tmp_path, transparency, is_transparent):
        indices = np.arange(35, dtype="uint8").reshape(5, 7)
        options = {} if transparency is None else {"transparency": transparency}
        path = save_palette(indices, tmp_path / "a.png", **options)
        with self.warns_of_transparency(is_transparent):
            result = read_image(path)
        expected = np.stack([indices, 255 - indices, np.full_like(indices, 7)], axis=-1)
        np.testing.assert_array_equal(result, expected)

    @pytest.mark.parametrize(
        ("image", "transparency", "is_transparent"),
        [
            (np.full((2, 3, 3), (9, 8, 7), "uint8"), (9, 8, 7), True),
            (np.full((2, 3, 3), (9, 8, 7), "uint8"), (9, 8, 6), False),
            (np.full((2, 3), 9, "uint8"), 9, True),
            (np.full((2, 3), 9, "uint8"), 8, False),
            (np.full((2, 3), 257 * 9, "uint16"), 257 * 9, True),
            (np.full((2, 3), 257 * 9, "uint16"), 9, False),
        ],
    )
    def test_transparent_colours_stay_with_a_warning(
        self, tmp_path, image, transparency, is_transparent
    ):
        path = save(image, tmp_path / "a.png", transparency=transparency)
        with self.warns_of_transparency(is_transparent):
            assert read_image(path)[..., 0].tolist() == [[9] * 3] * 2
        if image.ndim == 2:
            with self.warns_of_transparency(is_transparent):
                assert read_image(path, channels=1)[..., 0].tolist() == [[9] * 3] * 2

    def test_colours_of_lab_are_no_transparency(self, tmp_path):
        path = save(np.full((4, 4, 3), (90, 160, 110), "uint8"), tmp_path / "rgb.png")
        Image.open(path).convert("LAB").save(tmp_path / "a.tif")
        with self.warns_of_transparency(False):
            result = read_image(tmp_path / "a.tif")
        assert abs(result.astype(int) - (90, 160, 110)).max() <= 12

    @staticmethod
    @contextlib.contextmanager
    def warns_of_transparency(expected):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
        messages = [str(warning.message) for warning in caught]
        assert [m.split(" because")[0] for m in messages] == ["Transparency is dropped"] * expected

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

    @pytest.mark.parametrize("value", range(1, 9))
    @pytest.mark.parametrize("compression", [None, "tiff_lzw", "packbits"])
    @pytest.mark.parametrize(("dtype", "scale"), [("uint8", 1), ("uint16", 257)])
    def test_exif_orientation_turns_grey_tiffs(self, tmp_path, dtype, scale, compression, value):
        # By their path, Pillow maps uncompressed ones into memory.
        grey = np.arange(35).reshape(5, 7)
        stored = (scale * grey).astype(dtype)
        path = save(stored, tmp_path / "a.tif", exif=orientation(value), compression=compression)
        for file in (path, io.BytesIO(path.read_bytes())):
            np.testing.assert_array_equal(read_image(file)[..., 0], UPRIGHT[value](grey))

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

    def test_names_a_tiff_with_a_damaged_tag(self, tmp_path):
        path = save(pixels(4, 4), tmp_path / "damaged.tif")
        content = path.read_bytes()
        tag = struct.pack("<HH", 273, 4)
        assert content.count(tag) == 1
        # The place of the pixels becomes text.
        path.write_bytes(content.replace(tag, struct.pack("<HH", 273, 2)))
        with pytest.raises(ValueError, match=r"damaged\.tif cannot be read as an image"):
            read_image(path)

    def test_names_a_file_that_is_no_image(self, tmp_path):
        (tmp_path / "page.png").write_text("<html>404</html>")
        with pytest.raises(ValueError, match=r"page\.png cannot be read as an image"):
            read_image(tmp_path / "page.png")

    def test_names_a_file_that_is_not_there(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"gone\.png"):
            read_image(tmp_path / "gone.png")

    @pytest.mark.parametrize("read", [read_image, read_label_map])
    def test_a_large_file_is_to_be_cut_for_training(self, tmp_path, monkeypatch, read):
        path = save(class_ids(5, 7), tmp_path / "large.png")
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
        with pytest.raises(ValueError, match=r"large\.png is too large .* To train .*cut .* tiles"):
            read(path)

    def test_refuses_floating_point(self, tmp_path):
        path = save(np.zeros((4, 4), "float32"), tmp_path / "a.tif")
        with pytest.raises(ValueError, match=r"a\.tif must hold integers.*floating-point values"):
            read_image(path)

    def test_refuses_grey_of_more_than_16_bits(self, tmp_path):
        path = save(np.full((4, 4), 70000, "int32"), tmp_path / "a.tif")
        with pytest.raises(ValueError, match=r"a\.tif must hold values of at most 16 bits"):
            read_image(path)

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"\0\0\0\x24ftypheic\0\0\0\0mif1heic", "it is a HEIC photo"),
            (b"\0\0\0\x1cftypmif1\0\0\0\0mif1heic", "it is a HEIC photo"),
            (b"", "it is empty"),
        ],
    )
    def test_says_what_a_file_is_that_is_no_jpeg(self, tmp_path, content, reason):
        path = tmp_path / "a.jpg"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"a\.jpg cannot be read as an image: {reason}"):
            read_image(path)
        with path.open("rb") as file, pytest.raises(ValueError, match=reason):
            read_image(file)


class TestReadSize:
    @pytest.mark.parametrize("value", range(1, 9))
    @pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
    def test_is_that_of_the_stored_pixels(self, tmp_path, suffix, value):
        path = save(pixels(5, 7), tmp_path / f"a{suffix}", exif=orientation(value))
        assert read_size(path) == (5, 7)
