"""Imports large libraries quickly, and without what they write to standard error meanwhile."""

import contextlib
import gc
import os
import sys
from collections.abc import Iterator


def import_keras() -> None:
    """Imports Keras and its backend.

    Raises:
        ImportError: If the backend is not installed; the message states how to install it.
        ValueError: If Keras has no backend of the name in the environment variable KERAS_BACKEND.
    """
    selected = os.environ.get("KERAS_BACKEND")
    try:
        with _quiet(), _without_garbage_collection("keras"):
            import keras  # noqa: F401

            if "tensorflow" in sys.modules:
                _load_tensorflow()
    except ModuleNotFoundError as error:
        # The extra of a backend has its name.
        if error.name not in ("jax", "torch"):
            raise
        raise ImportError(
            f"{error.name} must be installed for the backend {error.name!r}: "
            f"pip install 'keras-fcn[{error.name}]'"
        ) from error
    except ValueError as error:
        if selected is None or selected not in str(error):
            raise
        raise ValueError(
            "The environment variable KERAS_BACKEND must be tensorflow, jax or torch. "
            f"Received: KERAS_BACKEND={selected}."
        ) from error


def import_tensorflow() -> None:
    """Imports TensorFlow, whose tf.data reads data sets for every backend."""
    with _quiet(), _without_garbage_collection("tensorflow"):
        _load_tensorflow()


def _load_tensorflow():
    import tensorflow

    tensorflow.config.list_physical_devices()  # Loads the drivers of the devices.


@contextlib.contextmanager
def _without_garbage_collection(module: str) -> Iterator[None]:
    """Keeps the garbage collector from searching a library, which takes as long as its import.

    It would do so many times during the import, and once more when the process ends. Of a process
    that has imported the library already, nothing changes.
    """
    if module in sys.modules:
        yield
        return
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
