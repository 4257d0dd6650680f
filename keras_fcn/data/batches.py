"""Pairs of files -> batches of images and label maps, as `keras.Model.fit` takes them."""

import itertools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_fcn.data.examples import Pair, read_example, read_label_map
from keras_fcn.data.transforms import random_flip

_DATA_FORMATS = ("channels_last", "channels_first")


def training_batches(
    pairs: Sequence[Pair],
    *,
    num_classes: int,
    ignore_class: int | None,
    batch_size: int,
    seed: int,
    flip: bool = True,
    data_format: str = "channels_last",
) -> tf.data.Dataset:
    """Batches in random order with random flips, every pair once per epoch.

    Every iteration over the dataset is the next epoch, with an order and flips of its own. They
    follow from `seed` and the number of the epoch alone, however many threads read.

    Images smaller than the largest of their batch are padded at the bottom and at the right: the
    image with 0, the label map with `ignore_class`. The last batch of an epoch may be smaller.

    Args:
        pairs: As from `find_pairs`.
        num_classes: Number of classes; the label maps are checked for it as they are read.
        ignore_class: Class id of pixels to leave out, or `None`.
        batch_size: Images per batch.
        seed: Integer of at least 0.
        flip: Whether to mirror half of the examples left to right.
        data_format: `"channels_last"`, or `"channels_first"` for images (batch, 3, height, width).

    Returns:
        Dataset of (image, label_map): (batch, height, width, 3) uint8 and (batch, height,
        width) int32.

    Raises:
        ValueError: If an argument is not as described, or if the sizes of the images differ where
            `batch_size` is greater than 1 and `ignore_class` is `None`.
        tensorflow.errors.InvalidArgumentError: While iterating, if a file cannot be used; the
            message names it. `check_pairs` finds such files beforehand.
    """
    if not isinstance(seed, int) or seed < 0:
        raise ValueError(f"`seed` must be an integer of at least 0. Received: {seed=}.")
    pairs = _checked(pairs, num_classes, ignore_class, batch_size, data_format)
    order = _training_order(len(pairs), seed)
    read = _reader(pairs, num_classes, ignore_class)

    def example(index, transform_seed):
        image, label_map = read(index)
        return random_flip(image, label_map, transform_seed) if flip else (image, label_map)

    return _batches(order, example, batch_size, ignore_class, data_format)


def evaluation_batches(
    pairs: Sequence[Pair],
    *,
    num_classes: int,
    ignore_class: int | None,
    batch_size: int = 1,
    data_format: str = "channels_last",
) -> tf.data.Dataset:
    """Batches in the order of `pairs`, nothing changed but the padding.

    Padding is that of `training_batches`. A padded image can score slightly differently from the
    image alone, near the padding; where sizes differ, a `batch_size` of 1 avoids it.

    Args, Returns and Raises: See `training_batches`.
    """
    pairs = _checked(pairs, num_classes, ignore_class, batch_size, data_format)
    order = tf.data.Dataset.range(len(pairs))
    read = _reader(pairs, num_classes, ignore_class)
    return _batches(order, read, batch_size, ignore_class, data_format)


def _checked(pairs, num_classes, ignore_class, batch_size, data_format):
    """`pairs` as a list, after all checks that need no image to be decoded twice."""
    pairs = list(pairs)
    if not pairs:
        raise ValueError("`pairs` must hold at least one pair. Received: pairs=[].")
    if not isinstance(num_classes, int) or num_classes < 2:
        raise ValueError(
            f"`num_classes` must be an integer of at least 2. Received: {num_classes=}."
        )
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"`batch_size` must be an integer of at least 1. Received: {batch_size=}.")
    if data_format not in _DATA_FORMATS:
        raise ValueError(f"`data_format` must be one of {_DATA_FORMATS}. Received: {data_format=}.")
    if ignore_class is None and batch_size > 1:
        _check_equal_sizes(pairs)
    return pairs


def _check_equal_sizes(pairs):
    # The label maps alone: smaller files than the images, and `read_example` compares the two.
    first, size = pairs[0].label_map, read_label_map(pairs[0].label_map).shape
    for pair in pairs[1:]:
        other = read_label_map(pair.label_map).shape
        if other != size:
            raise ValueError(
                "Images of different sizes can share a batch only by padding, whose pixels need an "
                f"`ignore_class`. Received (width x height): {first} {size[1]}x{size[0]}, "
                f"{pair.label_map} {other[1]}x{other[0]}. Pass `batch_size=1` (--batch-size 1) or "
                "an `ignore_class` (such as --ignore-class 255)."
            )


def _training_order(num_pairs, seed):
    """Dataset of (index of a pair, seed of its transforms); every iteration is the next epoch."""
    epochs = itertools.count()

    def one_epoch():
        generator = np.random.default_rng((seed, next(epochs)))
        indices = generator.permutation(num_pairs)
        transform_seeds = generator.integers(2**31, size=(num_pairs, 2), dtype="int32")
        yield from zip(indices, transform_seeds, strict=True)

    signature = (tf.TensorSpec((), tf.int64), tf.TensorSpec((2,), tf.int32))
    order = tf.data.Dataset.from_generator(one_epoch, output_signature=signature)
    return order.apply(tf.data.experimental.assert_cardinality(num_pairs))


def _reader(pairs, num_classes, ignore_class):
    """Function of the index of a pair, as a tensor, to its image and label map."""

    def read_files(index):
        example = read_example(pairs[index], num_classes, ignore_class)
        return example["image"], example["label_map"]

    def read(index):
        image, label_map = tf.numpy_function(
            read_files, [index], (tf.uint8, tf.int32), stateful=False
        )
        image.set_shape((None, None, 3))
        label_map.set_shape((None, None))
        return image, label_map

    return read


def _batches(order, example, batch_size, ignore_class, data_format):
    examples = order.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    if ignore_class is None:
        batches = examples.batch(batch_size)
    else:
        padding = (np.uint8(0), np.int32(ignore_class))
        batches = examples.padded_batch(batch_size, padding_values=padding)
    if data_format == "channels_first":
        batches = batches.map(
            lambda image, label_map: (tf.transpose(image, (0, 3, 1, 2)), label_map)
        )
    return batches.prefetch(tf.data.AUTOTUNE)
