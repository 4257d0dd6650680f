"""Files that are read in windows, and files that are written, with other readers' eyes."""

import sys

import h5py
import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image, ImageCms

from keras_fcn.inference import predict, predict_tiles
from keras_fcn.label_spaces import LabelSpace, generic

rasterio = pytest.importorskip("rasterio")
from rasterio.enums import ColorInterp  # noqa: E402

pytestmark = [
    pytest.mark.any_backend,
    # What GDAL calls a file without a coordinate reference system.
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
]
CRS, TRANSFORM = "EPSG:32633", rasterio.Affine(0.25, 0, 412_345.5, 0, -0.25, 5_312_345.5)
COLOURS = LabelSpace(("water", "field", "road"), ((0, 0, 200), (120, 200, 80), (90, 90, 90)))
IMAGE = np.random.default_rng(0).integers(0, 256, (70, 60, 3), "uint8")
TILE = 40


def first_value(channels):
    """A network whose label is the third that the first channel's value falls in; halo 1."""
    image = keras.Input((None, None, channels))
    convolution = layers.Conv2D(3, 3, padding="same")
    model = keras.Model(image, convolution(image))
    kernel = np.zeros((3, 3, channels, 3))
    kernel[1, 1, 0] = [-2, 0, 2]
    convolution.set_weights([kernel, np.array([170.5, 0, -340.5])])
    return model


@pytest.fixture(scope="module")
def model():
    return first_value(3)


def labels(values):
    """What `first_value` gives: 0 up to 85, 1 up to 170, 2 above."""
    return (values > 85).astype("uint8") + (values > 170)


def write_raster(path, bands, **profile):
    """Writes bands, (count, height, width), with rasterio."""
    count, height, width = bands.shape
    profile = {"driver": "GTiff", **profile}
    profile |= {"count": count, "height": height, "width": width, "dtype": bands.dtype}
    meanings, colours = profile.pop("colorinterp", None), profile.pop("colormap", None)
    with rasterio.open(path, "w", **profile) as file:
        file.write(bands)
        if meanings:
            file.colorinterp = meanings
        if colours:
            file.write_colormap(1, colours)
    return path


class TestGeoTIFF:
    def test_keeps_place_and_colours(self, model, tmp_path):
        bands = IMAGE.transpose(2, 0, 1)
        options = {"photometric": "RGB", "tiled": True, "blockxsize": 16, "blockysize": 16}
        source = write_raster(
            tmp_path / "field.tif", bands, crs=CRS, transform=TRANSFORM, **options
        )
        sink = tmp_path / "labels.tif"
        predict_tiles(model, source, sink, tile=TILE, label_space=COLOURS)
        with rasterio.open(sink) as file:
            assert file.crs == rasterio.crs.CRS.from_string(CRS)
            assert file.transform == TRANSFORM
            assert (file.count, file.dtypes, file.compression.name) == (1, ("uint8",), "deflate")
            assert file.profile["tiled"]
            np.testing.assert_array_equal(file.read(1), labels(IMAGE[..., 0]))
            assert [file.colormap(1)[label][:3] for label in range(3)] == list(COLOURS.palette)
        with Image.open(sink) as picture:
            assert picture.mode == "P"
            np.testing.assert_array_equal(picture, labels(IMAGE[..., 0]))
            red, green, blue = picture.convert("RGB").getpixel((5, 3))
        assert (red, green, blue) == COLOURS.palette[labels(IMAGE[3, 5, 0])]
        assert {path.name for path in tmp_path.iterdir()} == {"field.tif", "labels.tif"}

    def test_without_a_place(self, model, tmp_path):
        source = write_raster(tmp_path / "plain.tif", IMAGE.transpose(2, 0, 1), photometric="RGB")
        predict_tiles(model, source, tmp_path / "labels.tif", tile=TILE)
        with rasterio.open(tmp_path / "labels.tif") as file:
            assert file.crs is None
            assert file.transform == rasterio.Affine.identity()

    def test_probabilities_are_bands(self, model, tmp_path):
        sink = tmp_path / "probabilities.tif"
        predict_tiles(model, IMAGE, probabilities=sink, tile=TILE)
        with rasterio.open(sink) as file:
            assert file.dtypes == ("float32",) * 3
            assert file.descriptions == ("class 0", "class 1", "class 2")
            found = file.read().transpose(1, 2, 0)
        np.testing.assert_allclose(found, predict(model, IMAGE).probabilities, atol=1e-6)

    def test_more_than_256_classes_take_16_bits(self, tmp_path):
        # The label is the red value plus 44: the largest of 2 * value * x - x ** 2.
        values = np.arange(300) - 44.0
        image = keras.Input((None, None, 3))
        convolution = layers.Conv2D(300, 1)
        model = keras.Model(image, convolution(image))
        kernel = np.zeros((1, 1, 3, 300))
        kernel[0, 0, 0] = 2 * values
        convolution.set_weights([kernel, -(values**2)])
        predict_tiles(model, IMAGE, tmp_path / "labels.tif", tile=TILE)
        with rasterio.open(tmp_path / "labels.tif") as file:
            assert file.dtypes == ("uint16",)
            np.testing.assert_array_equal(file.read(1), IMAGE[..., 0].astype(int) + 44)
            assert file.colormap(1)[299][:3] == generic(300).palette[299]


class TestOtherFiles:
    def test_a_palette_png(self, model, tmp_path):
        Image.fromarray(IMAGE).save(tmp_path / "photo.png")
        sink = tmp_path / "labels.png"
        predict_tiles(model, tmp_path / "photo.png", sink, tile=TILE, label_space=COLOURS)
        with Image.open(sink) as picture:
            np.testing.assert_array_equal(picture, labels(IMAGE[..., 0]))
            assert picture.getpalette()[:9] == [value for c in COLOURS.palette for value in c]

    def test_an_npy_file(self, model, tmp_path):
        predict_tiles(model, IMAGE, tmp_path / "labels.npy", tile=TILE)
        np.testing.assert_array_equal(np.load(tmp_path / "labels.npy"), labels(IMAGE[..., 0]))
        assert [path.name for path in tmp_path.iterdir()] == ["labels.npy"]

    def test_hdf5_data_sets(self, model, tmp_path):
        with h5py.File(tmp_path / "data.h5", "w") as file:
            source = file.create_dataset("image", data=IMAGE, chunks=(16, 16, 3))
            sink = file.create_dataset("labels", IMAGE.shape[:2], "uint8")
            predict_tiles(model, source, sink, tile=TILE)
            np.testing.assert_array_equal(sink[:], labels(IMAGE[..., 0]))

    def test_ground_control_points_are_kept(self, model, tmp_path):
        """As radar scenes and scanned maps have them, without a transform."""
        from rasterio.control import GroundControlPoint

        corners = [(0, 0), (0, 60), (70, 0), (70, 60)]
        points = [GroundControlPoint(row, col, 13 + col / 9, 48 - row / 8) for row, col in corners]
        path = write_raster(
            tmp_path / "scan.tif", IMAGE.transpose(2, 0, 1), photometric="RGB", gcps=points, crs=CRS
        )
        predict_tiles(model, path, tmp_path / "labels.tif", tile=TILE)
        with rasterio.open(tmp_path / "labels.tif") as file:
            found, crs = file.gcps
        assert crs == rasterio.crs.CRS.from_string(CRS)
        assert [(p.row, p.col, p.x, p.y) for p in found] == [
            (p.row, p.col, p.x, p.y) for p in points
        ]

    def test_memory_maps(self, model, tmp_path):
        IMAGE.tofile(tmp_path / "image.raw")
        source = np.memmap(tmp_path / "image.raw", "uint8", "r", shape=IMAGE.shape)
        sink = np.memmap(tmp_path / "labels.raw", "int32", "w+", shape=IMAGE.shape[:2])
        predict_tiles(model, source, sink, tile=TILE)
        np.testing.assert_array_equal(sink, labels(IMAGE[..., 0]))

    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("scene.jp2", {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES"}),
            ("big.tif", {"bigtiff": "YES", "photometric": "RGB"}),
            ("cog.tif", {"driver": "COG"}),
        ],
    )
    def test_other_rasters(self, model, name, options, tmp_path):
        bands = IMAGE.transpose(2, 0, 1)
        path = write_raster(tmp_path / name, bands, crs=CRS, transform=TRANSFORM, **options)
        predict_tiles(model, path, tmp_path / "labels.tif", tile=TILE)
        with rasterio.open(tmp_path / "labels.tif") as file:
            assert file.transform == TRANSFORM
            np.testing.assert_array_equal(file.read(1), labels(IMAGE[..., 0]))


class TestChannels:
    """As `read_image` does for whole images."""

    def predict(self, model, path, tmp_path):
        predict_tiles(model, path, tmp_path / "labels.npy", tile=TILE)
        return np.load(tmp_path / "labels.npy")

    def test_grey_of_16_bits_is_scaled(self, model, tmp_path):
        grey = np.random.default_rng(1).integers(0, 65536, (1, 50, 60), "uint16")
        path = write_raster(tmp_path / "grey.tif", grey)
        expected = labels(np.rint(grey[0] / 257))
        np.testing.assert_array_equal(self.predict(model, path, tmp_path), expected)

    def test_palettes_are_colours(self, model, tmp_path):
        values = np.random.default_rng(1).integers(0, 3, (1, 50, 60), "uint8")
        colours = {0: (200, 0, 0, 255), 1: (90, 0, 0, 255), 2: (10, 0, 0, 255)}
        path = write_raster(tmp_path / "palette.tif", values, colormap=colours)
        expected = np.array([2, 1, 0])[values[0]]
        np.testing.assert_array_equal(self.predict(model, path, tmp_path), expected)

    def test_palettes_are_grey_for_a_model_of_one_channel(self, tmp_path):
        values = np.random.default_rng(1).integers(0, 3, (1, 50, 60), "uint8")
        # Pure green has a luma of 150, pure red of 76 (ITU-R 601).
        colours = {0: (255, 255, 255, 255), 1: (0, 255, 0, 255), 2: (255, 0, 0, 255)}
        path = write_raster(tmp_path / "palette.tif", values, colormap=colours)
        expected = np.array([2, 1, 0])[values[0]]
        np.testing.assert_array_equal(self.predict(first_value(1), path, tmp_path), expected)

    def test_alpha_is_dropped_with_a_warning(self, model, tmp_path):
        bands = np.concatenate([IMAGE.transpose(2, 0, 1), np.full((1, 70, 60), 255, "uint8")])
        path = write_raster(tmp_path / "opaque.tif", bands, photometric="RGB", alpha="YES")
        np.testing.assert_array_equal(self.predict(model, path, tmp_path), labels(IMAGE[..., 0]))
        bands[3, 60, 10] = 0
        path = write_raster(tmp_path / "alpha.tif", bands, photometric="RGB", alpha="YES")
        with pytest.warns(UserWarning, match="Transparency is dropped"):
            self.predict(model, path, tmp_path)

    def test_four_channels_for_a_model_of_four(self, tmp_path):
        bands = np.concatenate([IMAGE.transpose(2, 0, 1)] * 2)[:4]
        grey = [ColorInterp.gray] + [ColorInterp.undefined] * 3
        path = write_raster(tmp_path / "four.tif", bands, colorinterp=grey)
        np.testing.assert_array_equal(
            self.predict(first_value(4), path, tmp_path), labels(IMAGE[..., 0])
        )


class TestRefused:
    @pytest.mark.parametrize(
        ("name", "bands", "options", "words"),
        [
            ("five", np.zeros((5, 9, 9), "uint8"), {}, "3 channels that the model takes.*5, gray"),
            ("infrared", np.zeros((4, 9, 9), "uint8"), {"alpha": "NO"}, "Received: 4, "),
            ("float", np.zeros((3, 9, 9), "float32"), {}, "integers of 8 bits.*float32"),
            ("deep", np.zeros((3, 9, 9), "uint16"), {}, "integers of 8 bits.*uint16.*-scale"),
            ("bits", np.zeros((1, 9, 9), "uint8"), {"nbits": 1}, "8 or 16 bits.*NBITS"),
            (
                "inverse",
                np.zeros((1, 9, 9), "uint8"),
                {"photometric": "MINISWHITE"},
                "black as 0.*MINISWHITE",
            ),
        ],
    )
    def test_other_channels_and_values(self, name, bands, options, words, model, tmp_path):
        path = write_raster(tmp_path / f"{name}.tif", bands, **options)
        with pytest.raises(ValueError, match=words):
            predict_tiles(model, path, tmp_path / "labels.tif")
        assert [file.name for file in tmp_path.iterdir()] == [path.name]

    def test_a_tiff_that_is_to_be_rotated(self, model, tmp_path):
        path = tmp_path / "rotated.tif"
        Image.fromarray(IMAGE).save(path, tiffinfo={274: 6})
        with pytest.raises(ValueError, match=r"stored upright. Received: EXIF orientation 6"):
            predict_tiles(model, path, tmp_path / "labels.tif")

    def test_lab(self, model, tmp_path):
        path = tmp_path / "lab.tif"
        lab = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        ImageCms.profileToProfile(Image.fromarray(IMAGE), *lab[::-1], outputMode="LAB").save(path)
        with pytest.raises(ValueError, match=r"lab.tif must hold RGB or grey. Received: CIELAB."):
            predict_tiles(model, path, tmp_path / "labels.tif")

    def test_what_is_no_image(self, model, tmp_path):
        (tmp_path / "text.tif").write_text("text")
        with pytest.raises(ValueError, match=r"text.tif cannot be read as an image: .*[^.]\.$"):
            predict_tiles(model, tmp_path / "text.tif", tmp_path / "labels.tif")
        with pytest.raises(FileNotFoundError):
            predict_tiles(model, tmp_path / "none.tif", tmp_path / "labels.tif")

    def test_files_without_rasterio(self, model, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "rasterio", None)
        with pytest.raises(ImportError, match=r"pip install 'keras-fcn\[large\]'"):
            predict_tiles(model, IMAGE, tmp_path / "labels.tif")
        with pytest.raises(ImportError, match=r"pip install 'keras-fcn\[large\]'"):
            predict_tiles(model, tmp_path / "scene.jp2", tmp_path / "labels.npy")
        assert not list(tmp_path.iterdir())

    def test_a_full_disk(self, model, tmp_path, monkeypatch):
        from keras_fcn.inference import unfinished

        usage = type("Usage", (), {"free": 10})
        monkeypatch.setattr(unfinished.shutil, "disk_usage", lambda folder: usage)
        with pytest.raises(OSError, match=r"must have 0.0 GiB of free disk space"):
            predict_tiles(model, IMAGE, tmp_path / "labels.npy", tile=TILE)
        assert not list(tmp_path.iterdir())
