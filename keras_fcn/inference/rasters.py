"""Reads windows of georeferenced images, and writes GeoTIFFs, with rasterio."""

import contextlib
import os
import types
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from PIL import Image

from keras_fcn.data.image_files import TRANSPARENCY_IS_DROPPED
from keras_fcn.inference.unfinished import UnfinishedArray
from keras_fcn.io.extras import check_installed
from keras_fcn.io.links import check_links
from keras_fcn.label_spaces import LabelSpace
from keras_fcn.spelling import counted

# In MB. GDAL's default, 5 % of the machine's memory, would count as this process's.
_CACHE = 64
_BLOCK = 512
_TRANSPARENT = 255


class DamagedImageError(ValueError):
    """An image file whose header can be read, but not its pixels."""


class RasterImage:
    """An image file of any size, read in windows: GeoTIFF, BigTIFF, COG, JPEG 2000 and others.

    As `keras_fcn.data.read_image`: for a model of three channels, grey and palette images are
    converted to RGB, and an alpha channel is dropped; for a model of one, palette images are
    converted to grey. Grey of 16 bits is scaled so that 65535 becomes 255.

    Args:
        dataset: rasterio's open data set.
        channels: Number of channels that the model takes.

    Raises:
        ValueError: If the file holds other channels or values.
    """

    def __init__(self, dataset: Any, channels: int):
        self._dataset, self._channels = dataset, channels
        self.shape = (dataset.height, dataset.width, channels)
        self.georeference = {"crs": dataset.crs, "transform": dataset.transform}
        if (control_points := dataset.gcps)[0]:
            self.georeference = dict(zip(("gcps", "crs"), control_points, strict=True))
        self._check()

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        """Returns a window, (height, width, channels), uint8.

        Raises:
            DamagedImageError: If the file is truncated or damaged.
            OSError: If the file is gone, as when a network is down.
        """
        place = (rows.start, rows.stop), (columns.start, columns.stop)
        try:
            bands = self._dataset.read(window=place)
        except import_rasterio().errors.RasterioIOError as error:
            with open(self._dataset.name, "rb") as file:
                file.read(1)  # What may come back is no damage.
            reason = str(error.__cause__ or error).rstrip(".")  # The error itself names none.
            raise DamagedImageError(
                f"{self._dataset.name} is truncated or damaged: {reason}."
            ) from None
        if self._palette is not None:
            return self._palette[bands[0]]
        if bands.dtype == "uint16":
            bands = ((bands.astype("int64") + 128) // 257).astype("uint8")
        if self._has_alpha and bands[-1].min() < _TRANSPARENT:
            warnings.warn(TRANSPARENCY_IS_DROPPED, stacklevel=2)
        colours = bands[:-1] if self._has_alpha else bands
        if len(colours) < self._channels:
            colours = np.repeat(colours, self._channels, axis=0)
        return np.ascontiguousarray(colours.transpose(1, 2, 0))

    def _check(self):
        from rasterio.enums import ColorInterp

        dataset, path = self._dataset, self._dataset.name
        meanings = dataset.colorinterp
        self._has_alpha = self._channels == 3 and meanings[-1] == ColorInterp.alpha
        self._palette = None
        if meanings[0] == ColorInterp.palette:
            self._palette = _colours(dataset, self._channels)
        held = dataset.count - self._has_alpha
        is_cmyk = ColorInterp.cyan in meanings
        is_grey = held == 1 and self._channels == 3
        if is_cmyk or not (is_grey or held == self._channels):
            raise ValueError(
                f"{path} must hold the {counted(self._channels, 'channel')} that the model takes. "
                f"Received: {dataset.count}, {', '.join(meaning.name for meaning in meanings)}."
            )
        dtypes = set(dataset.dtypes)
        if dtypes != {"uint8"} and not (dtypes == {"uint16"} and held == 1):
            raise ValueError(
                f"{path} must hold integers of 8 bits, or one channel of 16. Received: "
                f"{', '.join(sorted(dtypes))}. Convert it first, for example with gdal_translate "
                "-ot Byte -scale."
            )
        structure = {**dataset.tags(ns="IMAGE_STRUCTURE"), **dataset.tags(1, ns="IMAGE_STRUCTURE")}
        if structure.get("MINISWHITE") == "YES" or "NBITS" in structure:
            raise ValueError(
                f"{path} must hold 8 or 16 bits per channel, and black as 0. Received: "
                f"{structure}. Save it as 8-bit RGB."
            )
        if "LAB" in (space := structure.get("SOURCE_COLOR_SPACE", "")):
            raise ValueError(f"{path} must hold RGB or grey. Received: {space}. Save it as RGB.")


def _colours(dataset, channels):
    """Returns the colours of the values 0, 1, ... of a palette image, or their greys."""
    table = dataset.colormap(1)
    colours = [table.get(value, (0, 0, 0))[:3] for value in range(max(256, max(table) + 1))]
    row = Image.fromarray(np.array([colours], "uint8"))
    return np.asarray(row.convert("L"))[0, :, None] if channels == 1 else np.asarray(row)[0]


@contextlib.contextmanager
def open_raster(path: str | os.PathLike, channels: int) -> Iterator[RasterImage]:
    """Yields a `RasterImage`.

    Args:
        path: Image file.
        channels: As in `RasterImage`.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If rasterio is not installed.
        ValueError: If the file is no image, or as `RasterImage`.
    """
    rasterio = import_rasterio()
    check_links(path)
    os.stat(path)  # Raises an error that is clearer than rasterio's.
    _check_orientation(path)
    with rasterio.Env(GDAL_CACHEMAX=_CACHE), contextlib.ExitStack() as stack:
        try:
            with _without_georeference_warnings():
                dataset = stack.enter_context(rasterio.open(path))
        except rasterio.errors.RasterioIOError as error:
            reason = str(error).rstrip(".")
            raise ValueError(f"{path} cannot be read as an image: {reason}.") from None
        yield RasterImage(dataset, channels)


def write_geotiff(
    path: str | os.PathLike,
    array: UnfinishedArray,
    *,
    georeference: Mapping[str, Any],
    label_space: LabelSpace,
) -> None:
    """Writes a tiled, compressed GeoTIFF; a BigTIFF if it may exceed 4 GB.

    Args:
        path: File to write.
        array: What to write, of shape (height, width) or (height, width, bands).
        georeference: `crs`, and `transform` or ground control points `gcps`; empty for none.
        label_space: `LabelSpace` with the colours of a label map, or the names of the bands.
    """
    rasterio = import_rasterio()
    height, width = array.shape[:2]
    profile = {
        "driver": "GTiff",
        "height": height,
        "width": width,
        "count": array.shape[2] if len(array.shape) == 3 else 1,
        "dtype": array.dtype.name,
        "tiled": True,
        "blockxsize": _BLOCK,
        "blockysize": _BLOCK,
        "compress": "deflate",
        "interleave": "band",
        "bigtiff": "IF_SAFER",
        **georeference,
    }
    with (
        rasterio.Env(GDAL_CACHEMAX=_CACHE),
        _without_georeference_warnings(),
        rasterio.open(path, "w", **profile) as dataset,
    ):
        # Before the pixels: afterwards GDAL would write the colours to another file.
        if len(array.shape) == 2:
            colours = enumerate(label_space.palette)
            dataset.write_colormap(1, {value: (*map(int, rgb), 255) for value, rgb in colours})
        else:
            dataset.descriptions = label_space.class_names
        for start in range(0, height, _BLOCK):
            stop = min(start + _BLOCK, height)
            values = array.read(slice(start, stop))
            bands = values[None] if values.ndim == 2 else values.transpose(2, 0, 1)
            dataset.write(bands, window=((start, stop), (0, width)))


def import_rasterio() -> types.ModuleType:
    """Returns the package rasterio.

    Raises:
        ImportError: If it is not installed.
    """
    check_installed("large", ("rasterio",), "to read and write GeoTIFF")
    import rasterio
    import rasterio.errors

    return rasterio


def _check_orientation(path):
    """Refuses a file that is to be shown rotated: rasterio and GDAL ignore that tag."""
    from PIL import UnidentifiedImageError
    from PIL.ExifTags import Base

    with contextlib.suppress(UnidentifiedImageError, Image.DecompressionBombError):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                orientation = image.getexif().get(Base.Orientation, 1)
        if orientation != 1:
            raise ValueError(
                f"{path} must be stored upright. Received: EXIF orientation {orientation}. Rotate "
                "the pixels first, for example with ImageMagick's -auto-orient."
            )


@contextlib.contextmanager
def _without_georeference_warnings():
    """An image without a coordinate reference system is as good as any."""
    from rasterio.errors import NotGeoreferencedWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield
