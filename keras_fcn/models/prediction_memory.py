"""Estimates the peak memory of a prediction and compares it with the free memory."""

import math
from typing import Any

import keras

from keras_fcn.backends import backend
from keras_fcn.backends.host_memory import free_memory
from keras_fcn.layers.inside import with_layers_inside
from keras_fcn.spelling import counted

# Sides that no backend computes with: they count pixels in 32 bits.
_MOST_PIXELS = 2**31
# Per pixel: the image as bytes, as float32 and preprocessed, and all smaller tensors.
_BYTES_OF_REST = 110


def prediction_bytes(model: keras.Model, num_images: int, height: int, width: int) -> int | None:
    """Returns the approximate peak memory of a prediction in bytes, without the weights.

    Args:
        model: An FCN, or a model of its layers.
        num_images: Images in the batch.
        height: Image height in pixels.
        width: Image width in pixels.

    Returns:
        Bytes; `None` for a model without VGG-16's first convolution.
    """
    if not isinstance(model, keras.Model):  # An exported file.
        return None
    first = _find(model, "block1_conv1")
    # A Sequential model has no `output` before its first call, a subclassed one has no `outputs`.
    outputs: Any = getattr(model, "outputs", None) or ()
    if first is None or len(outputs) != 1:
        return None
    itemsize = 2 if first.compute_dtype in ("float16", "bfloat16") else 4
    classes = outputs[0].shape[1 if _is_channels_first(model) else -1]
    if classes is None:  # No map of logits, which the prediction refuses.
        return None
    maps = backend.block1_maps * itemsize * first.filters
    # The maps of block 1 are freed before the scores are computed, so only the larger counts.
    per_pixel = max(maps, backend.score_maps * 4 * classes) + _BYTES_OF_REST
    factor = getattr(_find(model, "input_upsampling"), "size", (1, 1))
    return num_images * height * factor[0] * width * factor[1] * per_pixel


def check_prediction_memory(
    model: keras.Model, height: int, width: int, *, num_images: int = 1, scale: float = 1.0
) -> None:
    """Raises if a prediction on CPUs needs more memory than is free.

    On GPUs, only the size of the resized images is checked.

    Args:
        model: As in `prediction_bytes`.
        height: Image height in pixels.
        width: Image width in pixels.
        num_images: Images in the batch.
        scale: The largest factor by which the images are resized.

    Raises:
        ValueError: If the free memory is too small, or a side of a resized image has 2**31 pixels.
    """
    if max(height, width) * scale >= _MOST_PIXELS:
        raise ValueError(
            f"`scales` (--test-scales) must give images of less than {_MOST_PIXELS:,} pixels a "
            f"side. Received: an image of {height}x{width} pixels at scale {scale:g}."
        )
    if not backend.computes_on_cpu():
        return
    needed = prediction_bytes(model, num_images, round(height * scale), round(width * scale))
    free = free_memory()
    if needed is None or free is None or needed <= free:
        return
    raise ValueError(
        f"A prediction must fit in the free memory. Received: {counted(num_images, 'image')} of "
        f"{height}x{width} pixels at scale {scale:g}, for which about {needed / 2**30:.1f} GiB is "
        f"needed; {free / 2**30:.1f} GiB are free. Predict in tiles or in smaller ones "
        "(`keras_fcn.inference.predict_tiles`, or --tile on the command line), or at scales below "
        "1 (`scales`, or --test-scales on the command line)."
    )


def _is_channels_first(model):
    if hasattr(model, "data_format"):
        return model.data_format == "channels_first"
    shape = model.inputs[0].shape  # Of a model around an FCN.
    return (shape[1] or math.inf) < (shape[-1] or math.inf)


def _find(model, name):
    return next((layer for layer in with_layers_inside(model) if layer.name == name), None)
