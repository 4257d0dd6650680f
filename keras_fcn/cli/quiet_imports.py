"""Imports large libraries without what they write to standard error while they load."""

import contextlib
import os
import sys
from collections.abc import Iterator


def import_keras() -> None:
    """Imports Keras and its backend."""
    with _quiet():
        import keras  # noqa: F401

        if "tensorflow" in sys.modules:
            _load_tensorflow()


def import_tensorflow() -> None:
    """Imports TensorFlow, whose tf.data reads data sets for every backend."""
    with _quiet():
        _load_tensorflow()


def _load_tensorflow():
    import tensorflow

    tensorflow.config.list_physical_devices()  # Loads the drivers of the devices.


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
