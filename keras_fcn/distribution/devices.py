"""What kinds of devices the backend computes on."""

import keras


def has_gpu() -> bool:
    """Returns whether TensorFlow or JAX sees a GPU or another accelerator."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return bool(tf.config.list_logical_devices("GPU"))
    import jax

    return jax.default_backend() != "cpu"
