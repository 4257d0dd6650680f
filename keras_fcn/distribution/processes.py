"""What the processes of one training tell each other, on every backend.

All of them call these functions alike, in the same order.
"""

import contextlib
import json
import os
import pickle
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import keras
import numpy as np

from keras_fcn.distribution.watch import Watch

_Value = TypeVar("_Value")
_watch: Watch | None = None


def count() -> int:
    """Returns how many processes there are; 1 before `data_parallel` has joined them."""
    return _backend_processes()[1]


def index() -> int:
    """Returns the number of this process, from 0."""
    return _backend_processes()[0]


def shard() -> tuple[int, int]:
    """Returns (`index()`, `count()`), which names the share of the data of this process."""
    return index(), count()


def check_joined() -> None:
    """Raises a ValueError if this process was started as one of several and is none of them yet."""
    started = _started()
    if started > 1 and count() == 1:
        raise ValueError(
            "`data_parallel()` must be entered before processes share out data. Received: "
            f"{started} processes that have not joined."
        )


def gather(value: _Value) -> list[_Value]:
    """Returns the values of all processes, in their order.

    Args:
        value: What can be pickled.
    """
    if count() == 1:
        return [value]
    own = np.frombuffer(pickle.dumps(value), "uint8")
    lengths = _gathered(np.array([len(own)], "int64"))[:, 0]
    parts = _gathered(np.pad(own, (0, lengths.max() - len(own))))
    return [pickle.loads(part[:n].tobytes()) for part, n in zip(parts, lengths, strict=True)]


def sum_of_all(array: np.ndarray) -> np.ndarray:
    """Returns the sum of the arrays of all processes; exact for integers."""
    return np.sum(gather(array), axis=0, dtype=array.dtype)


@contextlib.contextmanager
def watched(last_words: str) -> Iterator[None]:
    """Ends this process when another one ends within the block, instead of waiting for it for ever.

    A process that fails with an error of its own gives the others a few seconds to fail with it,
    as they do where all find the same.

    Args:
        last_words: What is then written to standard error, in a line.

    Raises:
        ConnectionError: If the processes do not find each other.
    """
    global _watch
    if count() == 1 or _watch is not None:
        yield
        return
    _watch, failed = Watch(index() == 0, count(), _first_host(), gather, last_words), True
    try:
        yield
        failed = False
    finally:
        _watch.end(failed)
        _watch = None


def first_before_others(function: Callable[[], _Value]) -> _Value:
    """Calls a function in the first process, then in the others: one builds, the others find it.

    Where the processes are `watched`, the first one may take as long as it likes.

    Raises:
        ValueError: If it fails in the first process, also in the others.
    """
    result, error = None, None
    if index() == 0:
        try:
            result = function()
        except (OSError, ValueError) as failure:
            error = failure
    if _watch is not None:
        _watch.wait_for_first()
    message = gather(None if error is None else str(error))[0]
    if error is not None:
        raise error
    if message is not None:
        raise ValueError(f"The first process failed: {message}")
    return result if index() == 0 else function()


def all_or_none(function: Callable[[], _Value]) -> _Value:
    """Calls a function in all processes at once.

    Raises:
        ValueError: If it fails in one of them, also in the others.
    """
    result, error = None, None
    try:
        result = function()
    except (OSError, ValueError) as failure:
        error = failure
    messages = gather(None if error is None else str(error))
    if error is not None:
        raise error
    for number, message in enumerate(messages):
        if message is not None:
            raise ValueError(f"Process {number} failed: {message}")
    return result


def check_equal(facts: Mapping[str, Any]) -> None:
    """Compares what all processes must have alike.

    Args:
        facts: Values by what they are called.

    Raises:
        ValueError: If one of them differs, in every process.
    """
    every = gather(dict(facts))
    for name, first in every[0].items():
        for number, others in enumerate(every):
            if others[name] != first:
                raise ValueError(
                    f"All processes must have the same {name}. Received: {first} in process 0 and "
                    f"{others[name]} in process {number}."
                )


def _started():
    """How many processes the environment tells of, joined or not."""
    backend = keras.backend.backend()
    if backend == "torch":
        return int(os.environ.get("WORLD_SIZE", "1"))
    if backend == "jax":
        return int(os.environ.get("KERAS_DISTRIBUTION_NUM_PROCESSES", "1"))
    cluster = json.loads(os.environ.get("TF_CONFIG") or "{}").get("cluster", {})
    return sum(len(cluster.get(kind, ())) for kind in ("chief", "worker"))


def _backend_processes():
    """The number of this process and how many there are."""
    backend = keras.backend.backend()
    if backend == "torch":
        from keras_fcn.distribution import torch_processes

        return torch_processes.rank(), torch_processes.number()
    if backend == "jax":
        import jax

        return jax.process_index(), jax.process_count()
    from keras_fcn.distribution import tensorflow_trainer

    return tensorflow_trainer.worker(), tensorflow_trainer.num_workers()


def _first_host():
    """Name or address of the first process's machine, as the backend was told it."""
    backend = keras.backend.backend()
    if backend == "torch":
        from keras_fcn.distribution import torch_processes

        return torch_processes.first_host()
    if backend == "jax":
        from jax._src import distributed

        address = distributed.global_state.coordinator_address
    else:
        from keras_fcn.distribution import tensorflow_trainer

        address = tensorflow_trainer.first_address()
    return address.rpartition(":")[0].strip("[]")


def _gathered(array):
    """The arrays of all processes, which have the same shape, along a new first axis."""
    backend = keras.backend.backend()
    if backend == "torch":
        from keras_fcn.distribution import torch_processes

        return torch_processes.gathered(array)
    if backend == "jax":
        from jax.experimental import multihost_utils

        # JAX has no int64 by default: bytes have.
        shape, dtype = array.shape, array.dtype
        parts = multihost_utils.process_allgather(np.frombuffer(array.tobytes(), "uint8"))
        return np.asarray(parts).view(dtype).reshape(-1, *shape)
    from keras_fcn.distribution import tensorflow_trainer

    return tensorflow_trainer.gathered(array)
