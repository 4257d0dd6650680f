import gc
from pathlib import Path

import keras
import pytest


@pytest.fixture(scope="session")
def shared():
    """Folder of real data and weights beside the repository, which not everybody has."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"there is no {folder}")
    return folder


@pytest.fixture(scope="module", autouse=True)
def release_memory():
    """JAX keeps what it compiled for every shape: gigabytes over the whole suite."""
    yield
    gc.collect()
    if keras.backend.backend() == "jax":
        import jax

        jax.clear_caches()
