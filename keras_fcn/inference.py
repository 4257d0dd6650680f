"""Predicts the label map of an image of any size."""

import math
import threading
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_fcn.backends.host_memory import return_freed_memory
from keras_fcn.models.prediction_memory import check_prediction_memory


def predict_label_map(
    model: keras.Model,
    image: np.ndarray,
    *,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
) -> np.ndarray:
    """Predicts the class of every pixel of an image.

    Args:
        model: An FCN, see `keras_fcn.models.fcn`, or another `keras.Model` from images to logits or
            probabilities of the same height and width, such as a wrapped FCN.
        image: RGB in [0, 255], (height, width, 3), also for a `channels_first` model.
        scales: See `predict_label_maps`.
        flip: See `predict_label_maps`.

    Returns:
        Class ids, (height, width), int32.

    Raises:
        ValueError: If `image` does not have three axes, and as `predict_label_maps`.

    Examples:
        >>> predict_label_map(FCN8s(2, fc_units=4), np.zeros((5, 9, 3), "uint8")).shape
        (5, 9)
    """
    image = np.asarray(image)
    if image.ndim != 3:
        raise ValueError(
            f"`image` must be (height, width, channels). Received: image.shape={image.shape}."
        )
    if _data_format(model) == "channels_first":
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

    Several `scales` and `flip` are test-time augmentation: the class probabilities of all resized
    and mirrored views are averaged.

    Args:
        model: See `predict_label_map`.
        images: RGB in [0, 255], (batch, height, width, 3).
        scales: Factors by which the images are resized.
        flip: Whether to add the horizontally mirrored views.

    Returns:
        Class ids, (batch, height, width), int32.

    Raises:
        ValueError: If there is no scale, or one is not greater than 0; if the number of channels is
            wrong, or the output does not have the height and width of the images; or, on CPUs, if
            the prediction needs more memory than is free.
    """
    scales = tuple(scales)
    if not scales or not all(scale > 0 for scale in scales):
        raise ValueError(f"`scales` must be numbers greater than 0. Received: {scales=}.")
    data_format = _data_format(model)
    class_axis = 1 if data_format == "channels_first" else -1
    channels = getattr(model, "input_shape", images.shape)[class_axis]
    if channels not in (None, images.shape[class_axis]):
        shape = images.shape[1:]
        shape = (*shape[1:], shape[0]) if class_axis == 1 else shape
        raise ValueError(
            f"`image` must have the {channels} channels that the model takes. Received: "
            f"image.shape={shape}."
        )
    first = 2 if class_axis == 1 else 1
    height, width = images.shape[first : first + 2]
    if isinstance(model, keras.Model):
        check_prediction_memory(model, height, width, num_images=len(images), scale=max(scales))
    if scales == (1.0,) and not flip:
        scores = predict_scores(model, images)
    else:
        views = [(scale, mirrored) for scale in scales for mirrored in {False, flip}]
        scores = sum(_probabilities(model, images, *view) for view in views)
    label_maps = scores.argmax(axis=class_axis).astype("int32")
    del scores
    _return_memory_of_another_size(label_maps.shape)
    return label_maps


def _data_format(model):
    """Returns the data format of an FCN, or infers that of another model from its input shape."""
    if isinstance(getattr(model, "input", None), dict):
        raise ValueError(
            "`model` must take one image. Received: one that takes "
            f"{' and '.join(model.input)}; call `model.predict` with a dictionary."
        )
    if hasattr(model, "data_format"):
        return model.data_format
    shape = model.input_shape
    if len(shape) != 4:
        raise ValueError(
            "`model` must take images, (batch, height, width, channels). Received: "
            f"model.input_shape={shape}."
        )
    is_first = (shape[1] or math.inf) < (shape[-1] or math.inf)
    return "channels_first" if is_first else "channels_last"


def predict_scores(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Predicts the logits, or probabilities, of a batch in the model's data format.

    Args:
        model: As in `predict_label_map`.
        images: As in `predict_label_maps`.

    Returns:
        Output of the model: (batch, height, width, num_classes), or with the classes first.

    Raises:
        ValueError: If the output is not one map of the height and width of the images.
    """
    data_format = _data_format(model)
    scores = model.predict_on_batch(images)
    shape = getattr(scores, "shape", ())
    first = 2 if data_format == "channels_first" else 1
    if len(shape) != 4 or shape[first : first + 2] != images.shape[first : first + 2]:
        received = f"shape {tuple(shape)}" if shape else f"a {type(scores).__name__}"
        raise ValueError(
            "`model` must return one map of logits of the height and width of the images. "
            f"Received: an output of {received} for images of shape {images.shape}."
        )
    return ops.convert_to_numpy(scores)


def _is_logits(model, scores, class_axis):
    config = model.get_config()
    if "classifier_activation" in config:
        return config["classifier_activation"] is None
    # The configuration of another model does not state its last activation; the values show it.
    return scores.min() < 0 or abs(scores.sum(axis=class_axis) - 1).max() > 1e-2


_last_shape = threading.local()


def _return_memory_of_another_size(shape):
    # Only when the size changes: the next prediction of the same size needs the memory again.
    if getattr(_last_shape, "value", shape) != shape:
        return_freed_memory()
    _last_shape.value = shape


def _probabilities(model, images, scale, mirrored):
    """Returns class probabilities at the size of the images, from one resized or mirrored view."""
    data_format = _data_format(model)
    first, channels_last = (1, True) if data_format == "channels_last" else (2, False)
    size = images.shape[first : first + 2]
    options = {"interpolation": "bilinear", "antialias": True, "data_format": data_format}
    view = ops.convert_to_tensor(images, "float32")
    scaled_size = tuple(max(1, round(length * scale)) for length in size)
    if scaled_size != size:
        view = ops.image.resize(view, scaled_size, **options)
    if mirrored:
        view = ops.flip(view, axis=first + 1)
    scores = predict_scores(model, ops.convert_to_numpy(view))
    is_logits = _is_logits(model, scores, -1 if channels_last else 1)
    scores = ops.convert_to_tensor(scores)
    if is_logits:
        scores = ops.softmax(scores, axis=-1 if channels_last else 1)
    if mirrored:
        scores = ops.flip(scores, axis=first + 1)
    if scaled_size != size:
        scores = ops.image.resize(scores, size, **options)
    return ops.convert_to_numpy(scores)
