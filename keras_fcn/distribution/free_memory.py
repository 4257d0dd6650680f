"""Memory of the host: what is free, and what the process gives back."""

import ctypes
import functools
import sys
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def return_freed_memory() -> None:
    """Returns the memory to the system that the process has freed; does nothing but on glibc.

    Of feature maps whose size changes from image to image, the C library keeps what does not fit
    the next one. So the resident memory would grow with the number of sizes.
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
    """Returns the bytes that the process may still take, or `None` if that is not known."""
    try:
        import psutil
    except ImportError:
        return None
    free = psutil.virtual_memory().available
    try:
        limit, used = (int((_CGROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
    except (OSError, ValueError):  # No cgroup of version 2, or one whose limit is "max".
        return free
    return min(free, max(0, limit - used))
