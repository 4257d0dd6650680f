"""Reads pairs inside tf.data: caches examples, and reports those that it skips."""

import hashlib
import itertools
import os
import warnings
import zipfile
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from google.protobuf import message

from keras_fcn.arguments import as_path, integer, one_of
from keras_fcn.data.examples import read_example
from keras_fcn.data.files import Pair
from keras_fcn.data.label_map_files import Palette, check_palette
from keras_fcn.io.atomic import atomic_write, remove_leftovers

ON_ERROR = ("raise", "skip")
TensorProto = type(tf.make_tensor_proto(0))


class Reader:
    """Callable that turns a dataset of indices of pairs into a dataset of their examples.

    Args:
        pairs: As from `find_pairs`.
        num_classes, ignore_class, palette, channels: As in `read_example`.
        on_error: `"raise"`, or `"skip"` to leave out pairs that cannot be used, with a warning at
            the end of the iteration that names every file.
        cache: `None`, `"memory"`, or a folder.

    Raises:
        ValueError: If there are no pairs, or `on_error` is not as described.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        *,
        num_classes: int | None,
        ignore_class: int | None,
        palette: Palette | None = None,
        channels: int = 3,
        on_error: str = "raise",
        cache: str | os.PathLike | None = None,
    ):
        if not pairs:
            raise ValueError("`pairs` must hold at least one pair. Received: pairs=[].")
        one_of("on_error", on_error, ON_ERROR)
        integer("channels", channels, least=1)
        check_palette(palette)
        self._pairs = [Pair.of(pair) for pair in pairs]
        self._skip = on_error == "skip"
        self._iterations = itertools.count(1)
        self._errors: dict = {}
        self._channels = channels
        rules = (num_classes, ignore_class, palette, channels)

        def read(pair):
            example = read_example(pair, *rules)
            return example["image"], example["label_map"]

        if cache is None:
            self._read = read
        elif cache == "memory":
            self._read = _cached_in_memory(read)
        else:
            self._read = _cached_on_disk(read, as_path("cache", cache), rules)

    def __call__(self, indices: tf.data.Dataset) -> tf.data.Dataset:
        """Returns the dataset of (index, image, label_map) of these pairs, in their order."""
        if not self._skip:
            return indices.map(
                lambda index: (index, *self.example(index)),
                num_parallel_calls=tf.data.AUTOTUNE,
                deterministic=True,
            )
        # Each iteration has a number, since several can run at the same time.
        iteration = tf.data.Dataset.from_tensors(0).map(
            lambda _: tf.numpy_function(lambda: np.int64(next(self._iterations)), [], tf.int64)
        )
        return iteration.flat_map(lambda number: self._skipping(indices, number))

    def example(self, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns image and label map of one pair; raises errors even if `on_error` is "skip"."""
        return self._tensors(self._read_or_raise, index)

    def _skipping(self, indices, number):
        examples = indices.map(
            lambda index: (index, *self._tensors(self._read_or_note, number, index)),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        # One more element, which the filter removes, runs `_report` after all others were read.
        end = tf.data.Dataset.from_tensors(number).map(
            lambda number: (np.int64(-1), *self._tensors(self._report, number))
        )
        # An image of height 0 marks one that could not be read.
        return examples.concatenate(end).filter(lambda _, image, __: tf.shape(image)[0] > 0)

    def _read_or_raise(self, index):
        try:
            return self._read(self._pairs[index])
        except OSError as error:
            message = f"A file cannot be opened: {error}."
        except ValueError as error:
            message = str(error)
        # TensorFlow turns only a ValueError into an InvalidArgumentError, and drops a message with
        # the name of a file that is not UTF-8.
        raise ValueError(message.encode(errors="backslashreplace").decode())

    def _read_or_note(self, number, index):
        try:
            return self._read(self._pairs[index])
        except (OSError, ValueError) as error:
            self._errors.setdefault(int(number), {})[int(index)] = str(error)
            return self._empty()

    def _report(self, number):
        errors = self._errors.pop(int(number), {})
        if errors:
            lines = "".join(f"\n  {errors[index]}" for index in sorted(errors))
            warnings.warn(
                f"Iteration {number} left out {len(errors)} of {len(self._pairs)} examples:{lines}",
                stacklevel=2,
            )
        return self._empty()

    def _empty(self):
        return np.zeros((0, 0, self._channels), "uint8"), np.zeros((0, 0), "int32")

    def _tensors(self, function, *arguments):
        image, label_map = tf.numpy_function(function, arguments, (tf.uint8, tf.int32))
        image.set_shape((None, None, self._channels))
        label_map.set_shape((None, None))
        return image, label_map


def _cached_in_memory(read):
    cached = {}

    def read_once(pair):
        if pair not in cached:
            image, label_map = read(pair)
            cached[pair] = image, _narrow(label_map)
        image, label_map = cached[pair]
        # Copies, since TensorFlow may write into the arrays that it receives.
        return image.copy(), label_map.astype("int32")

    return read_once


def _cached_on_disk(read, folder, rules):
    """Names cache files by a hash of everything that determines their content.

    A changed source gets a new name, so that no cached file is out of date.
    """
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    has_warned = False

    def read_once(pair):
        nonlocal has_warned
        sources = [
            (os.path.abspath(path), status.st_size, status.st_mtime_ns)
            for path, status in ((path, os.stat(path)) for path in (pair.image, pair.label_map))
        ]
        file = folder / f"{hashlib.sha256(repr((sources, rules)).encode()).hexdigest()}.zip"
        try:
            image, label_map = _load(file, ("image", "label_map"))
            return image, label_map.astype("int32")
        except (OSError, KeyError, EOFError, zipfile.BadZipFile, message.DecodeError):
            image, label_map = read(pair)
        try:
            # A file that a power failure damages is read from the sources again: it needs no sync.
            with atomic_write(file, sync=False) as temporary:
                _save(temporary, {"image": image, "label_map": _narrow(label_map)})
        except OSError as error:
            if not has_warned:
                has_warned = True
                warnings.warn(
                    "`cache` must be a folder with free space, else files are decoded in every "
                    f"epoch. Received: cache={str(folder)!r}: {error}.",
                    stacklevel=2,
                )
        return image, label_map

    return read_once


# `np.load` parses array headers with Python's parser, which is not thread-safe in Python 3.11:
# "SystemError: AST constructor recursion depth mismatch", in the readers or in the tracing thread
# (https://github.com/python/cpython/issues/106905).


def _save(file, arrays):
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            archive.writestr(name, tf.make_tensor_proto(array).SerializeToString())


def _load(file, names):
    with zipfile.ZipFile(file) as archive:
        return [tf.make_ndarray(TensorProto.FromString(archive.read(name))) for name in names]


def _narrow(label_map):
    bounds = (np.min_scalar_type(int(bound)) for bound in (label_map.min(), label_map.max()))
    return label_map.astype(np.result_type(*bounds))
