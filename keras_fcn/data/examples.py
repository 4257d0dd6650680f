"""Reads and checks pairs of files without TensorFlow; returns {"image", "label_map"}."""

import collections
import concurrent.futures
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from keras_fcn.arguments import MOST_CLASSES, as_tuple, integer, optional_integer, wrong
from keras_fcn.data.files import Pair
from keras_fcn.data.image_files import read_image
from keras_fcn.data.label_map_files import Palette, check_label_map, read_label_map


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
    pixels: np.ndarray | None = None,
) -> dict[tuple[int, int], int]:
    """Reads every pair once, so that a bad file is found before training and not hours into it.

    Args:
        pairs: As from `find_pairs`.
        num_classes: See `check_label_map`.
        ignore_class: See `check_label_map`.
        progress: Called after every pair with the number of pairs done and in total.
        palette: See `read_label_map`.
        channels: See `read_image`.
        pixels: (num_classes + 1,) integers, to which the number of pixels of each class is added,
            and to the last one that of ignored pixels.

    Returns:
        Number of images of each size (height, width).

    Raises:
        FileNotFoundError, ValueError: As `read_example`, for the first bad pair.
    """
    pairs = as_tuple("pairs", pairs)
    num_classes = integer("num_classes", num_classes, 1, MOST_CLASSES)
    ignore_class = optional_integer("ignore_class", ignore_class)
    if pixels is not None and getattr(pixels, "shape", None) != (num_classes + 1,):
        raise wrong("pixels", f"an array of {num_classes + 1} integers", pixels)

    def size_and_pixels(pair):
        label_map = read_example(pair, num_classes, ignore_class, palette, channels)["label_map"]
        ignored = label_map == ignore_class
        counts = np.bincount(
            np.where(ignored, num_classes, label_map).ravel(), minlength=num_classes + 1
        )
        return label_map.shape, counts

    sizes: collections.Counter[tuple[int, int]] = collections.Counter()
    with concurrent.futures.ThreadPoolExecutor() as threads:
        for done, (size, counts) in enumerate(threads.map(size_and_pixels, pairs), start=1):
            sizes[size] += 1
            if pixels is not None:
                pixels += counts
            if progress is not None:
                progress(done, len(pairs))
    return dict(sizes)
