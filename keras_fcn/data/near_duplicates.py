"""Finds images that are nearly the same in two splits, such as frames of one video.

A model that is validated on the neighbour of a training frame has seen nearly the same pixels: its
scores are too good. Equal images have equal bytes; near ones have similar perceptual hashes.

References:
    - [Krawetz, Kind of Like That, 2013](
      https://www.hackerfactor.com/blog/index.php?/archives/529-Kind-of-Like-That.html)
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from keras_fcn.data.check_report import Problem

_SIDE = 8
NUM_BITS = 2 * _SIDE * _SIDE

MAX_DISTANCE = 14
"""Most bits of 128 in which near duplicates differ.

Measured on the 468 training and validation images of SegNet's CamVid: copies that are resized to 40
to 150 %, with brightness and contrast changed by 20 % and saved as JPEG of quality 50 to 90 differ
from the original in at most 9 bits; frames 2/30 s apart in at most 14, half of them in at most 6;
frames of different videos in at least 28, and the nearest pair of a training and a validation image
in 26. A hash of 64 bits separates less: copies differ in up to 8, different videos in as few as 9.
"""

_ROWS_AT_ONCE = 1024
_NUM_SHOWN = 3


class HashedImage(NamedTuple):
    """An image of a split.

    Attributes:
        path: Its file.
        digest: Checksum of its pixels, equal for equal images.
        bits: As from `difference_hash`.
    """

    path: str
    digest: bytes
    bits: np.ndarray | None


def difference_hash(image: np.ndarray) -> np.ndarray | None:
    """Returns the difference hash (dHash) of an image along both axes.

    The grey image is reduced to 8 rows of 9 pixels, each the mean of its area; a bit says whether a
    pixel is brighter than its left neighbour. Another 64 bits compare 9 rows of 8 pixels with the
    row above.

    Args:
        image: (height, width, channels), uint8.

    Returns:
        (128,), bool; `None` if most of the compared pixels are equal, as in images of one colour,
        whose bits mean nothing.
    """
    grey = grey_image(image)
    rows = np.asarray(grey.resize((_SIDE + 1, _SIDE), Image.Resampling.BOX), "int16")
    columns = np.asarray(grey.resize((_SIDE, _SIDE + 1), Image.Resampling.BOX), "int16")
    differences = np.concatenate([np.diff(rows, axis=1).ravel(), np.diff(columns, axis=0).ravel()])
    if 2 * np.count_nonzero(differences) < NUM_BITS:
        return None
    return differences > 0


def near_pairs(
    hashes: np.ndarray, others: np.ndarray, max_distance: int = MAX_DISTANCE
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the pairs of hashes that differ in few bits (Hamming distance).

    Args:
        hashes: (n, bits), bool.
        others: (m, bits), bool.
        max_distance: Most bits in which a pair may differ.

    Returns:
        The indices in `hashes`, those in `others`, and the distances, each (pairs,), int64.

    Examples:
        >>> one, other, distance = near_pairs(np.eye(3) > 0, np.zeros((1, 3)) > 0, max_distance=1)
        >>> one.tolist(), other.tolist(), distance.tolist()
        ([0, 1, 2], [0, 0, 0], [1, 1, 1])
    """
    # The product of bits as -1 and 1 is the number of equal minus that of different ones, exact in
    # float32. 10,000 x 10,000 take 1.4 s of CPU time; NumPy counts bits only since 2.0.
    signs = np.where(others, 1, -1).astype("float32").T
    found = []
    for start in range(0, len(hashes), _ROWS_AT_ONCE):
        rows = np.where(hashes[start : start + _ROWS_AT_ONCE], 1, -1).astype("float32")
        products = rows @ signs
        one, other = np.nonzero(products >= hashes.shape[1] - 2 * max_distance)
        distances = (hashes.shape[1] - products[one, other].astype("int64")) // 2
        found.append((one + start, other, distances))
    if not found:
        return (np.zeros(0, "int64"),) * 3
    one, other, distance = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return one, other, distance


def near_duplicates(splits: Mapping[str, Sequence[HashedImage]]) -> Iterator[Problem]:
    """Yields a problem for every two splits with near duplicates; equal images do not count.

    Args:
        splits: The images of each split by its name.
    """
    usable = {
        name: [image for image in images if image.bits is not None]
        for name, images in splits.items()
    }
    for first, second in itertools.combinations(usable, 2):
        if usable[first] and usable[second]:
            yield from _between(first, usable[first], second, usable[second])


def _between(first, images, second, others):
    one, other, distance = near_pairs(*(np.array([i.bits for i in s]) for s in (images, others)))
    differs = np.array(
        [images[i].digest != others[j].digest for i, j in zip(one, other, strict=True)], bool
    )
    one, other, distance = one[differs], other[differs], distance[differs]
    if not len(one):
        return
    order = np.argsort(distance, kind="stable")
    # Each image once, so that a few frames of a halted camera do not fill the list.
    shown: list[tuple[str, str, int]] = []
    for place in order:
        pair = images[one[place]].path, others[other[place]].path, int(distance[place])
        if not any(set(pair[:2]) & set(known[:2]) for known in shown):
            shown.append(pair)
        if len(shown) == _NUM_SHOWN:
            break
    nearest = ", ".join(f"{a} and {b} ({bits} of {NUM_BITS} bits)" for a, b, bits in shown)
    num_first, num_second = len(np.unique(one)), len(np.unique(other))
    yield Problem(
        "near-duplicate",
        tuple(path for a, b, _ in shown for path in (a, b)),
        f"{_images(num_first)} of {first} and {num_second} of {second} are nearly the same, as "
        f"frames of one video are, nearest by their difference hash: {nearest}. Scores on such "
        "images are too good: keep each video in one split (--group-by of keras-fcn train).",
    )


def _images(count):
    return f"{count} image{'s' * (count > 1)}"


def grey_image(image: np.ndarray) -> Image.Image:
    """Returns the luma of three channels, or the mean of another number of them, in 8 bits.

    Args:
        image: (height, width, channels), uint8.
    """
    if image.shape[-1] == 3:
        return Image.fromarray(image).convert("L")
    return Image.fromarray(image.mean(axis=-1).astype("uint8"))
