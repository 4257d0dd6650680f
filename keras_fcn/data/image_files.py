"""Reads image files as arrays of the channels that a model takes."""

import contextlib
import itertools
import math
import os
import re
import struct
import warnings
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from keras_fcn.arguments import as_path, integer
from keras_fcn.io.links import check_links
from keras_fcn.spelling import counted

GREY_16_BIT_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I")
"""Pillow's modes of grey of 16 bits."""

# Tags of TIFF.
_WIDTH, _HEIGHT, _BITS_PER_SAMPLE, _PHOTOMETRIC, _FILL_ORDER = 256, 257, 258, 262, 266
_SAMPLES_PER_PIXEL, _PLANAR_CONFIGURATION, _SAMPLE_FORMAT = 277, 284, 339
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # The first bytes, also those of BigTIFF.
_UNKNOWN_TIFF = (
    "it is a damaged TIFF, or has channels that Pillow does not know, such as five, or three "
    "without a meaning. Save images as 8-bit RGB and label maps as grey, for example with GDAL"
)
_HEIF = (b"ftypheic", b"ftypheix", b"ftyphevc", b"ftypmif1", b"ftypmsf1")  # Bytes 4 to 12.
_IS_HEIF = (
    "it is a HEIC photo, as phones take them, whatever its suffix, and Pillow does not read those. "
    "Save it as JPEG or PNG, and set the phone to JPEG"
)
_PLANES = 2  # Each channel is stored apart.
_WITH_BYTE_ORDER = re.compile(r"^(I;(?:16|32))[BL]?(S?)$")  # Raw modes of grey of 16 and 32 bits.
_ANIMATED = ("PNG", "WEBP", "GIF", "AVIF")  # Pillow's names of formats of several frames.
_SUBFILE_TYPE, _OVERVIEW_OR_MASK = 254, 0b101  # A tag, and two of its bits.
_MOST_OVERVIEWS = 30  # Each has half the size of the one before it.

TRANSPARENCY_IS_DROPPED = (
    "Transparency is dropped because the model takes colours alone. Transparent pixels keep the "
    "colours that are stored under them."
)

DECODING_ERRORS = (
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
    EOFError,
    struct.error,
)
"""Everything that Pillow's decoders raise for a file that is no image, truncated or damaged."""


def read_image(path: str | os.PathLike | BinaryIO, channels: int = 3) -> np.ndarray:
    """Reads an image with the channels that a model takes, rotated by its EXIF orientation.

    Grey of 16 bits is scaled so that 65535 becomes 255. With three channels, grey, palette and CMYK
    images are converted to RGB. With three or one, transparency is dropped, with a warning if a
    pixel is transparent. A fourth channel that is no alpha, such as near infrared in a TIFF, raises
    an error.

    Args:
        path: PNG, JPEG, WebP, TIFF or BMP; its path, or the file open for reading.
        channels: 3 for RGB, 4 for the four channels of the file unchanged, 1 for grey.

    Output shape:
        (height, width, channels), uint8.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no image, is truncated, holds floating-point values, or has
            another number of channels.
    """
    integer("channels", channels, least=1)
    image, raw_mode = decode(path)
    _check_channels(path, image, raw_mode, channels)
    if channels in (1, 3) and _is_transparent(image):
        warnings.warn(TRANSPARENCY_IS_DROPPED, stacklevel=2)
    if channels == 3:
        return _as_rgb(path, image)
    if channels == 1:
        return _as_grey(path, image)[:, :, None]
    if raw_mode == "RGBX":
        # Pillow drops the fourth channel of RGBX. Read as XRGB, it drops the first instead.
        fourth, _ = decode(path, "XRGB")
        return np.dstack([np.array(image), np.array(fourth)[:, :, 2]])
    return np.array(image)


def read_size(path: str | os.PathLike, channels: int | None = None) -> tuple[int, int]:
    """Reads the size of an image from the header of its file, without decoding the pixels.

    Truncated data are not noticed.

    Args:
        path: See `read_image`.
        channels: Number of channels to check for, see `read_image`; `None` for no check.

    Returns:
        (height, width) in pixels, before a rotation by the EXIF orientation.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no image, or `read_image` does not read it with `channels`.
    """
    image, raw_mode = decode(path, pixels=False)
    if channels is not None:
        _check_channels(path, image, raw_mode, channels)
    return stored_size(image)


def holds_16_bits(path: str | os.PathLike) -> bool:
    """Returns whether an image has 16 bits per channel, by the header of its file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no image.
    """
    image, raw_mode = decode(path, pixels=False)
    # BGR;16 of BMP has 16 bits for all channels together.
    return image.mode in GREY_16_BIT_MODES or (";16" in raw_mode and raw_mode[:3] != "BGR")


def count_pages(path: str | os.PathLike | BinaryIO, most: float = math.inf) -> int:
    """Returns the number of pages of a TIFF, or of frames of an animated PNG, WebP or GIF.

    `read_image` reads the first one. Overviews and masks, as GeoTIFFs have them, are no pages, nor
    are the further pictures in a JPEG of a phone. Pages after a damaged one are not counted.

    Args:
        path: The file.
        most: Number of pages of a TIFF after which the search ends: a hostile file has millions.
    """
    pages = 0
    errors = (*DECODING_ERRORS, Image.DecompressionBombError)
    with contextlib.suppress(*errors), Image.open(path) as image:
        if image.format in _ANIMATED:
            pages = getattr(image, "n_frames", 1)
        elif isinstance(image, TiffImagePlugin.TiffImageFile):
            for frame in itertools.count():
                image.seek(frame)
                pages += not image.tag_v2.get(_SUBFILE_TYPE, 0) & _OVERVIEW_OR_MASK
                if pages >= most or frame >= _MOST_OVERVIEWS * most:
                    break
    return max(1, pages)


def stored_size(image: Image.Image) -> tuple[int, int]:
    """Returns the (height, width) of the stored pixels of an image whose header alone was read.

    New releases of Pillow exchange the two on opening a TIFF that is to be rotated.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return image.tag_v2[_HEIGHT], image.tag_v2[_WIDTH]
    return image.height, image.width


def _check_channels(path, image, raw_mode, channels):
    if image.mode == "F":
        raise ValueError(
            f"{path} must hold integers. Received: floating-point values (mode F). Save it as "
            "8-bit RGB."
        )
    shown = len(image.getbands())
    held = shown if image.format != "TIFF" else image.tag_v2.get(_SAMPLES_PER_PIXEL, shown)
    # Of channels without a meaning Pillow drops those that it has no mode for.
    becomes_rgb = channels == 3 and held == shown
    has_hidden_fourth = channels == 4 and raw_mode == "RGBX"
    if not (becomes_rgb or has_hidden_fourth or channels == held == shown):
        found = f"{held}" if held == shown else f"{held}, of which Pillow reads {shown}"
        raise ValueError(
            f"{path} must hold the {counted(channels, 'channel')} that the model takes. Received: "
            f"{found} (Pillow's mode {image.mode})."
        )


def _is_transparent(image):
    """Returns whether a pixel is transparent, by an alpha channel, its colour or its index."""
    if "A" in image.getbands() and image.mode != "LAB":  # Of Lab, "A" is a colour.
        return image.getchannel("A").getextrema()[0] < 255
    if (transparent := image.info.get("transparency")) is None:
        return False
    if image.mode in GREY_16_BIT_MODES:
        return bool((np.asarray(image) == transparent).any())
    return image.convert("RGBA").getchannel("A").getextrema()[0] < 255


def _as_rgb(path, image):
    if image.mode in GREY_16_BIT_MODES:
        return np.repeat(_as_grey(path, image)[:, :, None], 3, axis=2)
    # Without its transparency a palette image converts to RGB in one step and without a warning.
    image.info.pop("transparency", None)
    return np.array(image.convert("RGB"))


def _as_grey(path, image):
    if image.mode not in GREY_16_BIT_MODES:
        return np.array(image.convert("L"))
    grey = np.asarray(image).astype("int64")
    if grey.min() < 0 or grey.max() > 65535:
        raise ValueError(f"{path} must hold values of at most 16 bits. Save it as 8-bit RGB.")
    return ((grey + 128) // 257).astype("uint8")


def decode(
    path: str | os.PathLike | BinaryIO, read_as: str | None = None, pixels: bool = True
) -> tuple[Image.Image, str]:
    """Returns the Pillow image, rotated by its EXIF orientation, and its raw mode, "" if unknown.

    Args:
        path: The file.
        read_as: Raw mode to decode with instead of the file's own.
        pixels: Whether to decode the pixels, and rotate them, or to read the header alone.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file cannot be read as an image, or is too large.
    """
    if not isinstance(path, bytes) and not hasattr(path, "read"):
        as_path("path", path)
    try:
        with Image.open(path) as image:
            if isinstance(image, TiffImagePlugin.TiffImageFile):
                image.tile = [
                    _reading_decompressed(_reading_plane(image, tile)) for tile in image.tile
                ]
            raw_mode = image.tile[0][3] if image.tile else ""
            if read_as is not None:
                image.tile = [_reading_as(read_as, tile) for tile in image.tile]
            if pixels:
                if isinstance(image, TiffImagePlugin.TiffImageFile):
                    # Without a name the file is not mapped into memory, for which Pillow takes
                    # the size of the rotated image instead of that of the stored one.
                    image.filename = ""
                ImageOps.exif_transpose(image, in_place=True)
                image.load()
    except FileNotFoundError:
        if isinstance(path, str | os.PathLike):
            check_links(path)
        raise
    except Image.DecompressionBombError as error:
        raise ValueError(
            f"{path} is too large to be decoded as a whole: {error} To train or evaluate, cut the "
            "image and label map into tiles. To predict, save it as GeoTIFF and do so in tiles "
            "(--tile)."
        ) from None
    except DECODING_ERRORS as error:
        reason = str(error)
        if isinstance(error, UnidentifiedImageError):
            reason = _why_unidentified(path) or reason
        raise ValueError(f"{path} cannot be read as an image: {reason}.") from None
    raw_mode = raw_mode[0] if isinstance(raw_mode, tuple) else raw_mode
    return image, raw_mode or ""


def _why_unidentified(path):
    """Returns why Pillow takes a file for no image, "" if it is none."""
    with contextlib.ExitStack() as stack:
        if isinstance(path, str | os.PathLike):
            file = stack.enter_context(open(path, "rb"))
        else:
            file = path
            file.seek(0)
        start = file.read(12)
    if start[:4] in _TIFF:
        return _UNKNOWN_TIFF
    if start[4:] in _HEIF:
        return _IS_HEIF
    return "" if start else "it is empty"


def _reading_plane(image, tile):
    """Returns a tile of a TIFF as it is stored.

    Of a channel that is stored apart, Pillow 13.0 takes the first letter of the raw mode alone:
    8 bits, and 0 for black.
    """
    tags = image.tag_v2
    if tile[0] != "raw" or tags.get(_PLANAR_CONFIGURATION) != _PLANES:
        return tile
    bits = tags.get(_BITS_PER_SAMPLE, (1,))
    if len(bits) == 1:
        more = (tags.get(_SAMPLE_FORMAT, (1,)), tags.get(_FILL_ORDER, 1), bits, ())
        kind = (tags.prefix, tags.get(_PHOTOMETRIC, 0), *more)
        _, raw_mode = TiffImagePlugin.OPEN_INFO.get(kind, (image.mode, tile[3][0]))
        return _reading_as(raw_mode, tile)
    if 16 not in bits:
        return tile
    return _reading_as(f"{tile[3][0]};16{'L' if tags.prefix == b'II' else 'B'}", tile)


def _reading_decompressed(tile):
    """Returns a tile of a TIFF in the byte order that libtiff decompresses to, this machine's.

    Pillow 13.0 does so for unsigned values of 16 bits alone.
    """
    if tile[0] != "libtiff":
        return tile
    return _reading_as(_WITH_BYTE_ORDER.sub(r"\1N\2", tile[3][0]), tile)


def _reading_as(raw_mode, tile):
    """Returns a tile of a Pillow image with another raw mode; some plugins use plain tuples."""
    *place, arguments = tile
    arguments = (raw_mode, *arguments[1:]) if isinstance(arguments, tuple) else raw_mode
    return getattr(tile, "_make", tuple)((*place, arguments))
