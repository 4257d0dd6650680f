"""Memory of the host: what is free, and what the process gives back."""

import ctypes
import functools
import sys


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
