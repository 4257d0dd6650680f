import gc
import os
import tempfile
from pathlib import Path

# Many tests compile the same networks. JAX keeps them on disk if it is told so before its import,
# for the processes that tests start, too.
_jax_cache = tempfile.TemporaryDirectory(prefix="jax-cache-")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", _jax_cache.name)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
# Most of the time goes into compiling what then runs once; JAX's own tests are compiled so, too.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import keras  # noqa: E402
import pytest  # noqa: E402
from helpers import NARROW_FILTERS  # noqa: E402


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
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="module")
def narrow_blocks():
    """VGG-16 in few channels, which takes half of the time, for tests of what is around it."""
    from keras_fcn.models import vgg16

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vgg16, "_FILTERS", NARROW_FILTERS)
        yield


@pytest.fixture(scope="module", autouse=True)
def release_memory():
    """JAX keeps what it compiled for every shape: gigabytes over the whole suite."""
    yield
    gc.collect()
    if keras.backend.backend() == "jax":
        import jax

        jax.clear_caches()
