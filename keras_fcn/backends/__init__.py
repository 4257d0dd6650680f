"""The seam between this package and Keras's backends.

No other package asks which backend runs. It calls `backend`, an object of a subclass of
`base.Backend`, whose methods are all that a backend may do differently. What this package uses of
Keras's, TensorFlow's and JAX's private names stands in `keras_compat`, and nowhere else.
"""

import importlib

import keras

from keras_fcn.backends import base

_NAMES = ("tensorflow", "jax", "torch")


def _current_backend() -> base.Backend:
    name = keras.config.backend()
    if name not in _NAMES:
        # Keras on NumPy and OpenVINO: layers and metrics work, nothing is trained.
        return base.Backend()
    return importlib.import_module(f"keras_fcn.backends.{name}").Backend()


backend = _current_backend()
