"""Pads images of different sizes into batches of a bounded number of shapes."""

import math
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_fcn.arguments import integers, wrong

PadTo = int | tuple[int, int] | Sequence[tuple[int, int]] | None
"""A multiple, a size (height, width), several sizes, or `None` for the largest of the batch."""


def check_pad_to(pad_to: PadTo, ignore_class: int | None) -> PadTo:
    """Returns `pad_to`; one size becomes a list of one, several are sorted from small to large.

    Raises:
        ValueError: If it is no `PadTo`, or `ignore_class` is `None`.
    """
    if pad_to is None:
        return None
    if ignore_class is None:
        raise ValueError(
            f"`pad_to` must be None without an `ignore_class` for the padding. Received: {pad_to=}."
        )
    if isinstance(pad_to, numbers.Integral) and _are_lengths([pad_to]):
        return int(pad_to)
    if isinstance(pad_to, Sequence):
        sizes: list[Any] = [pad_to] if _is_size(pad_to) else list(pad_to)
        if sizes and all(map(_is_size, sizes)):
            return sorted(map(tuple, sizes), key=math.prod)
    raise wrong(
        "pad_to", "an integer of at least 1, a size (height, width) or a list of sizes", pad_to
    )


def batched(
    examples: tf.data.Dataset,
    batch_size: int,
    ignore_class: int | None,
    pad_to: PadTo,
    drop_remainder: bool,
) -> tf.data.Dataset:
    """Returns batches of (image, label_map), padded at the bottom and at the right.

    Args:
        examples: Dataset of uint8 or float32 (height, width, channels) and int32 (height, width).
        batch_size: Examples per batch.
        ignore_class: Padding value of label maps; `None` for no padding.
        pad_to: As from `check_pad_to`.
        drop_remainder: Whether to drop the last batch if it is smaller.

    Raises:
        tensorflow.errors.InvalidArgumentError: While iterating, if an image is larger than every
            size of `pad_to`.
    """
    if ignore_class is None:
        return examples.batch(batch_size, drop_remainder=drop_remainder)
    image, _ = examples.element_spec
    values = (image.dtype.as_numpy_dtype(0), np.int32(ignore_class))
    batches = examples.padded_batch(
        batch_size, padding_values=values, drop_remainder=drop_remainder
    )
    if pad_to is None:
        return batches
    target = _next_multiple(pad_to) if isinstance(pad_to, int) else _smallest_fit(pad_to)
    static = pad_to[0] if not isinstance(pad_to, int) and len(pad_to) == 1 else (None, None)

    def pad(image, label_map):
        size = tf.shape(label_map)[1:]
        below, right = tf.unstack(target(size) - size)
        image = tf.pad(image, [[0, 0], [0, below], [0, right], [0, 0]])
        label_map = tf.pad(
            label_map, [[0, 0], [0, below], [0, right]], constant_values=ignore_class
        )
        image.set_shape((image.shape[0], *static, image.shape[-1]))
        label_map.set_shape((label_map.shape[0], *static))
        return image, label_map

    return batches.map(pad, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def _is_size(value):
    return isinstance(value, Sequence) and len(value) == 2 and _are_lengths(value)


def _are_lengths(values):
    try:
        return bool(integers("pad_to", values, least=1))
    except ValueError:
        return False


def _next_multiple(multiple):
    return lambda size: -(-size // multiple) * multiple


def _smallest_fit(sizes):
    def target(size):
        fits = tf.reduce_all(tf.constant(sizes) >= size, axis=1)
        check = tf.debugging.Assert(
            tf.reduce_any(fits),
            [f"`pad_to` must hold every batch. Received: pad_to={sizes}, and a batch of", size],
        )
        with tf.control_dependencies([check]):
            return tf.gather(sizes, tf.argmax(fits))

    return target
