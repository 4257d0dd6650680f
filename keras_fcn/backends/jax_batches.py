"""Batches of several processes on JAX, of different sizes."""

from typing import Any

import jax
import keras
import numpy as np
from jax.experimental import multihost_utils

from keras_fcn.backends import keras_compat


class EpochIterator(keras_compat.jax_epoch_iterator_class()):  # type: ignore[misc]
    """Lays out every batch separately, and allows processes batches of different sizes.

    Keras lays out every batch like the first one, and raises on a smaller last one.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._agree_on_num_batches()

    def reset(self):
        super().reset()
        self._agree_on_num_batches()

    def _agree_on_num_batches(self):
        if jax.process_count() > 1:
            number = -1 if self._num_batches is None else self._num_batches
            numbers = multihost_utils.process_allgather(np.array(number, "int32"))
            self._num_batches = None if numbers.min() < 0 else int(numbers.max())

    def _get_iterator(self):
        distribution = keras.distribution.distribution()
        batches = self.data_adapter.get_jax_iterator()
        if distribution.has_several_processes:
            batches = _global_batches(batches, distribution)
        else:
            batches = map(keras_compat.jax_distribute, batches)
        return keras_compat.jax_executions(batches, self.steps_per_execution)


def _global_batches(batches, distribution):
    """Yields the processes' `batches` joined, until the last process has no more."""
    batches, empty = iter(batches), None
    while True:
        batch = next(batches, empty)
        if batch is None:
            raise ValueError("The data of a process must hold at least one batch. Received: none.")
        batch = keras.tree.map_structure(np.asarray, batch)
        empty = keras.tree.map_structure(lambda x: x[:0], batch)
        flat = keras.tree.flatten(batch)
        shapes = np.array([size for x in flat for size in x.shape], "int32")
        shapes = multihost_utils.process_allgather(shapes)
        lengths = shapes[:, 0]
        if not lengths.any():
            return
        shape = shapes[lengths.argmax()]
        parts = [np.split(row, np.cumsum([x.ndim for x in flat])[:-1]) for row in (shape, *shapes)]
        for part, length in zip(parts[1:], lengths, strict=True):
            if length and any((a[1:] != b[1:]).any() for a, b in zip(part, parts[0], strict=True)):
                raise ValueError(
                    "On JAX the images that the processes pass in a step must have the same size. "
                    f"Received: {[tuple(p[0]) for p in parts[1:]]}."
                )
        here = lengths[jax.process_index()]
        if (lengths == here).all() and here % distribution.num_shards_here == 0:
            distribution.rows_here = slice(None)
            yield keras_compat.jax_distribute(batch)
            continue
        start = lengths[: jax.process_index()].sum()
        distribution.rows_here = slice(start, start + here)
        whole = [_gather(x, size[1:], lengths) for x, size in zip(flat, parts[0], strict=True)]
        replicated = [_replicate(x, distribution) for x in whole]
        yield keras.tree.pack_sequence_as(batch, replicated)


def _gather(x, shape, lengths):
    """Returns the processes' arrays, of those lengths, concatenated."""
    padded = np.zeros((max(lengths), *shape), x.dtype)
    padded[: len(x)] = x.reshape(len(x), *shape)
    parts = multihost_utils.process_allgather(padded)
    return np.concatenate([part[:length] for part, length in zip(parts, lengths, strict=True)])


def _replicate(x, distribution):
    layout = keras.distribution.TensorLayout([None] * x.ndim, distribution.device_mesh)
    return jax.make_array_from_process_local_data(layout.backend_layout, x)
