"""What the processes of one training tell each other, on every backend.

All of them call these functions alike, in the same order.
"""

import contextlib
import pickle
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np

from keras_fcn.backends import backend
from keras_fcn.distribution.watch import Watch

_Value = TypeVar("_Value")
_watch: Watch | None = None


def world_size() -> int:
    """Returns how many processes train together; 1 before `data_parallel` has joined them."""
    return backend.world_size()


def rank() -> int:
    """Returns the number of this process, from 0."""
    return backend.rank()


def shard() -> tuple[int, int]:
    """Returns (`rank()`, `world_size()`), which names this process's shard of the data."""
    return rank(), world_size()


def check_joined() -> None:
    """Raises a ValueError if this process was started as one of several and is none of them yet."""
    started = backend.started_processes()
    if started > 1 and world_size() == 1:
        raise ValueError(
            "`data_parallel()` must be entered before processes share out data. Received: "
            f"{started} processes that have not joined."
        )


def gather(value: _Value) -> list[_Value]:
    """Returns the values of all processes, in their order.

    Args:
        value: What can be pickled.
    """
    if world_size() == 1:
        return [value]
    own = np.frombuffer(pickle.dumps(value), "uint8")
    lengths = backend.gather(np.array([len(own)], "int64"))[:, 0]
    parts = backend.gather(np.pad(own, (0, lengths.max() - len(own))))
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
    if world_size() == 1 or _watch is not None:
        yield
        return
    _watch, failed = (
        Watch(rank() == 0, world_size(), backend.first_host(), gather, last_words),
        True,
    )
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
    if rank() == 0:
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
    return result if rank() == 0 else function()


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
