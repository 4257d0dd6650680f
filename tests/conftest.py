import gc
import importlib.metadata
import os
import shutil
import sys
from pathlib import Path

import pytest

CACHE = Path(__file__).resolve().parents[1] / ".pytest_cache"

# Set before the backends are imported, and for the processes that tests start, too.
#
# Many tests start Python. Where it may not write byte code (as in many containers), each process
# would compile the 4000 files of TensorFlow and Keras again, which takes longer than their import.
if sys.dont_write_bytecode:
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if sys.pycache_prefix is None:
        sys.pycache_prefix = os.environ["PYTHONPYCACHEPREFIX"] = str(CACHE / "pycache")
# Many tests compile the same networks. JAX keeps them on disk, from one run to the next. Were it
# told a largest size, it would read the whole folder whenever it adds a program.
PROGRAMS = CACHE / "jax"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(PROGRAMS))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "0")
# Most of the time goes into compiling what then runs once; JAX's own tests are compiled so, too.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
if os.environ.get("KERAS_BACKEND") == "jax" and importlib.metadata.version("jax")[:5] == "0.10.":
    # A quarter of the time to compile a gradient. A version that does not know a flag ends at it.
    _flags = os.environ.get("XLA_FLAGS", "").split()
    os.environ["XLA_FLAGS"] = " ".join({*_flags, "--xla_cpu_use_fusion_emitters=false"})
if "PYTEST_XDIST_WORKER" in os.environ:
    # The workers share the cores: each gets one, as the small networks of the tests want.
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(name, "1")


def pytest_configure(config):
    if hasattr(config, "workerinput") or not PROGRAMS.is_dir():
        return
    if sum(entry.stat().st_size for entry in os.scandir(PROGRAMS)) > 2**30:
        shutil.rmtree(PROGRAMS)


@pytest.fixture(scope="session")
def shared():
    """Folder of real data and weights beside the repository, which not everybody has."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"there is no {folder}")
    return folder


@pytest.fixture(autouse=True)
def same_random_numbers():
    """A network of few units may draw weights at which all of them are dead."""
    import keras  # Not at the top: the process that starts the workers needs no backend.

    keras.utils.set_random_seed(0)


@pytest.fixture(scope="module", autouse=True)
def release_memory():
    """JAX keeps what it compiled for every shape: gigabytes over the whole suite."""
    yield
    import keras

    if keras.backend.backend() == "jax":
        import jax

        jax.clear_caches()
    gc.collect()
    # What is left, such as the modules of the backend, is not searched again: 0.6 s for each file.
    gc.freeze()
