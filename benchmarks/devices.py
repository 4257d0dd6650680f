"""The GPU, if there is one: its name, its precisions, its memory."""

import functools
import shutil
import subprocess

PRECISIONS = ("float32", "tensorfloat32", "bfloat16", "float16")
"""`"tensorfloat32"` is float32 whose matmul inputs are rounded to 10 mantissa bits; GPUs only."""


@functools.cache
def gpu() -> str | None:
    """Returns the name of the first NVIDIA GPU, or `None` if there is none."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    lines = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    return lines[0].strip() if lines else None


def set_float32_products(library: str, precision: str) -> None:
    """Sets the precision of a library's float32 matmuls; the libraries' defaults differ.

    Args:
        library: `"tensorflow"`, `"jax"` or `"torch"`.
        precision: One of `PRECISIONS`; all except `"tensorfloat32"` mean full float32.
    """
    rounds = precision == "tensorfloat32"
    if library == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_tensor_float_32_execution(rounds)
    elif library == "jax":
        import jax

        jax.config.update("jax_default_matmul_precision", "tensorfloat32" if rounds else "highest")
    else:
        import torch

        torch.backends.cuda.matmul.allow_tf32 = rounds
        torch.backends.cudnn.allow_tf32 = rounds


def reset_peak(library: str) -> None:
    """Resets the peak memory; JAX cannot, so its peak counts from the start of the process."""
    if gpu() is None:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    elif library == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.reset_memory_stats("GPU:0")
    elif library == "torch":
        import torch

        torch.cuda.reset_peak_memory_stats()


def peak(library: str) -> int:
    """Returns the peak memory of this process in bytes: GPU memory, or resident without a GPU."""
    if gpu() is None:
        with open("/proc/self/status") as file:
            line = next(line for line in file if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    if library == "tensorflow":
        import tensorflow as tf

        return tf.config.experimental.get_memory_info("GPU:0")["peak"]
    if library == "jax":
        import jax

        return jax.local_devices()[0].memory_stats()["peak_bytes_in_use"]
    import torch

    return torch.cuda.max_memory_allocated()
