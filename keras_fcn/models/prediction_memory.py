"""The memory that a prediction needs, and whether that much is free."""

import keras

from keras_fcn.distribution.devices import computes_on_cpus
from keras_fcn.distribution.free_memory import free_memory

# How many maps of block 1, at the image's size, and how many of the classes exist at the same time.
# Slope of the peak of resident memory from 800x800 to 1200x1200 pixels, FCN-8s of VGG-16's filters,
# bytes a pixel with padding "same" and "paper": TensorFlow 866 and 907, PyTorch 878 and 906,
# JAX 662 and 653. From 500x500 to 900x900 with filters of 4 and 151 classes: 3087, 1956 and 1278.
# (TensorFlow 2.21.0, PyTorch 2.13.0, JAX 0.10.2, Keras 3.15.1, float32, 2026-11-27.)
_MAPS = {"tensorflow": 3, "torch": 3, "jax": 2}
_SCORES = {"tensorflow": 5, "torch": 3, "jax": 2}
# The image, as bytes, as float32 and preprocessed, and all that is smaller.
_BYTES_OF_REST = 110


def prediction_bytes(model: keras.Model, num_images: int, height: int, width: int) -> int | None:
    """Returns about how many bytes a prediction takes at its peak, beyond the weights.

    Args:
        model: An FCN, or a model of its layers.
        num_images: Images in the batch.
        height: Of an image, in pixels.
        width: Of an image, in pixels.

    Returns:
        Bytes; `None` for a model without VGG-16's first convolution.
    """
    first = _find(model, "block1_conv1")
    if first is None:
        return None
    backend = keras.backend.backend()
    itemsize = 2 if first.compute_dtype in ("float16", "bfloat16") else 4
    shape = model.output_shape
    classes = min(size for size in (shape[1], shape[-1]) if size is not None)
    maps = _MAPS[backend] * itemsize * first.filters
    # Each is free before the other one is needed.
    per_pixel = max(maps, _SCORES[backend] * 4 * classes) + _BYTES_OF_REST
    return num_images * height * width * per_pixel


def check_prediction_memory(
    model: keras.Model, height: int, width: int, *, num_images: int = 1, scale: float = 1.0
) -> None:
    """Raises if a prediction on CPUs needs more memory than is free; on GPUs it does nothing.

    Args:
        model: As in `prediction_bytes`.
        height: Of an image, in pixels.
        width: Of an image, in pixels.
        num_images: Images in the batch.
        scale: The largest factor by which the images are resized.

    Raises:
        ValueError: If the memory is not there.
    """
    if not computes_on_cpus():
        return
    needed = prediction_bytes(model, num_images, round(height * scale), round(width * scale))
    free = free_memory()
    if needed is None or free is None or needed <= free:
        return
    raise ValueError(
        f"A prediction must fit in the free memory. Received: {num_images} image(s) of "
        f"{height}x{width} pixels at scale {scale:g}, which need about {needed / 2**30:.1f} GiB, "
        f"of which {free / 2**30:.1f} GiB are free. Resize the image, cut it into parts, or "
        "predict at scales below 1 (`scales`, or --test-scales on the command line)."
    )


def _find(model, name):
    for layer in model.layers:
        if layer.name == name:
            return layer
        found = _find(layer, name) if isinstance(layer, keras.Model) else None
        if found is not None:
            return found
    return None
