"""A CPU with AVX-512, used as one that has AVX2 only."""

import ctypes
import os
import subprocess
from pathlib import Path

VARIABLES = {
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "TF_ENABLE_ONEDNN_OPTS": "0",  # TensorFlow's default without AVX-512.
    "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
}
"""Environment variables that limit oneDNN, PyTorch, TensorFlow and the code that XLA generates."""

_FUNCTION = "_ZN3ynn24get_supported_arch_flagsEv"
_FLAGS = "_ZZN3ynn24get_supported_arch_flagsEvE5flags"
_UP_TO_FMA = 0x7F  # The bits of YNNPACK's arch_flag from sse2 to fma3.


def set_variables() -> None:
    """Sets `VARIABLES` for the processes started from now on.

    TF_ENABLE_ONEDNN_OPTS keeps its value, since either one is within AVX2.
    """
    chosen = os.environ.get("TF_ENABLE_ONEDNN_OPTS", VARIABLES["TF_ENABLE_ONEDNN_OPTS"])
    os.environ.update(VARIABLES | {"TF_ENABLE_ONEDNN_OPTS": chosen})


def is_limited() -> bool:
    """Whether `VARIABLES` were set when this process began."""
    return VARIABLES.keys() <= os.environ.keys()


def limit_jax() -> None:
    """Limits YNNPACK, which computes JAX's matrix products and has no variable of its own.

    JAX's library keeps in a static variable which instructions YNNPACK may use. Its address comes
    from the table of symbols (`nm`, of binutils), since the library exports none of this.

    Raises:
        RuntimeError: If JAX's library has no such variable.
    """
    import jaxlib._jax

    library = Path(jaxlib.__file__).with_name("libjax_common.so")
    lines = subprocess.run(
        ["nm", "--defined-only", library], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    addresses = {name: int(address, 16) for address, _, name in map(str.split, lines)}
    if not {_FUNCTION, _FLAGS} <= addresses.keys():
        raise RuntimeError(f"{library} must contain YNNPACK. Received: a library without {_FLAGS}.")
    mapped = Path("/proc/self/maps").read_text().splitlines()
    start = min(int(line.split("-")[0], 16) for line in mapped if line.endswith(str(library)))
    supported = ctypes.CFUNCTYPE(ctypes.c_uint64)(start + addresses[_FUNCTION])
    supported()  # Sets the variable.
    flags = ctypes.c_uint64.from_address(start + addresses[_FLAGS])
    flags.value &= _UP_TO_FMA
    if supported() & ~_UP_TO_FMA:
        raise RuntimeError(f"YNNPACK must be limited to AVX2. Received: {supported():#x}.")
