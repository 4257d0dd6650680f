"""Images that are read in windows: arrays and files."""

import contextlib
import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from keras_fcn.data.image_files import read_image, read_size
from keras_fcn.inference.rasters import DamagedImageError, open_raster

# Formats that are decoded as a whole: reading a window of them decodes all rows above it.
_DECODED_AS_A_WHOLE = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
# Rows of an array that stand for all in the comparison with the array of an earlier run.
_COMPARED_ROWS = 16


@dataclasses.dataclass(frozen=True)
class Source:
    """An image that is read in windows.

    Args:
        shape: (height, width, channels).
        read: Function of a slice of rows and one of columns that returns these pixels.
        description: Function that returns JSON values that differ for another image.
        georeference: See `write_geotiff`.
    """

    shape: tuple[int, ...]
    read: Callable[[slice, slice], np.ndarray]
    description: Callable[[], list]
    georeference: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@contextlib.contextmanager
def open_source(source: Any, channels: int | None) -> Iterator[Source]:
    """Yields the image of a path or an array, see `predict_tiles`.

    Args:
        source: The path or array.
        channels: Number of channels that the model takes; `None` if it takes any.

    Raises:
        FileNotFoundError: If it is a path and there is no such file.
        ImportError: If it needs rasterio and that is not installed.
        DamagedImageError: If it is a PNG, JPEG, WebP or BMP that is truncated or damaged.
        ValueError: If it is no image, or does not hold these channels.
    """
    if not isinstance(source, (str, os.PathLike)):
        _check_image(source, channels)
        yield _sliced(source, functools.partial(_description_of_array, source))
        return
    description = functools.partial(_description_of_file, source)
    if _is_decoded_as_a_whole(source):
        check_header(source, channels or 3)
        try:
            image = read_image(source, channels or 3)
        except ValueError as error:
            raise DamagedImageError(str(error)) from None
        yield _sliced(image, description)
    else:
        with open_raster(source, channels or 3) as raster:
            yield Source(raster.shape, raster.read, description, raster.georeference)


def check_header(path: str | os.PathLike, channels: int) -> None:
    """Raises what `open_source` does for the header of an image file, without decoding the pixels.

    Args:
        path: The file.
        channels: Number of channels that the model takes.
    """
    if _is_decoded_as_a_whole(path):
        read_size(path, channels)
    else:
        with open_raster(path, channels):
            pass


def _is_decoded_as_a_whole(path):
    return os.path.splitext(path)[1].lower() in _DECODED_AS_A_WHOLE


def _sliced(array, description):
    def read(rows, columns):
        return np.asarray(array[rows, columns])

    return Source(tuple(array.shape), read, description)


def _check_image(array, channels):
    shape = tuple(getattr(array, "shape", ()))
    if len(shape) != 3 or 0 in shape or channels not in (None, shape[2]):
        raise ValueError(
            f"`source` must be a path, or an image of shape (height, width, {channels or 'any'}) "
            f"with at least one pixel. Received: a {type(array).__name__} of shape {shape}."
        )


def _description_of_array(array):
    digest = hashlib.blake2b(digest_size=16)
    step = max(1, array.shape[0] // _COMPARED_ROWS)
    for row in range(0, array.shape[0], step):
        digest.update(np.asarray(array[row : row + 1]).tobytes())
    return [*array.shape, digest.hexdigest()]


def _description_of_file(path):
    found = os.stat(path)
    return [os.path.abspath(path), found.st_size, found.st_mtime_ns]
