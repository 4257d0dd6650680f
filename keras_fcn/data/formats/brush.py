"""Decodes the brush strokes of Label Studio."""

from collections.abc import Sequence

import numpy as np


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


def _unpack(data, expected):
    if data.ndim != 1 or not len(data) or data.min() < 0 or data.max() > 255:
        raise ValueError("something else than a list of bytes")
    bits, place = np.unpackbits(data.astype("uint8")), 0

    def read(width, count=1):
        nonlocal place
        taken = bits[place : place + width * count]
        if len(taken) < width * count:
            raise ValueError("a list of bytes that ends too early")
        place += width * count
        return taken.reshape(count, width) @ (1 << np.arange(width, dtype="int64")[::-1])

    if (total := int(read(32)[0])) != expected:
        raise ValueError(f"{total} values instead of {expected}")
    word = int(read(5)[0]) + 1
    widths = [int(width) + 1 for width in read(4, 4)]
    values, done = np.zeros(total, "int64"), 0
    while done < total:
        repeats, choice = read(1)[0], read(2)[0]
        count = min(int(read(widths[choice])[0]) + 1, total - done)
        values[done : done + count] = read(word, 1 if repeats else count)
        done += count
    return values
