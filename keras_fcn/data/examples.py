"""Reads and checks pairs of files without TensorFlow; returns {"image", "label_map"}."""

import collections
import concurrent.futures
import os
import re
import struct
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps

from keras_fcn.data.files import Pair, first_few
from keras_fcn.label_spaces.label_space import check_colour

Colour = tuple[int, int, int]
"""Red, green and blue, from 0 to 255."""

Palette = Sequence[Colour] | Mapping[Colour, int]
"""Colours of the classes 0, 1, ..., or a dictionary from colours to class ids."""

_GREY_16_BIT_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_LABEL_MAP_MODES = ("1", "L", "P", *_GREY_16_BIT_MODES)
_COLOUR_MODES = ("RGB", "RGBA")
_GREY_MODES = ("1", "L")
# Pillow stretches grey of 2 and 4 bits to 0..255: class 1 would come out as 85 or 17. TIFF may hold
# the bits of a byte in reverse.
_STRETCHED_BY = {"L;2": 85, "L;2R": 85, "L;4": 17, "L;4R": 17}
# Mode of a TIFF whose zero is white (MinIsWhite): Pillow inverts its values.
_INVERTED = re.compile(r"[1L];\d*I")

_SAMPLES_PER_PIXEL = 277  # A tag of TIFF.

DECODING_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
)
"""Everything that Pillow's decoders raise for a file that is no image, truncated or damaged."""


def read_image(path: str | os.PathLike | BinaryIO, channels: int = 3) -> np.ndarray:
    """Reads an image with the channels that a model takes, rotated by its EXIF orientation.

    Grey of 16 bits is scaled so that 65535 becomes 255. With three channels, grey, palette and CMYK
    images are converted to RGB, and an alpha channel is dropped, with a warning if it is not
    opaque. A fourth channel that is no alpha, such as near infrared in a TIFF, raises an error.

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
    image, raw_mode = _decode(path)
    _check_channels(path, image, raw_mode, channels)
    if channels == 3:
        return _as_rgb(path, image)
    if channels == 1:
        return _as_grey(path, image)[:, :, None]
    if raw_mode == "RGBX":
        # Pillow drops the fourth channel of RGBX. Read as XRGB, it drops the first instead.
        fourth, _ = _decode(path, "XRGB")
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
    image, raw_mode = _decode(path, pixels=False)
    if channels is not None:
        _check_channels(path, image, raw_mode, channels)
    return image.height, image.width


def _check_channels(path, image, raw_mode, channels):
    if image.mode == "F":
        raise ValueError(
            f"{path} must hold integers. Received: floating-point values (mode F). Save it as "
            "8-bit RGB."
        )
    shown = len(image.getbands())
    held = shown if image.format != "TIFF" else image.tag_v2.get(_SAMPLES_PER_PIXEL, shown)
    becomes_rgb = channels == 3 and held <= max(3, shown)
    has_hidden_fourth = channels == 4 and raw_mode == "RGBX"
    if not (becomes_rgb or has_hidden_fourth or channels == held == shown):
        raise ValueError(
            f"{path} must hold the {channels} channels that the model takes. Received: {held} "
            f"(Pillow's mode {image.mode})."
        )


def _as_rgb(path, image):
    if image.mode in _GREY_16_BIT_MODES:
        return np.repeat(_as_grey(path, image)[:, :, None], 3, axis=2)
    if "A" in image.getbands() and image.getchannel("A").getextrema()[0] < 255:
        warnings.warn(
            "Alpha channels are dropped because the model takes three channels. Transparent pixels "
            "keep the colours that are stored under them.",
            stacklevel=2,
        )
    # Without its transparency a palette image converts to RGB in one step and without a warning.
    image.info.pop("transparency", None)
    return np.array(image.convert("RGB"))


def _as_grey(path, image):
    if image.mode not in _GREY_16_BIT_MODES:
        return np.array(image.convert("L"))
    grey = np.asarray(image).astype("int64")
    if grey.min() < 0 or grey.max() > 65535:
        raise ValueError(f"{path} must hold values of at most 16 bits. Save it as 8-bit RGB.")
    return ((grey + 128) // 257).astype("uint8")


def read_label_map(path: str | os.PathLike, palette: Palette | None = None) -> np.ndarray:
    """Reads a label map of class ids (grey values or palette indices) or of colours.

    The colour table of a palette file is ignored. A true-colour file needs a `palette`, even if
    red, green and blue are equal. If `palette` holds only greys, such as black and white, the
    values of a grey file of up to 8 bits are colours of `palette`, too. The EXIF orientation is
    applied as in images, and an alpha channel is dropped.

    Args:
        path: PNG, TIFF or BMP.
        palette: Class ids of the colours of a true-colour file: the colours of the classes 0, 1,
            ..., such as `LabelSpace.palette`, or a dictionary from colours to class ids. Several
            colours may have one class id, and void may have its own: `{(0, 0, 0): 255, ...}`.

    Output shape:
        (height, width), int32.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no image, is truncated, is a JPEG, or holds colours that are not
            in `palette`.
    """
    image, raw_mode = _decode(path)
    if image.mode not in _LABEL_MAP_MODES and (palette is None or image.mode not in _COLOUR_MODES):
        raise ValueError(
            f"{path} must hold one class id per pixel. Received: a colour image (Pillow's mode "
            f"{image.mode}). Save it as a grey or palette PNG whose values are the class ids"
            + (
                ", or pass the `palette` of its colours (--palette)."
                if image.mode in _COLOUR_MODES
                else "."
            )
        )
    if image.format in ("JPEG", "MPO"):
        raise ValueError(
            f"{path} must be lossless. Received: a JPEG, whose compression changes class ids. Save "
            "the label map as PNG, from its source."
        )
    if _INVERTED.match(raw_mode):
        raise ValueError(
            f"{path} must store black as 0. Received: a TIFF whose zero is white (MinIsWhite), "
            "whose values programs read differently. Save the label map as PNG, from its source."
        )
    if image.mode in _GREY_MODES and palette is not None and is_grey(palette):
        image = image.convert("RGB")
    if image.mode in _COLOUR_MODES:
        return _class_ids(path, np.asarray(image)[..., :3], *_colour_table(palette))
    return np.array(image, dtype="int32") // _STRETCHED_BY.get(raw_mode, 1)


def is_grey(palette: Palette) -> bool:
    """Returns whether all colours of a palette are greys."""
    return all(len(set(colour)) == 1 for colour in palette)


def check_label_map(
    path: str | os.PathLike, label_map: np.ndarray, num_classes: int, ignore_class: int | None
) -> None:
    """Checks that a label map holds only class ids and `ignore_class`.

    Args:
        path: The file that it was read from, for the message.
        label_map: (height, width), any integer type.
        num_classes: Class ids are 0 to `num_classes` - 1.
        ignore_class: Another valid value, or `None`.

    Raises:
        ValueError: If there is another value. The message names the file, the value and its first
            position.
    """
    wrong = (label_map < 0) | (label_map >= num_classes)
    if ignore_class is not None:
        wrong &= label_map != ignore_class
    if not wrong.any():
        return
    row, column = (int(index) for index in np.argwhere(wrong)[0])
    value = int(label_map[row, column])
    allowed = f"0 to {num_classes - 1}"
    if ignore_class is not None:
        allowed += f" and {ignore_class} (`ignore_class`)"
    others = [str(other) for other in np.unique(label_map[wrong]) if other != value]
    raise ValueError(
        f"{path} holds the value {value} at row {row}, column {column}"
        + (f" (elsewhere also {first_few(others)})" if others else "")
        + f", but the class ids of {num_classes} classes are {allowed}. "
        + _remedy(value, np.unique(label_map), num_classes)
    )


def check_same_size(
    image: str | os.PathLike,
    image_size: tuple[int, int],
    label_map: str | os.PathLike,
    label_map_size: tuple[int, int],
) -> None:
    """Checks that an image and its label map have the same size.

    Args:
        image: File of the image, for the message.
        image_size: (height, width).
        label_map: File of the label map, for the message.
        label_map_size: (height, width).

    Raises:
        ValueError: If the sizes differ.
    """
    if tuple(image_size) == tuple(label_map_size):
        return
    (height, width), (label_height, label_width) = image_size, label_map_size
    message = (
        "An image and its label map must have the same size. Received (width x height): "
        f"{image} {width}x{height}, {label_map} {label_width}x{label_height}."
    )
    if (height, width) == (label_width, label_height):
        message += " One of them may lack the EXIF orientation that the other has."
    raise ValueError(message)


def read_example(
    pair: Pair,
    num_classes: int | None = None,
    ignore_class: int | None = None,
    palette: Palette | None = None,
    channels: int = 3,
) -> dict[str, np.ndarray]:
    """Reads and checks an image and its label map.

    Args:
        pair: Their files, a `Pair` or two paths.
        num_classes: See `check_label_map`; `None` allows any values.
        ignore_class: See `check_label_map`.
        palette: See `read_label_map`.
        channels: See `read_image`.

    Returns:
        "image": (height, width, channels), uint8, and "label_map": (height, width), int32.

    Raises:
        FileNotFoundError: If one of the files does not exist.
        ValueError: If a file cannot be read, the sizes differ, or a value is no class id.
    """
    pair = Pair.of(pair)
    image = read_image(pair.image, channels)
    label_map = read_label_map(pair.label_map, palette)
    check_same_size(pair.image, image.shape[:2], pair.label_map, label_map.shape)
    if num_classes is not None:
        check_label_map(pair.label_map, label_map, num_classes, ignore_class)
    return {"image": image, "label_map": label_map}


def read_examples(pairs: Sequence[Pair], **rules: Any) -> Iterator[dict[str, np.ndarray]]:
    """Reads and checks pairs in their order, two ahead of the caller.

    Args:
        pairs: As from `find_pairs`.
        **rules: Arguments of `read_example`.

    Returns:
        What `read_example` returns, pair by pair.

    Raises:
        FileNotFoundError, ValueError: As `read_example`, when its turn comes.
    """
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        ahead: collections.deque[concurrent.futures.Future] = collections.deque()
        for pair in pairs:
            ahead.append(thread.submit(read_example, pair, **rules))
            if len(ahead) > 2:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def check_pairs(
    pairs: Sequence[Pair],
    num_classes: int,
    ignore_class: int | None,
    progress: Callable[[int, int], None] | None = None,
    palette: Palette | None = None,
    channels: int = 3,
) -> dict[tuple[int, int], int]:
    """Reads every pair once, so that a bad file is found before training and not hours into it.

    Args:
        pairs: As from `find_pairs`.
        num_classes: See `check_label_map`.
        ignore_class: See `check_label_map`.
        progress: Called after every pair with the number of pairs done and in total.
        palette: See `read_label_map`.
        channels: See `read_image`.

    Returns:
        Number of images of each size (height, width).

    Raises:
        FileNotFoundError, ValueError: As `read_example`, for the first bad pair.
    """

    def size(pair):
        return read_example(pair, num_classes, ignore_class, palette, channels)["label_map"].shape

    sizes: collections.Counter[tuple[int, int]] = collections.Counter()
    with concurrent.futures.ThreadPoolExecutor() as threads:
        for done, image_size in enumerate(threads.map(size, pairs), start=1):
            sizes[image_size] += 1
            if progress is not None:
                progress(done, len(pairs))
    return dict(sizes)


def _decode(path, read_as=None, pixels=True):
    """Returns the Pillow image, rotated by its EXIF orientation, and its raw mode, "" if unknown.

    Args:
        path: The file.
        read_as: Raw mode to decode with instead of the file's own.
        pixels: Whether to decode the pixels, and rotate them, or to read the header alone.
    """
    try:
        with Image.open(path) as image:
            raw_mode = image.tile[0][3] if image.tile else ""
            if read_as is not None:
                image.tile = [_reading_as(read_as, tile) for tile in image.tile]
            if pixels:
                ImageOps.exif_transpose(image, in_place=True)
                image.load()
    except FileNotFoundError:
        raise
    except Image.DecompressionBombError as error:
        raise ValueError(
            f"{path} is too large to be decoded as a whole: {error} Save it as GeoTIFF and predict "
            "it in tiles (--tile)."
        ) from None
    except DECODING_ERRORS as error:
        raise ValueError(f"{path} cannot be read as an image: {error}.") from None
    return image, raw_mode[0] if isinstance(raw_mode, tuple) else raw_mode


def _reading_as(raw_mode, tile):
    """Returns a tile of a Pillow image with another raw mode; older Pillow uses plain tuples."""
    *place, arguments = tile
    arguments = (raw_mode, *arguments[1:]) if isinstance(arguments, tuple) else raw_mode
    return getattr(tile, "_make", tuple)((*place, arguments))


def _class_ids(path, image, colours, class_ids):
    """Looks up packed pixels in sorted `colours` by bisection, without memory per colour."""
    packed = _packed(image)
    place = np.minimum(np.searchsorted(colours, packed), len(colours) - 1)
    known = colours[place] == packed
    if not known.all():
        row, column = (int(index) for index in np.argwhere(~known)[0])
        colour = tuple(image[row, column].tolist())
        others = len(np.unique(packed[~known])) - 1
        raise ValueError(
            f"{path} holds the colour {colour} at row {row}, column {column}"
            + (f" (and {others} other unknown colours)" if others else "")
            + f", which is none of the {len(colours)} colours of `palette`. If it marks pixels to "
            f"leave out, pass `palette` as a dictionary that maps it to the ignored class: "
            f"{{{colour}: 255, ...}}."
        )
    return class_ids[place]


def _colour_table(palette):
    """Returns the sorted packed colours and their class ids."""
    if not isinstance(palette, Mapping):
        pairs = [(colour, class_id) for class_id, colour in enumerate(palette)]
    else:
        pairs = palette.items()
    table = {}
    for colour, class_id in pairs:
        check_colour(colour)
        if table.setdefault(tuple(colour), class_id) != class_id:
            raise ValueError(
                "`palette` must map each colour to one class id. Received: the colour "
                f"{tuple(colour)} for {table[tuple(colour)]} and {class_id}."
            )
    if not table:
        raise ValueError(f"`palette` must hold at least one colour. Received: {palette=}.")
    colours = _packed(np.array(list(table), "uint8"))
    order = np.argsort(colours)
    return colours[order], np.array(list(table.values()), "int32")[order]


def _packed(colours):
    red, green, blue = np.moveaxis(colours.astype("int32"), -1, 0)
    return red << 16 | green << 8 | blue


def _remedy(value, values, num_classes):
    if num_classes == 2 and values.tolist() == [0, 255]:
        return "Save the second class as 1 instead of 255."
    remedy = (
        f"If {value} marks pixels to leave out, pass `ignore_class={value}` "
        f"(--ignore-class {value})"
    )
    if value < num_classes or value == 255:
        return f"{remedy}."
    return f"{remedy}; if it is a class, `num_classes` must be at least {value + 1}."
