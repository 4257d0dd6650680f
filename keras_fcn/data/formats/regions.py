"""Draws polygons and run lengths as pycocotools draws them."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_fcn.io.extras import check_installed

# An edge takes memory in proportion to its length.
_MOST_SIZES_OUTSIDE = 10


def check_pycocotools() -> None:
    """Raises an ImportError if pycocotools is not installed."""
    check_installed("formats", ("pycocotools",), "for polygons and COCO's run lengths")


def of_polygons(
    polygons: Sequence[Sequence[float]], size: tuple[int, int], origin: str
) -> dict[str, Any]:
    """Returns the union of polygons in COCO's compressed run-length encoding.

    Args:
        polygons: Each as x, y, x, y, ... of at least 3 points, in pixels.
        size: (height, width).
        origin: What to call it in messages.

    Raises:
        ValueError: If a coordinate is no finite number or far outside of the image.
    """
    from pycocotools import mask

    most = _MOST_SIZES_OUTSIDE * max(size)
    for polygon in polygons:
        if not isinstance(polygon, list | tuple):
            raise ValueError(f"{origin} must hold lists of polygons. Received: {polygon!r}.")
        wrong = [x for x in polygon if not is_number(x) or not math.isfinite(x) or abs(x) > most]
        if wrong or len(polygon) < 6 or len(polygon) % 2:
            raise ValueError(
                f"{origin} must hold polygons of at least 3 points x, y that are near the image. "
                f"Received: {wrong[0] if wrong else list(polygon)!r}."
            )
    return mask.merge(mask.frPyObjects([list(map(float, p)) for p in polygons], *size))


def of_run_lengths(rle: Any, size: tuple[int, int], origin: str) -> dict[str, Any]:
    """Returns run lengths, compressed or not, in COCO's compressed run-length encoding.

    Args:
        rle: Dictionary of `size` and `counts`.
        size: (height, width) of the image.
        origin: What to call it in messages.

    Raises:
        ValueError: If the run lengths are not those of an image of `size`.
    """
    from pycocotools import mask

    counts, rle_size = rle.get("counts"), rle.get("size")
    if not isinstance(rle_size, list | tuple) or tuple(rle_size) != tuple(size):
        raise ValueError(
            f"{origin} must hold run lengths of the size [height, width] of its image, "
            f"{list(size)}. Received: {rle_size!r}."
        )
    if isinstance(counts, list):
        is_valid = all(type(count) is int and count >= 0 for count in counts)
        if not is_valid or sum(counts) != size[0] * size[1]:
            raise ValueError(
                f"{origin} must hold run lengths that add up to its {size[0] * size[1]} pixels. "
                f"Received: {sum(counts) if is_valid else counts[:9]!r}."
            )
        return mask.frPyObjects({"counts": counts, "size": list(size)}, *size)
    if not isinstance(counts, str | bytes) or _pixels(counts) != size[0] * size[1]:
        raise ValueError(
            f"{origin} must hold compressed run lengths of its {size[0] * size[1]} pixels. "
            f"Received: {counts[:40] if isinstance(counts, str | bytes) else counts!r}."
        )
    return {"counts": counts, "size": list(size)}


def decode(region: dict[str, Any]) -> np.ndarray:
    """Returns the pixels of a region, bool (height, width)."""
    from pycocotools import mask

    return mask.decode(region).astype(bool)


def area(region: dict[str, Any]) -> int:
    """Returns the number of pixels of a region."""
    from pycocotools import mask

    return int(mask.area(region))


def is_number(value: Any) -> bool:
    """Returns whether a JSON value is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _pixels(text):
    """Returns the sum of compressed run lengths, -1 if one is damaged.

    pycocotools writes as many pixels as the run lengths say, also beyond the image.
    """
    counts: list[int] = []
    value = shift = 0
    for letter in text.encode() if isinstance(text, str) else text:
        if not 48 <= letter < 112:
            return -1
        bits = letter - 48
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        value -= (bits & 16) << (shift - 4)
        if len(counts) > 2:
            value += counts[-2]
        if value < 0:
            return -1
        counts.append(value)
        value = shift = 0
    return sum(counts) if not shift else -1
