"""Communication between the processes of one training, on every backend.

These functions are collective operations: all processes must call them in the same order.
"""

import contextlib
import os
import pickle
import signal
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np

from keras_fcn.backends import backend
from keras_fcn.distribution.watch import Watch

_Value = TypeVar("_Value")
_watch: Watch | None = None


def world_size() -> int:
    """Returns the number of processes that train together; 1 before `data_parallel` joins them."""
    return backend.world_size()


def rank() -> int:
    """Returns the rank of this process, from 0."""
    return backend.rank()


def shard() -> tuple[int, int]:
    """Returns (`rank()`, `world_size()`), the shard of the data that this rank reads."""
    return rank(), world_size()


def check_joined() -> None:
    """Raises a ValueError if this process was started as one of several but has not joined them."""
    started = backend.started_processes()
    if started > 1 and world_size() == 1:
        raise ValueError(
            "`data_parallel()` must be entered before data is sharded across processes. Received: "
            f"{started} processes that have not joined."
        )


def gather(value: _Value) -> list[_Value]:
    """Returns the values of all processes, ordered by rank (all-gather).

    Args:
        value: Any object that can be pickled.
    """
    if world_size() == 1:
        return [value]
    own = np.frombuffer(pickle.dumps(value), "uint8")
    lengths = backend.gather(np.array([len(own)], "int64"))[:, 0]
    parts = backend.gather(np.pad(own, (0, lengths.max() - len(own))))
    return [pickle.loads(part[:n].tobytes()) for part, n in zip(parts, lengths, strict=True)]


def sum_of_all(array: np.ndarray) -> np.ndarray:
    """Returns the sum of the arrays of all processes (all-reduce); exact for integers."""
    return np.sum(gather(array), axis=0, dtype=array.dtype)


@contextlib.contextmanager
def watched(final_message: str) -> Iterator[None]:
    """Ends this process when another one ends within the block, instead of waiting forever.

    When one process raises an error, the others get a few seconds to raise theirs: often all of
    them find the same error. A process that raised one ends with exit code 1, after Ctrl-C with
    130; a `KeyboardInterrupt` may have another `exit_code`.

    Args:
        final_message: Line written to standard error before this process ends.

    Raises:
        ConnectionError: If the processes cannot connect to each other.
    """
    global _watch
    if world_size() == 1 or _watch is not None:
        yield
        return
    _watch = Watch(rank() == 0, world_size(), backend.first_host(), gather, final_message)
    exit_code = 0
    try:
        yield
    except KeyboardInterrupt as error:
        exit_code = getattr(error, "exit_code", 128 + signal.SIGINT)
        raise
    except BaseException:
        exit_code = 1
        raise
    finally:
        _watch.end(exit_code)
        _watch = None


def first_before_others(function: Callable[[], _Value]) -> _Value:
    """Calls a function in process 0, then in the others: one builds, the others find the result.

    If the processes are `watched`, process 0 may take any length of time.

    Raises:
        ValueError: In every process, if the function fails in process 0.
    """
    result: Any = None
    error = None
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
    """Calls a function in all processes in parallel.

    Raises:
        ValueError: In every process, if the function fails in one of them.
    """
    result: Any = None
    error = None
    try:
        result = function()
    except (OSError, ValueError) as failure:
        error = failure
    messages = gather(None if error is None else str(error))
    if error is not None:
        raise error
    for rank, message in enumerate(messages):
        if message is not None:
            raise ValueError(f"Process {rank} failed: {message}")
    return result


def exists(path: str | os.PathLike) -> bool:
    """Returns whether a file or a folder exists, the same in all processes.

    Raises:
        ValueError: In every process, if only some of them see it.
    """
    seen = gather(os.path.exists(path))
    if len(set(seen)) > 1:
        raise ValueError(
            f"All processes must see the same files. Received: {path} exists for process "
            f"{seen.index(True)} and not for process {seen.index(False)}. Use a disk that all "
            "machines share. A network file system may show a change late: start the processes "
            "again after a minute."
        )
    return seen[0]


def check_equal(values: Mapping[str, Any]) -> None:
    """Checks that all processes have the same values.

    Args:
        values: Dictionary from a name, for the error message, to the value.

    Raises:
        ValueError: In every process, if a value differs.
    """
    every = gather(dict(values))
    for name, first in every[0].items():
        for rank, others in enumerate(every):
            if others[name] != first:
                raise ValueError(
                    f"All processes must have the same {name}. Received: {first} in process 0 and "
                    f"{others[name]} in process {rank}."
                )
