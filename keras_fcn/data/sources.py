"""Sources of examples for `batches`: pairs of files or a dataset, in order or shuffled."""

import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_fcn.arguments import as_path, integer
from keras_fcn.data.files import Pair
from keras_fcn.data.label_map_files import Palette, check_label_map, read_label_map
from keras_fcn.data.reader import Reader
from keras_fcn.data.unread import parts
from keras_fcn.io.atomic import atomic_folder, remove_leftovers
from keras_fcn.spelling import counted


class PairsSource:
    """Pairs of files. Elements are indices; `read` turns them into (index, image, label_map).

    Args:
        pairs: As from `find_pairs`.
        num_classes, ignore_class, palette, channels, on_error, cache: As in `training_batches`.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        *,
        num_classes: int,
        ignore_class: int | None,
        palette: Palette | None,
        channels: int,
        on_error: str,
        cache: str | os.PathLike | None,
    ):
        self._pairs = [Pair.of(pair) for pair in pairs]
        self._palette = palette
        self.num_examples = len(self._pairs)
        self.read = Reader(
            self._pairs,
            num_classes=num_classes,
            ignore_class=ignore_class,
            palette=palette,
            channels=channels,
            on_error=on_error,
            cache=cache,
        )

    def in_order(self) -> tf.data.Dataset:
        """Returns all elements in the order of the pairs."""
        return tf.data.Dataset.range(self.num_examples)

    def shuffled(self, seed: int, epoch: tf.Tensor, shuffle_buffer: int) -> tf.data.Dataset:
        """Returns all elements in an order that depends only on seed and epoch."""

        def permutation(epoch):
            return np.random.default_rng((seed, int(epoch))).permutation(self.num_examples)

        order = tf.numpy_function(permutation, [epoch], tf.int64)
        return tf.data.Dataset.from_tensor_slices(tf.ensure_shape(order, [self.num_examples]))

    def check_equal_sizes(self) -> None:
        """Raises a ValueError if the label maps differ in size; `read` compares the images."""
        first, size = None, None
        for pair in self._pairs:
            other = read_label_map(pair.label_map, self._palette).shape
            first, size = first or pair.label_map, size or other
            if other != size:
                raise ValueError(
                    "Images of one batch must have the same size, or an `ignore_class` for the "
                    f"padding. Received (width x height): {first} "
                    f"{size[1]}x{size[0]}, {pair.label_map} {other[1]}x{other[0]}. Pass "
                    "`batch_size=1` (--batch-size 1) or an `ignore_class` (such as --ignore-class "
                    "255)."
                )


class DatasetSource:
    """A dataset of {"image", "label_map"}. Elements are (index, element for `read`).

    Args:
        dataset: As from `load`.
        num_classes, ignore_class, channels, cache: As in `training_batches`.
    """

    def __init__(
        self,
        dataset: tf.data.Dataset,
        *,
        num_classes: int,
        ignore_class: int | None,
        channels: int,
        cache: str | os.PathLike | None,
    ):
        integer("channels", channels, least=1)
        number = int(dataset.cardinality())
        if number == 0:
            raise ValueError("`examples` must hold at least one example. Received: none.")
        self.num_examples = number if number > 0 else None
        _check_elements(dataset.element_spec, channels)
        check = _value_check(num_classes, ignore_class)
        elements, read_one = parts(dataset)

        def read(index, element):
            return index, *check(index, *_in_one_shape(read_one(element), channels))

        self._read, self._is_read = read, cache is not None
        self._elements = elements.enumerate()
        if cache is not None:
            self._elements = _cached(self._read_all(self._elements), cache)

    def in_order(self) -> tf.data.Dataset:
        """Returns all elements in the order of the dataset."""
        return self._elements

    def shuffled(self, seed: int, epoch: tf.Tensor, shuffle_buffer: int) -> tf.data.Dataset:
        """Returns all elements in an order that depends only on seed and epoch."""
        # In the graph of one epoch, this sets the seed of that graph only. `shuffle` combines it
        # with its own seed, and would otherwise use the user's global seed.
        tf.random.set_seed(1)
        order_seed = tf.random.stateless_uniform((), (seed, epoch), None, None, tf.int64)
        # TensorFlow allocates the buffer before it reads. A larger one gives the same order.
        shuffle_buffer = min(shuffle_buffer, self.num_examples or shuffle_buffer)
        return self._elements.shuffle(
            shuffle_buffer, seed=order_seed, reshuffle_each_iteration=False
        )

    def read(self, elements: tf.data.Dataset) -> tf.data.Dataset:
        """Returns the dataset of (index, image, label_map) of these elements, in their order."""
        return elements if self._is_read else self._read_all(elements)

    def _read_all(self, elements):
        return elements.map(self._read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def _check_elements(spec, channels):
    if not isinstance(spec, dict) or not {"image", "label_map"} <= spec.keys():
        raise ValueError(
            "`examples` must be a dataset of dictionaries with 'image' and 'label_map'. "
            f"Received elements: {spec}."
        )
    for name, rank in (("image", 3), ("label_map", 2)):
        if spec[name].shape.rank not in (rank, None):
            raise ValueError(
                f"`examples` must hold single examples, whose {name} has {rank} axes. "
                f"Received: {name} {spec[name]}."
            )

    # Colours in float32 are often in [0, 1] by mistake; depth is not of 8 bits.
    if spec["image"].dtype not in ((tf.uint8,) if channels == 3 else (tf.uint8, tf.float32)):
        raise ValueError(f"`examples` must hold images in uint8. Received: {spec['image']}.")


def _in_one_shape(example, channels):
    """(image, label_map): (height, width, channels), and int32 (height, width)."""
    label_map = tf.ensure_shape(example["label_map"], (None, None))
    return tf.ensure_shape(example["image"], (None, None, channels)), tf.cast(label_map, tf.int32)


def _value_check(num_classes, ignore_class):
    def check(index, label_map):
        name = f"Label map {index} of the dataset"
        check_label_map(name, label_map, num_classes, ignore_class)
        return np.int32(0)

    def checked(index, image, label_map):
        with tf.control_dependencies([tf.numpy_function(check, [index, label_map], tf.int32)]):
            return tf.identity(image), tf.identity(label_map)

    return checked


def _cached(dataset, cache):
    if cache is None:
        return dataset
    if cache == "memory":
        return dataset.cache()
    folder = as_path("cache", cache) / "examples"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder.parent)
        with atomic_folder(folder) as temporary:
            dataset.save(str(temporary))
    cached = tf.data.Dataset.load(str(folder))
    number, held = int(dataset.cardinality()), int(cached.cardinality())
    if number >= 0 and number != held:
        raise ValueError(
            "`cache` must be a folder for this dataset alone. Received: "
            f"cache={str(cache)!r} with {counted(held, 'example')} for a dataset of {number}. "
            "Pass another folder for each split, or remove this one."
        )
    return cached
