"""From an image of any size to its label map."""

import threading
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_fcn.distribution.free_memory import return_freed_memory


def predict_label_map(
    model: keras.Model,
    image: np.ndarray,
    *,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
) -> np.ndarray:
    """Predicts the class of every pixel of an image.

    Args:
        model: An FCN; see `keras_fcn.models.fcn`.
        image: RGB in [0, 255], (height, width, 3), in the layout that files have.
        scales: See `predict_label_maps`.
        flip: See `predict_label_maps`.

    Returns:
        Class ids, (height, width), int32.

    Raises:
        ValueError: If `image` does not have three axes, or a scale is not greater than 0.

    Examples:
        >>> predict_label_map(FCN8s(2, fc_units=4), np.zeros((5, 9, 3), "uint8")).shape
        (5, 9)
    """
    image = np.asarray(image)
    if image.ndim != 3:
        raise ValueError(
            f"`image` must be (height, width, channels). Received: image.shape={image.shape}."
        )
    if model.data_format == "channels_first":
        image = image.transpose(2, 0, 1)
    return predict_label_maps(model, image[None], scales=scales, flip=flip)[0]


def predict_label_maps(
    model: keras.Model,
    images: np.ndarray,
    *,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
) -> np.ndarray:
    """Predicts the class of every pixel of a batch in the model's data format.

    Args:
        model: An FCN.
        images: RGB in [0, 255], (batch, height, width, 3).
        scales: Factors by which the images are resized; the probabilities are averaged.
        flip: Whether to average with the prediction of the mirrored images, too.

    Returns:
        Class ids, (batch, height, width), int32.

    Raises:
        ValueError: If there is no scale, or one is not greater than 0.
    """
    scales = tuple(scales)
    if not scales or not all(scale > 0 for scale in scales):
        raise ValueError(f"`scales` must be numbers greater than 0. Received: {scales=}.")
    class_axis = 1 if model.data_format == "channels_first" else -1
    if scales == (1.0,) and not flip:
        scores = ops.convert_to_numpy(model.predict_on_batch(images))
    else:
        views = [(scale, mirrored) for scale in scales for mirrored in {False, flip}]
        scores = sum(_probabilities(model, images, *view) for view in views)
    label_maps = scores.argmax(axis=class_axis).astype("int32")
    del scores
    _return_memory_of_another_size(label_maps.shape)
    return label_maps


_last_shape = threading.local()


def _return_memory_of_another_size(shape):
    # Not after every prediction: at one size the next one needs the memory again.
    if getattr(_last_shape, "value", shape) != shape:
        return_freed_memory()
    _last_shape.value = shape


def _probabilities(model, images, scale, mirrored):
    """Probabilities of the classes at the images' own size, from a view of them."""
    first, channels_last = (1, True) if model.data_format == "channels_last" else (2, False)
    size = images.shape[first : first + 2]
    options = {"interpolation": "bilinear", "antialias": True, "data_format": model.data_format}
    view = ops.convert_to_tensor(images, "float32")
    scaled_size = tuple(max(1, round(length * scale)) for length in size)
    if scaled_size != size:
        view = ops.image.resize(view, scaled_size, **options)
    if mirrored:
        view = ops.flip(view, axis=first + 1)
    scores = ops.convert_to_tensor(model.predict_on_batch(ops.convert_to_numpy(view)))
    if model.get_config()["classifier_activation"] is None:
        scores = ops.softmax(scores, axis=-1 if channels_last else 1)
    if mirrored:
        scores = ops.flip(scores, axis=first + 1)
    if scaled_size != size:
        scores = ops.image.resize(scores, size, **options)
    return ops.convert_to_numpy(scores)
