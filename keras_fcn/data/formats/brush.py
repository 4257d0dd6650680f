"""Decodes the brush strokes and bitmasks of Label Studio."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_fcn.data.image_files import decode

_BASE64 = ";base64,"


def decode_brush(rle: Sequence[int], size: tuple[int, int], origin: str) -> np.ndarray:
    """Returns the pixels of a brush stroke, those that are not transparent.

    The bytes hold a bit stream: the number of values (32 bits), the bits of a value less 1 (5), the
    bits of four lengths less 1 (4 each); then runs: a bit for whether one value repeats, the choice
    of a length (2), the number of values less 1, and one value or as many. The values are red,
    green, blue and alpha of each pixel.

    Args:
        rle: The bytes.
        size: (height, width).
        origin: What to call it in messages.

    Output shape:
        (height, width), bool.

    Raises:
        ValueError: If the bytes do not hold an image of `size`.

    References:
        - [rle-pack](https://github.com/thi-ng/umbrella/tree/develop/packages/rle-pack)
    """
    height, width = size
    try:
        values = _unpack(np.array(rle, "int64"), height * width * 4)
    except (ValueError, IndexError, TypeError, OverflowError) as error:
        raise ValueError(
            f"{origin} must hold brush strokes of {width}x{height} pixels (width x height). "
            f"Received: {error}."
        ) from None
    return values.reshape(height, width, 4)[..., 3] > 0


def decode_bitmask(url: Any, size: tuple[int, int], origin: str) -> np.ndarray:
    """Returns the pixels of a bitmask, those that are not transparent.

    Args:
        url: Data URL of a PNG in base64.
        size: (height, width).
        origin: What to call it in messages.

    Output shape:
        (height, width), bool.

    Raises:
        ValueError: If `url` does not hold an image of `size`.
    """
    height, width = size
    try:
        content = base64.b64decode(str(url).partition(_BASE64)[2], validate=True)
        image = decode(io.BytesIO(content))[0].convert("RGBA")
    except ValueError:
        image = None
    if image is None or image.size != (width, height):
        raise ValueError(
            f"{origin} must hold bitmasks of {width}x{height} pixels (width x height) as PNG in "
            f"base64. Received: {str(url)[:40] if image is None else image.size}."
        )
    return np.asarray(image)[..., 3] > 0


def _unpack(data, expected):
    if data.ndim != 1 or not len(data) or data.min() < 0 or data.max() > 255:
        raise ValueError("something else than a list of bytes")
    bits, place = np.unpackbits(data.astype("uint8")), 0
    text = (bits + ord("0")).tobytes()  # Python reads a few digits much faster than NumPy.

    def skip(width):
        nonlocal place
        place += width
        if place > len(text):
            raise ValueError("a list of bytes that ends too early")

    def read(width):
        skip(width)
        return int(text[place - width : place], 2)

    if (total := read(32)) != expected:
        raise ValueError(f"{total} values instead of {expected}")
    word = read(5) + 1
    widths = [read(4) + 1 for _ in range(4)]
    values, done = np.zeros(total, "uint8" if word <= 8 else "uint32"), 0
    while done < total:
        repeats, choice = read(1), read(2)
        end = min(done + read(widths[choice]) + 1, total)
        if repeats or end == done + 1:
            values[done:end] = read(word)
        else:
            start = place
            skip(word * (end - done))
            taken = bits[start:place].reshape(end - done, word)
            values[done:end] = taken @ (1 << np.arange(word, dtype="int64")[::-1])
        done = end
    return values
