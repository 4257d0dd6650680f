"""Examples -> batches of images and label maps, as `keras.Model.fit` takes them."""

import numbers
import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_fcn.data.examples import Palette
from keras_fcn.data.files import Pair
from keras_fcn.data.padding import PadTo, batched, check_pad_to
from keras_fcn.data.shards import Shard, checked_shard
from keras_fcn.data.sources import DatasetSource, PairsSource
from keras_fcn.data.transforms import Transform, random_flip

_DATA_FORMATS = ("channels_last", "channels_first")


def training_batches(
    examples: Sequence[Pair] | tf.data.Dataset,
    *,
    num_classes: int,
    ignore_class: int | None,
    batch_size: int,
    seed: int,
    transforms: Sequence[Transform] = (random_flip,),
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
    """Batches in random order with random transforms, every example once per epoch.

    Every iteration over the dataset is the next epoch. One that ends after the first of several
    batches, as when Keras looks at their shapes before it trains, does not count, if the number of
    batches is known. Order and transforms follow from `seed`, the number of the epoch and the place
    of the example in `examples` alone, however many threads read.

    Images smaller than the largest of their batch are padded at the bottom and at the right: the
    image with 0, the label map with `ignore_class`. The last batch of an epoch may be smaller.

    Args:
        examples: Pairs of files, as from `find_pairs` or tuples of two paths, or a dataset of
            {"image", "label_map"}, as from `load`.
        num_classes: Number of classes; the label maps are checked for it as they are read.
        ignore_class: Class id of pixels to leave out, or `None`.
        batch_size: Images per batch.
        seed: Integer of at least 0.
        transforms: Functions as in `keras_fcn.data.transforms`, applied in this order.
        pad_to: Sizes that batches may have, for backends that compile for each one anew. An integer
            m pads height and width to the next multiple of m; (height, width) pads to this size; a
            list of sizes pads to the smallest that holds the batch. `None` pads no further.
        drop_remainder: Whether to leave out the last batch of an epoch where it is smaller.
        shard: (index, count): of `count` processes, each with the same arguments otherwise, this is
            number `index`, from 0; `"auto"`: as `data_parallel` has joined them. No two get the
            same example in an epoch, and each opens or decodes its own alone, of pairs and of
            what `load` and its like return unchanged. All get equally many: at the end of the
            epoch's order up to `count` - 1 examples are left out, others in each epoch. A dataset
            must be the whole one, loaded without `shard`.
        cache: Where to keep the examples as they were read, before the transforms: `"memory"`, a
            folder of their own, or `None`. Changed files are read anew; a dataset is stored in the
            folder once and whole, and is not looked at again while the folder exists.
        on_error: `"raise"`, or `"skip"` for pairs that cannot be used: each iteration then ends
            with a warning that counts and names them, and the number of batches is unknown.
        first_epoch: Number of the first epoch, to go on after a restart.
        first_step: Number of the batch to begin with, to go on in the middle of an epoch. Every
            iteration is then that of `first_epoch`, whatever came before it.
        shuffle_buffer: How many examples of a dataset are held in memory to choose the next one
            from; of pairs, all are shuffled.
        palette: Colours of true-colour label maps, see `read_label_map`; only for pairs.
        channels: Channels of the images that the model takes, see `read_image`.
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
    _check_at_least("seed", seed, 0)
    _check_at_least("first_epoch", first_epoch, 0)
    if first_step is not None:
        _check_at_least("first_step", first_step, 0)
    _check_at_least("shuffle_buffer", shuffle_buffer, 1)
    batching = _Batching(num_classes, ignore_class, batch_size, pad_to, drop_remainder, data_format)
    index, count = checked_shard(shard)
    if on_error == "skip" and count > 1:
        raise ValueError(
            "`on_error` must be 'raise' where processes share an epoch, since a file that one of "
            f"them skips would leave it with fewer steps. Received: {shard=}. Find such files "
            "with `check_pairs` (keras-fcn data check)."
        )
    source = _source(examples, batching, transforms, palette, channels, on_error, cache)
    share = None if source.num_examples is None else source.num_examples // count
    if count > 1 and not share:
        raise ValueError(
            "`examples` must hold at least one example for each process, and their number must be "
            f"known. Received: {source.num_examples} examples, {shard=}. Tell the number of a "
            "dataset with `dataset.apply(tf.data.experimental.assert_cardinality(number))`."
        )
    steps = None if share is None or on_error == "skip" else batching.steps(share)
    if steps == 0:
        raise ValueError(
            "`batch_size` must be at most the number of examples of a process where "
            f"`drop_remainder` leaves out smaller batches. Received: {batch_size=} for {share}."
        )
    epochs = _Epochs(first_epoch, steps)

    def one_epoch(epoch):
        chosen = source.shuffled(seed, epoch, shuffle_buffer).shard(count, index)
        if count > 1:
            chosen = chosen.take(share)
        if first_step:
            chosen = chosen.skip(first_step * batch_size)
        transformed = source.read(chosen).map(
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
    """Returns the places in `examples` of those that a batch of `training_batches` was made of.

    Args:
        examples: As there.
        num_classes: As there.
        ignore_class: As there.
        batch_size: As there.
        seed: As there.
        epoch: Number of the epoch, from 0.
        step: Number of the batch in it, from 0.
        shuffle_buffer: As there.
    """
    # Of one, since sizes do not matter here.
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
    """Batches in the order of `examples`, nothing changed but the padding.

    Padding is that of `training_batches`. A padded image can score slightly differently from the
    image alone, near the padding; where sizes differ, a `batch_size` of 1 avoids it. With `shard`,
    every example goes to exactly one process, so that one may get an example, and a batch, more
    than another. `transforms` are the same in every iteration.

    Args, Returns and Raises: See `training_batches`.
    """
    batching = _Batching(num_classes, ignore_class, batch_size, pad_to, False, data_format)
    index, count = checked_shard(shard)
    source = _source(examples, batching, transforms, palette, channels, on_error, cache)
    read = source.read(source.in_order().shard(count, index))
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
    """Function of a dataset of (image, label_map) to the dataset of their batches."""

    def __init__(self, num_classes, ignore_class, batch_size, pad_to, drop_remainder, data_format):
        _check_at_least("num_classes", num_classes, 2)
        _check_at_least("batch_size", batch_size, 1)
        if data_format not in _DATA_FORMATS:
            raise ValueError(
                f"`data_format` must be one of {_DATA_FORMATS}. Received: {data_format=}."
            )
        self.num_classes, self.ignore_class, self.batch_size = num_classes, ignore_class, batch_size
        self._drop_remainder, self._data_format = drop_remainder, data_format
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
    """Numbers the iterations over a dataset from `first` on; `steps` is `None` where unknown."""

    def __init__(self, first, steps):
        self._next, self._steps = first, steps
        # What ends after one batch of several was a look, see `training_batches`.
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
        # TensorFlow would fetch further batches behind the counting, and so count a look.
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


def _source(examples, batching, transforms, palette, channels, on_error, cache):
    classes = {"num_classes": batching.num_classes, "ignore_class": batching.ignore_class}
    if isinstance(examples, tf.data.Dataset):
        if palette is not None or on_error != "raise":
            raise ValueError(
                "`palette` and `on_error` must be given where the files are read, such as in "
                f"`load`, not with a dataset. Received: {palette=}, {on_error=}."
            )
        return DatasetSource(examples, **classes, channels=channels, cache=cache)
    rules = {**classes, "palette": palette, "channels": channels}
    source = PairsSource(examples, **rules, on_error=on_error, cache=cache)
    # Of other transforms only the user knows whether they make the sizes equal.
    sizes_stay = all(transform is random_flip for transform in transforms)
    unpadded = batching.ignore_class is None and batching.batch_size > 1
    if unpadded and sizes_stay and on_error == "raise":
        source.check_equal_sizes()
    return source


def _transformed(transforms, seed):
    def transform(index, image, label_map):
        example_seed = tf.random.fold_in(seed, index)
        for place, function in enumerate(transforms):
            changed = function(image, label_map, tf.random.fold_in(example_seed, place))
            image, label_map = _checked(function, changed, image.shape[-1])
        return image, label_map

    return transform


def _checked(function, changed, channels):
    """What a transform returns, with the shapes that `tf.numpy_function` does not know."""
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


def _check_at_least(name, value, least):
    if not isinstance(value, numbers.Integral) or value < least:
        raise ValueError(
            f"`{name}` must be an integer of at least {least}. Received: {name}={value!r}."
        )
