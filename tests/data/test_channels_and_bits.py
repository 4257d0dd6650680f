"""Channels that a model does or does not take, and label maps in any order of bits."""

import struct
import warnings

import numpy as np
import pytest
from helpers import write_pairs
from PIL import Image

from keras_fcn.data import evaluation_batches, find_pairs
from keras_fcn.data.image_files import holds_16_bits, read_image
from keras_fcn.data.label_map_files import read_label_map

pytestmark = pytest.mark.any_backend
# Two rows of RGB with near infrared.
FOUR = np.arange(2 * 3 * 4, dtype="uint8").reshape(2, 3, 4)


def write_tiff(path, values, bits, samples=1, fill_order=1, photometric=1, extra=None):
    """An uncompressed TIFF of one strip, byte by byte as its specification says."""
    height, width = values.shape[:2]
    rows = []
    for row in values.reshape(height, -1):
        if bits == 16:
            row = row.astype("<u2").view("uint8")
        digits = "".join(f"{int(value):0{min(bits, 8)}b}" for value in row)
        rows.append(digits + "0" * (-len(digits) % 8))
    octets = [digits[i : i + 8] for digits in rows for i in range(0, len(digits), 8)]
    data = bytes(int(octet[::-1] if fill_order == 2 else octet, 2) for octet in octets)
    entries = [(256, width), (257, height), (258, bits), (259, 1), (262, photometric)]
    entries += [(266, fill_order), (273, 8), (277, samples), (278, height), (279, len(data))]
    if extra is not None:
        entries.append((338, extra))
    start = 8 + len(data) + len(data) % 2
    sizes = start + 2 + 12 * len(entries) + 4
    directory = struct.pack("<H", len(entries))
    for tag, value in sorted(entries):
        if tag == 258 and samples > 2:
            directory += struct.pack("<HHII", tag, 3, samples, sizes)
        else:
            directory += struct.pack("<HHIHH", tag, 3, 1, value, 0)
    directory += bytes(4) + struct.pack(f"<{samples}H", *[bits] * samples)
    path.write_bytes(b"II*\0" + struct.pack("<I", start) + data + bytes(len(data) % 2) + directory)


class TestChannels:
    @pytest.fixture
    def infrared(self, tmp_path):
        write_tiff(tmp_path / "a.tif", FOUR, 8, samples=4, photometric=2, extra=0)
        return tmp_path / "a.tif"

    def test_a_fourth_that_is_no_alpha_is_refused_where_the_model_takes_three(self, infrared):
        with pytest.raises(ValueError, match=r"a\.tif must hold the 3 channels .* Received: 4"):
            read_image(infrared)

    def test_the_reader_gives_four_where_the_model_takes_four(self, infrared, tmp_path):
        np.testing.assert_array_equal(read_image(infrared, channels=4), FOUR)
        with open(infrared, "rb") as file:
            np.testing.assert_array_equal(read_image(file, channels=4), FOUR)
        Image.fromarray(FOUR).save(tmp_path / "a.png")
        np.testing.assert_array_equal(read_image(tmp_path / "a.png", channels=4), FOUR)

    def test_batches_have_them(self, tmp_path):
        images, labels = write_pairs(tmp_path, "a", size=(2, 3))
        Image.fromarray(FOUR).save(images / "a.png")
        options = {"num_classes": 3, "ignore_class": 255, "channels": 4}
        ((batch, _),) = evaluation_batches(find_pairs(images, labels), **options)
        np.testing.assert_array_equal(batch[0], FOUR)

    def test_grey_for_a_model_of_one_channel(self, tmp_path):
        Image.fromarray(FOUR[..., 0]).save(tmp_path / "a.png")
        np.testing.assert_array_equal(read_image(tmp_path / "a.png", channels=1), FOUR[..., :1])

    @pytest.mark.parametrize("channels", [1, 4])
    def test_colours_for_a_model_of_other_channels_are_refused(self, tmp_path, channels):
        Image.fromarray(FOUR[..., :3]).save(tmp_path / "a.png")
        with pytest.raises(ValueError, match=f"the {channels} channels? .* Received: 3"):
            read_image(tmp_path / "a.png", channels=channels)

    def test_an_alpha_channel_is_announced_unless_it_is_opaque(self, tmp_path):
        Image.fromarray(FOUR).save(tmp_path / "a.png")
        with pytest.warns(UserWarning, match="Transparency is dropped"):
            np.testing.assert_array_equal(read_image(tmp_path / "a.png"), FOUR[..., :3])
        opaque = np.dstack([FOUR[..., :3], np.full((2, 3), 255, "uint8")])
        Image.fromarray(opaque).save(tmp_path / "b.png")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read_image(tmp_path / "b.png")


class TestBitOrders:
    @pytest.mark.parametrize("fill_order", [1, 2])
    @pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
    def test_values_are_read_whatever_the_order_of_bits(self, tmp_path, bits, fill_order):
        values = np.random.default_rng(0).integers(0, 2**bits, (3, 5))
        write_tiff(tmp_path / "a.tif", values, bits, fill_order=fill_order)
        np.testing.assert_array_equal(read_label_map(tmp_path / "a.tif"), values)

    @pytest.mark.parametrize("fill_order", [1, 2])
    @pytest.mark.parametrize("bits", [1, 2, 4, 8])
    def test_a_zero_that_means_white_is_refused(self, tmp_path, bits, fill_order):
        path = tmp_path / "a.tif"
        write_tiff(path, np.ones((3, 5)), bits, fill_order=fill_order, photometric=0)
        with pytest.raises(ValueError, match=r"MinIsWhite|unknown raw mode"):
            read_label_map(path)


class TestGreyPalettes:
    BLACK_AND_WHITE = ((0, 0, 0), (255, 255, 255))

    @pytest.mark.parametrize("mode", ["1", "L", "RGB"])
    def test_black_and_white_are_colours_of_files_of_any_mode(self, tmp_path, mode):
        values = np.array([[0, 255, 255], [0, 0, 255]], "uint8")
        Image.fromarray(values).convert(mode).save(tmp_path / "a.png")
        found = read_label_map(tmp_path / "a.png", self.BLACK_AND_WHITE)
        np.testing.assert_array_equal(found, values // 255)
        found = read_label_map(tmp_path / "a.png", self.BLACK_AND_WHITE[::-1])
        np.testing.assert_array_equal(found, 1 - values // 255)

    def test_another_grey_is_named(self, tmp_path):
        Image.fromarray(np.array([[0, 7]], "uint8")).save(tmp_path / "a.png")
        with pytest.raises(ValueError, match=r"holds the colour \(7, 7, 7\)"):
            read_label_map(tmp_path / "a.png", self.BLACK_AND_WHITE)

    def test_with_a_colour_in_the_palette_grey_values_are_class_ids(self, tmp_path):
        Image.fromarray(np.array([[0, 1]], "uint8")).save(tmp_path / "a.png")
        found = read_label_map(tmp_path / "a.png", ((255, 0, 0), (0, 0, 0)))
        assert found.tolist() == [[0, 1]]


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
class TestPlanes:
    """GDAL stores each channel apart if its option INTERLEAVE is BAND, as in copied profiles."""

    @pytest.fixture
    def write(self, tmp_path):
        rasterio = pytest.importorskip("rasterio")

        def write(bands, **options):
            count, height, width = bands.shape
            size = {"count": count, "height": height, "width": width, "dtype": bands.dtype}
            options = {"driver": "GTiff", "interleave": "band"} | size | options
            with rasterio.open(tmp_path / "a.tif", "w", **options) as file:
                file.write(bands)
            return tmp_path / "a.tif"

        return write

    @pytest.mark.parametrize("order", ["LITTLE", "BIG"])
    @pytest.mark.parametrize("tiles", [{}, {"tiled": True, "blockxsize": 16, "blockysize": 16}])
    def test_colours_of_16_bits(self, write, order, tiles):
        bands = np.random.default_rng(0).integers(0, 65536, (3, 20, 21), "uint16")
        path = write(bands, photometric="RGB", ENDIANNESS=order, **tiles)
        wanted = np.moveaxis(bands, 0, -1) / 257
        # Pillow takes the upper byte.
        np.testing.assert_allclose(read_image(path), wanted, rtol=0, atol=1)
        assert holds_16_bits(path)

    @pytest.mark.parametrize("order", ["LITTLE", "BIG"])
    @pytest.mark.parametrize("dtype", ["uint16", "int16"])
    def test_label_maps_of_16_bits(self, write, order, dtype):
        bands = np.random.default_rng(0).integers(0, 32768, (1, 20, 21)).astype(dtype)
        np.testing.assert_array_equal(read_label_map(write(bands, ENDIANNESS=order)), bands[0])

    @pytest.mark.parametrize("bits", [1, 2, 4])
    def test_label_maps_of_few_bits(self, write, bits):
        bands = np.random.default_rng(0).integers(0, 2**bits, (1, 20, 21), "uint8")
        path = write(bands, NBITS=bits, tiled=True, blockxsize=16, blockysize=16)
        np.testing.assert_array_equal(read_label_map(path), bands[0])

    def test_a_zero_that_is_white_is_noticed(self, write):
        bands = np.random.default_rng(0).integers(0, 256, (1, 20, 21), "uint8")
        path = write(bands, photometric="MINISWHITE")
        np.testing.assert_array_equal(read_image(path)[..., 0], 255 - bands[0])
        with pytest.raises(ValueError, match="must store black as 0"):
            read_label_map(path)

    @pytest.mark.parametrize("count", [2, 3])
    def test_channels_that_pillow_drops_are_refused(self, write, count):
        """Of planes without a meaning, Pillow 13 shows the first one alone, and 12 none."""
        path = write(np.zeros((count, 4, 5), "uint8"), photometric="MINISBLACK", compress="deflate")
        message = rf"Received: {count}, of which Pillow reads 1 |a\.tif .* has channels that"
        with pytest.raises(ValueError, match=message):
            read_image(path)

    def test_a_fourth_of_16_bits_is_refused_for_a_model_of_four(self, write):
        path = write(np.zeros((4, 4, 5), "uint16"), photometric="RGB", interleave="pixel")
        with pytest.raises(ValueError, match=r"the 4 channels .* 4, of which Pillow reads 3 "):
            read_image(path, 4)

    @pytest.mark.parametrize("count", [3, 5])
    def test_channels_that_pillow_does_not_know_are_called_so(self, write, count):
        path = write(np.zeros((count, 4, 5), "uint8"), photometric="MINISBLACK")
        message = (
            r"a\.tif cannot be read as an image: it is a damaged TIFF, or has channels .* GDAL"
        )
        with pytest.raises(ValueError, match=message):
            read_image(path)
        with open(path, "rb") as file, pytest.raises(ValueError, match="it is a damaged TIFF, or"):
            read_image(file)

    @pytest.mark.parametrize("compress", ["NONE", "LZW", "DEFLATE", "PACKBITS"])
    @pytest.mark.parametrize("dtype", ["uint16", "int16", "int32"])
    def test_compressed_big_endian_values(self, write, compress, dtype):
        bands = np.random.default_rng(0).integers(0, 32768, (1, 20, 21)).astype(dtype)
        path = write(bands, ENDIANNESS="BIG", COMPRESS=compress)
        np.testing.assert_array_equal(read_label_map(path), bands[0])
        np.testing.assert_allclose(read_image(path, 1)[..., 0], bands[0] / 257, rtol=0, atol=0.51)
