"""Host memory: how much is free, and how to return freed memory to the system."""

import ctypes
import functools
import sys
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def return_freed_memory() -> None:
    """Returns freed memory of the process to the operating system; has an effect only on glibc.

    When the sizes of feature maps change from image to image, the C library keeps freed blocks that
    do not fit the next image, so resident memory would grow with the number of sizes.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@functools.cache
def _malloc_trim():
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), "malloc_trim", None)


def free_memory() -> int | None:
    """Returns how many bytes the process can still allocate, or `None` if that is unknown."""
    try:
        import psutil
    except ImportError:
        return None
    free = psutil.virtual_memory().available
    try:
        limit, used = (int((_CGROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
    except (OSError, ValueError):  # No version 2 cgroup, or its limit is "max".
        return free
    return min(free, max(0, limit - used))
