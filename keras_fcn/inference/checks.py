"""Checks of the images to predict, of the model that takes them, and of its scores."""

import math
import numbers
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from keras_fcn.spelling import counted

# NumPy's kinds of dtypes: complex numbers, objects, strings, dates.
_NOT_REAL = "cOSUmM"


def image_layout(model: keras.Model) -> str:
    """Returns the data format of an FCN, or infers that of another model from its input shape.

    Raises:
        ValueError: If the model does not take one image, or has no input shape.
    """
    if isinstance(getattr(model, "input", None), dict):
        raise ValueError(
            "`model` must take one image. Received: one that takes "
            f"{' and '.join(model.input)}; call `model.predict` with a dictionary."
        )
    is_model = hasattr(model, "predict_on_batch")  # An exported file has it, too.
    if is_model and hasattr(model, "data_format"):
        return model.data_format
    shape = getattr(model, "input_shape", None) if is_model else None
    if shape is None:
        raise ValueError(
            "`model` must be a functional keras.Model, or a Sequential one with a keras.Input, "
            f"whose input shape shows its data format. Received: a {type(model).__name__}."
        )
    if len(shape) != 4:
        raise ValueError(
            "`model` must take images, (batch, height, width, channels). Received: "
            f"model.input_shape={shape}."
        )
    is_first = (shape[1] or math.inf) < (shape[-1] or math.inf)
    return "channels_first" if is_first else "channels_last"


def check_batch(images: Any) -> None:
    """Raises a ValueError unless `images` is an array of four axes."""
    if len(getattr(images, "shape", ())) != 4:
        received = f"{type(images).__name__} of shape {np.shape(images)}"
        raise ValueError(
            "`images` must be an array, (batch, height, width, channels) or with the channels "
            f"before the height for a `channels_first` model. Received: {received}."
        )


def check_images(model: keras.Model, images: Any, argument: str) -> None:
    """Checks a batch in the model's data format before it is predicted.

    Args:
        model: The model.
        images: The batch, of four axes.
        argument: What the caller's user calls the images, such as "`image`".

    Raises:
        ValueError: If the images do not have the model's channels, have no pixels, or as
            `check_pixels`.
    """
    shape = images.shape
    is_first = image_layout(model) == "channels_first"
    taken = getattr(model, "input_shape", shape)[1 if is_first else -1]
    channels, *size = shape[1:] if is_first else (shape[3], *shape[1:3])
    if taken not in (None, channels):
        raise ValueError(
            f"{argument} must have the {counted(taken, 'channel')} that the model takes. Received: "
            f"{(*size, channels)} as height, width and channels."
        )
    if 0 in size:
        raise ValueError(
            f"{argument} must have pixels. Received: height={size[0]}, width={size[1]}."
        )
    check_pixels(images, argument)


def checked_scales(scales: Any) -> tuple[float, ...]:
    """Returns the factors of `predict_label_maps` as a tuple.

    Raises:
        ValueError: If there is none, or one is not a finite number greater than 0.
    """
    are_several = isinstance(scales, Iterable) and not isinstance(scales, str)
    factors = tuple(scales) if are_several else ()
    if not factors or not all(map(_is_scale, factors)):
        raise ValueError(
            "`scales` must be finite numbers greater than 0, such as (0.75, 1.0, 1.25). Received: "
            f"{scales=}."
        )
    return factors


def _is_scale(value):
    return isinstance(value, numbers.Real | np.floating) and 0 < value < math.inf


def check_pixels(images: np.ndarray, argument: str = "`image`") -> None:
    """Checks that images hold numbers that float32 does, too.

    Backends differ in whether ReLU and pooling pass NaN on to the scores.

    Args:
        images: Of any shape. Only arrays of NumPy are checked.
        argument: As in `check_images`.

    Raises:
        ValueError: If a value is NaN, infinite or too large, or the dtype is none of real numbers.

    Examples:
        >>> check_pixels(np.zeros((2, 3, 3), "uint8"))
    """
    if not isinstance(images, np.ndarray):
        return
    if images.dtype.kind in _NOT_REAL:
        raise ValueError(f"{argument} must hold real numbers. Received: dtype {images.dtype}.")
    if images.dtype.kind != "f":
        return
    largest = float(np.finfo("float32").max)
    # NumPy's extremes propagate NaN, which is not within any limits.
    extremes = float(images.min(initial=0)), float(images.max(initial=0))
    if not all(-largest <= extreme <= largest for extreme in extremes):
        raise ValueError(
            f"{argument} must hold finite values, in the range of float32. Received: values from "
            f"{extremes[0]:g} to {extremes[1]:g}."
        )


def check_scores(scores: np.ndarray) -> None:
    """Checks that the largest of the scores of a pixel can be found.

    Args:
        scores: Logits or probabilities, of any shape.

    Raises:
        ValueError: If one is NaN or infinite. A logit of minus infinity is a probability of 0.

    Examples:
        >>> check_scores(np.array([0.5, -np.inf]))
    """
    if np.isfinite(scores.max(initial=0)):  # NumPy's maximum propagates NaN.
        return
    wrong = np.isnan(scores) | (scores == np.inf)
    raise ValueError(
        f"`model` must return finite scores. Received: {wrong.sum():,} of {scores.size:,} are NaN "
        "or infinite. Its weights are not finite, which `keras_fcn.diagnose` shows; or its "
        "feature maps exceed the range of float16: load it in float32 or mixed_bfloat16."
    )
