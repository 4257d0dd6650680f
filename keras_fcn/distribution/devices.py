"""What kinds of devices the backend computes on."""

import keras


def is_tensorflow_without_gpu() -> bool:
    """Returns whether the backend is TensorFlow and sees no GPU."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return not tf.config.list_logical_devices("GPU")


def is_jax_without_gpu() -> bool:
    """Returns whether the backend is JAX and computes on CPUs."""
    if keras.backend.backend() != "jax":
        return False
    import jax

    return jax.default_backend() == "cpu"


def is_jax_with_gpu() -> bool:
    """Returns whether the backend is JAX and computes on GPUs."""
    if keras.backend.backend() != "jax":
        return False
    import jax

    return jax.default_backend() == "gpu"


def is_one_cpu_of_jax() -> bool:
    """Returns whether the backend is JAX and computes on a single CPU."""
    if not is_jax_without_gpu():
        return False
    import jax

    return jax.device_count() == 1


def computes_on_cpus() -> bool:
    """Returns whether the backend computes on CPUs alone."""
    if keras.backend.backend() == "torch":
        # Keras's private function: which device Keras puts tensors on, there is no public one.
        from keras.src.backend.torch.core import get_device

        return get_device() == "cpu"
    return is_tensorflow_without_gpu() or is_jax_without_gpu()
