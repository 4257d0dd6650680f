"""Label maps in the orientation of their images, whatever the EXIF orientation is."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from keras_fcn.data.formats.source import Item
from keras_fcn.data.image_files import DECODING_ERRORS, stored_size

_ORIENTATION = 0x0112  # A tag of EXIF.
_TURNED: dict[int, Callable] = {
    5: lambda label_map: label_map.T,
    6: lambda label_map: np.rot90(label_map, -1),
    7: lambda label_map: np.rot90(label_map, 2).T,
    8: np.rot90,
}
_SUFFIX_OF = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp", "TIFF": ".tif"}


def read_geometry(image: Path | bytes, name: str) -> tuple[tuple[int, int], int, str]:
    """Reads the header of an image.

    Args:
        image: The file or its bytes.
        name: What to call it in messages.

    Returns:
        (height, width) of the pixels as they are stored, the EXIF orientation from 1 to 8, and the
        suffix for the format.

    Raises:
        ValueError: If it is no image.
    """
    try:
        with Image.open(io.BytesIO(image) if isinstance(image, bytes) else image) as opened:
            orientation = opened.getexif().get(_ORIENTATION, 1)
            suffix = _SUFFIX_OF.get(opened.format or "", f".{opened.format}".lower())
            return stored_size(opened), orientation, suffix
    except FileNotFoundError:
        raise
    except (*DECODING_ERRORS, Image.DecompressionBombError) as error:
        raise ValueError(f"{name} cannot be read as an image: {error}.") from None


def draw_upright(item: Item, stored: tuple[int, int], orientation: int) -> np.ndarray:
    """Draws the label map of an image in the orientation in which `read_image` returns it.

    Most tools show an image by its EXIF orientation, some as it is stored. The size that the tool
    states decides. If both have that size, as in a square, the labels are those of the image as it
    is shown.

    Args:
        item: The pair.
        stored: (height, width) of the stored pixels.
        orientation: EXIF orientation, from 1 to 8.

    Raises:
        ValueError: If the label map has neither size, or its drawing fails.
    """
    shown = stored[::-1] if orientation in _TURNED else stored
    if item.size not in (None, shown, stored):
        raise ValueError(_other_size(item, item.size, shown))
    label_map = item.draw(item.size or shown)
    if label_map.shape == shown:
        return label_map
    if label_map.shape != stored:
        raise ValueError(_other_size(item, label_map.shape, shown))
    return _TURNED[orientation](label_map)


def _other_size(item, size, shown):
    return (
        f"{item.origin} must have the size of its image {item.name}, {shown[1]}x{shown[0]} "
        f"(width x height). Received: {size[1]}x{size[0]}. Pass the images that were labelled."
    )
