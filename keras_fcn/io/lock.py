"""A lock on a folder, which one process holds at a time."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no such locks.
    fcntl = None  # type: ignore[assignment]

_held: set[int] = set()
"""Descriptors of the folders that this process has locked."""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Context manager that holds a lock on a folder, whose files may be replaced meanwhile.

    The lock ends with the block, or with the process; children that it forks do not hold it. File
    systems without locks, such as some of the network, and Windows do not check.

    Raises:
        BlockingIOError: If another process holds the lock.
        FileNotFoundError: If there is no such folder.
    """
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:
            pass
        _held.add(descriptor)
        yield
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


def _close_in_child():
    """The lock would live on in a forked child, such as a worker of `multiprocessing`."""
    while _held:
        os.close(_held.pop())


if fcntl is not None:
    os.register_at_fork(after_in_child=_close_in_child)
