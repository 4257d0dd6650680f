"""Turns examples into batches of images and label maps, as `keras.Model.fit` takes them."""

import inspect
import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_fcn.arguments import (
    DATA_FORMATS,
    MOST_CLASSES,
    as_tuple,
    boolean,
    integer,
    one_of,
    optional_integer,
    wrong,
)
from keras_fcn.data.files import Pair
from keras_fcn.data.label_map_files import Palette
from keras_fcn.data.padding import PadTo, batched, check_pad_to
from keras_fcn.data.shards import Shard, checked_shard
from keras_fcn.data.sources import DatasetSource, PairsSource
from keras_fcn.data.transforms import MixingTransform, Transform, random_flip

_MOST = 2**63 - 1  # int64.
# Larger than the place of any transform, so that seeds differ.
_SECOND = 2**20


def training_batches(
    examples: Sequence[Pair] | tf.data.Dataset,
    *,
    num_classes: int,
    ignore_class: int | None,
    batch_size: int,
    seed: int,
    transforms: Sequence[Transform | MixingTransform] = (random_flip,),
    pad_to: PadTo = None,
    drop_remainder: bool = False,
    shard: Shard = (0, 1),
    cache: str | os.PathLike | None = None,
    on_error: str = "raise",
    first_epoch: int = 0,
    first_step: int | None = None,
    shuffle_buffer: int = 128,
    palette: Palette | None = None,
    channels: int = 3,
    data_format: str = "channels_last",
) -> tf.data.Dataset:
    """Returns shuffled and augmented batches that contain every example once per epoch.

    Every iteration over the dataset is the next epoch. An iteration that stops after the first of
    several batches does not count, provided that the number of batches is known: Keras reads one
    batch for its shapes before training. Order and transforms depend only on `seed`, the number of
    the epoch and the index of the example in `examples`, not on the number of threads.

    Images smaller than the largest of their batch are padded at the bottom and at the right: the
    image with 0, the label map with `ignore_class`. The last batch of an epoch may be smaller.

    Args:
        examples: Pairs of files, as from `find_pairs` or tuples of two paths, or a dataset of
            {"image", "label_map"}, as from `load`.
        num_classes: Number of classes. Label maps are checked against it when they are read.
        ignore_class: Class id of pixels to leave out, or `None`.
        batch_size: Images per batch.
        seed: Integer of at least 0.
        transforms: Augmentations as in `keras_fcn.data.transforms`, applied in this order. A
            `MixingTransform` gets a second example, for which another file of `examples` is read
            per example, also from other shards.
        pad_to: Sizes that batches may have, for backends that recompile for each new size. An
            integer m pads height and width to the next multiple of m; (height, width) pads to this
            size; a list of sizes pads to the smallest that holds the batch. `None` pads no further.
        drop_remainder: Whether to drop the last batch of an epoch if it is smaller.
        shard: (rank, world_size): the shard of one of `world_size` processes, numbered from 0,
            that all pass otherwise equal arguments; `"auto"`: the shard of this process in
            `data_parallel`. Shards are disjoint in each epoch, and a process opens and decodes
            only the files of its shard, for pairs and for what `load` and the like return
            unchanged. All shards are equally long: up to `world_size` - 1 examples at the end of
            the shuffled order are left out, different ones in each epoch. A dataset must be the
            whole one, loaded without `shard`.
        cache: Where to keep decoded examples, before the transforms: `"memory"`, a folder used for
            nothing else, or `None`. With a folder, files that changed are read again. A dataset is
            written to the folder once, as a whole, and is not read again while the folder exists.
        on_error: `"raise"`, or `"skip"` to leave out pairs that cannot be used. Each iteration then
            ends with a warning that counts and names them, and the number of batches is unknown.
        first_epoch: Number of the first epoch, to resume a training.
        first_step: Number of the first batch, to resume in the middle of an epoch. Every iteration
            then belongs to `first_epoch`.
        shuffle_buffer: Size of the shuffle buffer of a dataset, in examples. Pairs are shuffled
            completely.
        palette: Colours of true-colour label maps, see `read_label_map`; only for pairs.
        channels: Number of image channels that the model takes, see `read_image`.
        data_format: `"channels_last"`, or `"channels_first"` for images (batch, channels, height,
            width).

    Returns:
        Dataset of (image, label_map): (batch, height, width, channels) uint8 and (batch, height,
        width) int32.

    Raises:
        ValueError: If an argument is not as described, or if the sizes of the images differ where
            `batch_size` is greater than 1 and `ignore_class` is `None`.
        tensorflow.errors.InvalidArgumentError: While iterating, if a file cannot be used; the
            message names it. `check_pairs` finds such files beforehand.
    """
    integer("seed", seed, 0, _MOST)
    integer("first_epoch", first_epoch, 0, _MOST)
    if first_step is not None:
        integer("first_step", first_step, 0)
    integer("shuffle_buffer", shuffle_buffer, 1)
    batching = _Batching(num_classes, ignore_class, batch_size, pad_to, drop_remainder, data_format)
    rank, world_size = checked_shard(shard)
    transforms = _functions(transforms)
    mixes = any(isinstance(transform, MixingTransform) for transform in transforms)
    if on_error == "skip":
        _check_skipping(shard, world_size, mixes)
    source = _source(examples, batching, transforms, palette, channels, on_error, cache)
    per_shard = None if source.num_examples is None else source.num_examples // world_size
    if world_size > 1 and not per_shard:
        raise ValueError(
            "`examples` must hold at least one example per shard, and their number must be known. "
            f"Received: {source.num_examples} examples, {shard=}. Set the number of a dataset with "
            "`dataset.apply(tf.data.experimental.assert_cardinality(number))`."
        )
    steps = None if per_shard is None or on_error == "skip" else batching.steps(per_shard)
    if steps == 0:
        raise ValueError(
            "`batch_size` must be at most the number of examples of a shard if `drop_remainder` is "
            f"True. Received: {batch_size=}, {per_shard} examples."
        )
    epochs = _Epochs(first_epoch, steps)

    def chosen(order):
        own = order.shard(world_size, rank)
        if world_size > 1:
            own = own.take(per_shard)
        return own.skip(first_step * batch_size) if first_step else own

    def one_epoch(epoch):
        order = source.shuffled(seed, epoch, shuffle_buffer)
        examples = source.read(chosen(order))
        if mixes:
            following = order.skip(1).concatenate(order.take(1))
            examples = tf.data.Dataset.zip(examples, source.read(chosen(following)))
        transformed = examples.map(
            _transformed(transforms, tf.stack([tf.constant(seed, tf.int64), epoch])),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        return batching(transformed).prefetch(tf.data.AUTOTUNE)

    if first_step is None:
        return epochs.dataset(one_epoch)
    batches = tf.data.Dataset.from_tensors(np.int64(first_epoch)).flat_map(one_epoch)
    if steps is None:
        return batches
    return batches.apply(tf.data.experimental.assert_cardinality(max(0, steps - first_step)))


def places_of_batch(
    examples: Sequence[Pair] | tf.data.Dataset,
    *,
    num_classes: int,
    ignore_class: int | None,
    batch_size: int,
    seed: int,
    epoch: int,
    step: int,
    shuffle_buffer: int = 128,
) -> list[int]:
    """Returns the indices in `examples` of one batch of `training_batches`.

    Args:
        examples: See `training_batches`.
        num_classes: See `training_batches`.
        ignore_class: See `training_batches`.
        batch_size: See `training_batches`.
        seed: See `training_batches`.
        epoch: Number of the epoch, from 0.
        step: Number of the batch in it, from 0.
        shuffle_buffer: See `training_batches`.
    """
    # Batches of one: sizes do not matter here.
    batching = _Batching(num_classes, ignore_class, 1, None, False, "channels_last")
    source = _source(examples, batching, (), None, 3, "raise", None)

    def one_epoch(epoch):
        return source.shuffled(seed, epoch, shuffle_buffer)

    order = tf.data.Dataset.from_tensors(np.int64(epoch)).flat_map(one_epoch)
    chosen = order.skip(step * batch_size).take(batch_size).map(lambda index, *_: index)
    return [int(place) for place in chosen.as_numpy_iterator()]


def evaluation_batches(
    examples: Sequence[Pair] | tf.data.Dataset,
    *,
    num_classes: int,
    ignore_class: int | None,
    batch_size: int = 1,
    transforms: Sequence[Transform] = (),
    pad_to: PadTo = None,
    shard: Shard = (0, 1),
    cache: str | os.PathLike | None = None,
    on_error: str = "raise",
    palette: Palette | None = None,
    channels: int = 3,
    data_format: str = "channels_last",
) -> tf.data.Dataset:
    """Returns batches in the order of `examples`, unchanged except for padding.

    Images are padded as in `training_batches`. Predictions near the padding can differ slightly
    from those of the unpadded image; if sizes differ, a `batch_size` of 1 avoids this. With
    `shard`, every example is in exactly one shard, so that shards may differ by one example, and by
    one batch. `transforms` are the same in every iteration.

    Args, Returns and Raises: See `training_batches`.
    """
    batching = _Batching(num_classes, ignore_class, batch_size, pad_to, False, data_format)
    rank, world_size = checked_shard(shard)
    transforms = _functions(transforms)
    if mixing := [t.__name__ for t in transforms if isinstance(t, MixingTransform)]:
        raise ValueError(
            f"`transforms` must not mix two examples in an evaluation. Received: {mixing}."
        )
    source = _source(examples, batching, transforms, palette, channels, on_error, cache)
    read = source.read(source.in_order().shard(world_size, rank))
    if transforms:
        read = read.map(
            _transformed(transforms, tf.zeros(2, tf.int64)),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
    else:
        read = read.map(lambda _, image, label_map: (image, label_map))
    return batching(read).prefetch(tf.data.AUTOTUNE)


class _Batching:
    """Callable that turns a dataset of (image, label_map) into a dataset of batches."""

    def __init__(self, num_classes, ignore_class, batch_size, pad_to, drop_remainder, data_format):
        integer("num_classes", num_classes, 2, MOST_CLASSES)
        integer("batch_size", batch_size, 1)
        self.num_classes, self.batch_size = num_classes, batch_size
        self.ignore_class = optional_integer("ignore_class", ignore_class)
        self._drop_remainder = boolean("drop_remainder", drop_remainder)
        self._data_format = one_of("data_format", data_format, DATA_FORMATS)
        self._pad_to = check_pad_to(pad_to, ignore_class)

    def steps(self, num_examples):
        whole, rest = divmod(num_examples, self.batch_size)
        return whole + (rest > 0 and not self._drop_remainder)

    def __call__(self, examples):
        batches = batched(
            examples, self.batch_size, self.ignore_class, self._pad_to, self._drop_remainder
        )
        if self._data_format == "channels_last":
            return batches
        return batches.map(lambda image, label_map: (tf.transpose(image, (0, 3, 1, 2)), label_map))


class _Epochs:
    """Counts the iterations over a dataset from `first`; `steps` is `None` if unknown."""

    def __init__(self, first, steps):
        self._next, self._steps = first, steps
        # An iteration that stops after one of several batches is no epoch, see `training_batches`.
        self._counts_from = 1 if steps is not None and steps > 1 else 0

    def dataset(self, one_epoch):
        def counted(epoch):
            return self._counted(one_epoch(epoch), epoch)

        number = tf.data.Dataset.from_tensors(0).map(
            lambda _: tf.ensure_shape(
                tf.numpy_function(lambda: np.int64(self._next), [], tf.int64), ()
            )
        )
        batches = number.flat_map(counted)
        if self._steps is not None:
            batches = batches.apply(tf.data.experimental.assert_cardinality(self._steps))
        # Otherwise TensorFlow prefetches after the counting and counts an iteration of one batch.
        options = tf.data.Options()
        options.experimental_optimization.inject_prefetch = False
        return batches.with_options(options)

    def _counted(self, batches, epoch):
        def note(epoch, place):
            if place >= self._counts_from:
                self._next = max(self._next, int(epoch) + 1)
            return np.int64(0)

        def count(place, batch):
            with tf.control_dependencies([tf.numpy_function(note, [epoch, place], tf.int64)]):
                return tf.nest.map_structure(tf.identity, batch)

        return batches.enumerate().map(count)


def _functions(transforms):
    """Returns transforms as a tuple; raises a ValueError if one of them is no function."""
    transforms = as_tuple("transforms", transforms)
    for function in transforms:
        number = 5 if isinstance(function, MixingTransform) else 3
        try:
            inspect.signature(function).bind(*range(number))
        except TypeError:  # Not called yet, such as `random_scale` for `random_scale(0.5, 2)`.
            rule = "functions of (image, label_map, seed), such as random_scale(0.5, 2)"
            raise wrong("transforms", rule, transforms) from None
        except ValueError:  # A function of C, which does not show its parameters.
            continue
    return transforms


def _check_skipping(shard, world_size, mixes):
    """Raises a ValueError if `on_error="skip"` does not go with the shards or the transforms."""
    if world_size > 1:
        raise ValueError(
            "`on_error` must be 'raise' with more than one shard: a process that skips a file "
            f"would run fewer steps than the others. Received: on_error='skip', {shard=}. Find "
            "such files with `check_pairs` (keras-fcn data check)."
        )
    if mixes:
        raise ValueError(
            "`on_error` must be 'raise' with a transform that mixes two examples: the second may "
            "be a file that is skipped. Received: on_error='skip'. Find such files with "
            "`check_pairs` (keras-fcn data check)."
        )


def _source(examples, batching, transforms, palette, channels, on_error, cache):
    classes = {"num_classes": batching.num_classes, "ignore_class": batching.ignore_class}
    if isinstance(examples, tf.data.Dataset):
        if palette is not None or on_error != "raise":
            raise ValueError(
                "`palette` must be None and `on_error` 'raise' if `examples` is a dataset. "
                f"Received: {palette=}, {on_error=}. Pass them to the function that reads the "
                "files, such as `load`."
            )
        return DatasetSource(examples, **classes, channels=channels, cache=cache)
    examples = as_tuple("examples", examples)
    rules = {**classes, "palette": palette, "channels": channels}
    source = PairsSource(examples, **rules, on_error=on_error, cache=cache)
    # Only the user knows whether other transforms make the sizes equal.
    sizes_stay = all(transform is random_flip for transform in transforms)
    unpadded = batching.ignore_class is None and batching.batch_size > 1
    if unpadded and sizes_stay and on_error == "raise":
        source.check_equal_sizes()
    return source


def _transformed(transforms, seed):
    """Returns a function of one example, or of the two that a `MixingTransform` needs."""

    def transform(*examples):
        (index, *example), *others = examples if len(examples) == 2 else [examples]
        seeds = [tf.random.fold_in(seed, index)]
        pairs = [example, *(other for _, *other in others)]
        # The second example draws its own numbers: it is not what it is in its own place.
        seeds += [tf.random.fold_in(seeds[0], _SECOND) for _ in others]
        for place, function in enumerate(transforms):
            if isinstance(function, MixingTransform):
                (image, label_map), (other_image, other_label_map) = pairs
                of_this = tf.random.fold_in(seeds[0], place)
                mixed = function(image, label_map, of_this, other_image, other_label_map)
                pairs[0] = _checked(function, mixed, image.shape[-1])
                continue
            pairs = [
                _checked(
                    function,
                    function(image, label_map, tf.random.fold_in(of_example, place)),
                    image.shape[-1],
                )
                for (image, label_map), of_example in zip(pairs, seeds, strict=True)
            ]
        return pairs[0]

    return transform


def _checked(function, changed, channels):
    """Checks what a transform returns and sets static shapes, which `tf.numpy_function` lacks."""
    name = getattr(function, "__name__", type(function).__name__)
    rule = f"The transform {name} must return an image and its label map, as tensors"
    try:
        image, label_map = map(tf.convert_to_tensor, changed)
    except (TypeError, ValueError):
        raise ValueError(f"{rule}. Received: {changed}.") from None
    try:
        image = tf.ensure_shape(image, (None, None, channels))
        label_map = tf.ensure_shape(label_map, (None, None))
    except ValueError:
        raise ValueError(
            f"{rule} of shape (height, width, {channels}) and (height, width). Received shapes: "
            f"{image.shape} and {label_map.shape}."
        ) from None
    if label_map.dtype.is_floating:
        raise ValueError(f"{rule} of integers for the latter. Received: {label_map.dtype.name}.")
    return image, tf.cast(label_map, tf.int32)
