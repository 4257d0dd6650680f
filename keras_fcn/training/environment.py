"""The environment of a run: hardware and versions."""

import importlib
import os
import platform
import warnings
import zlib
from pathlib import Path

import keras

from keras_fcn.backends import backend
from keras_fcn.version import __version__


def environment() -> dict[str, str]:
    """Returns hardware and versions, on which a run depends in addition to data and settings."""
    versions = {name: importlib.import_module(name).__version__ for name in ("tensorflow", "numpy")}
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "CPU": _cpu_model(),
        "CPU cores": str(_num_cores()),
        "memory": _memory(),
        "GPU": ", ".join(backend.gpu_names()) or "none",
        "backend": f"{backend.name} {backend.version()}",
        "keras": keras.__version__,
        "keras_fcn": __version__,
        backend.name: backend.version(),
        **versions,
    }


def code_of_package() -> str:
    """Returns versions and a checksum of this package's code, to distinguish copies of it."""
    folder = Path(__file__).resolve().parents[1]
    total = 0
    for path in sorted(folder.rglob("*.py")):
        total = zlib.crc32(path.read_bytes(), total)
    parts = environment()
    return f"keras_fcn {total:08x}, keras {parts['keras']}, {parts['backend']}"


def warn_of_slow_precision(precision: str) -> None:
    """Warns in one line if a precision is several times slower than float32 on this machine.

    Args:
        precision: Dtype policy of a model, such as `"mixed_bfloat16"` for mixed precision.
    """
    flags = _cpuinfo("flags")
    has_units = flags is None or "avx512bw" in flags.split()
    is_slow = backend.bfloat16_needs_avx512 and not has_units and not backend.gpu_names()
    if precision != "float32" and is_slow:
        warnings.warn(
            f"precision={precision} is slow on this CPU, which has no AVX-512: it takes several "
            "times as long as float32. Pass --precision float32.",
            stacklevel=3,
        )


def _cpu_model():
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _cpuinfo(name):
    """Returns a field of the first core in Linux's /proc/cpuinfo; `None` on other systems."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith(f"{name}\t"):
                return line.partition(":")[2].strip()
    return None


def _num_cores():
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _memory():
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # Not on Windows.
        return "unknown"
    return f"{size / 2**30:.1f} GiB"
