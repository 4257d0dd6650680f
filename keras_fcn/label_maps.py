"""Validates the label maps and sample weights of losses and metrics."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_fcn.backends import backend


def check_shapes(label_map: tuple, logits: tuple, axis: int) -> None:
    """Checks that the static shapes of a label map and of logits match.

    Args:
        label_map: Shape, with `None` for unknown sizes.
        logits: Shape, with `None` for unknown sizes.
        axis: Axis of the logits that holds the classes.

    Raises:
        ValueError: If the shape of the label map is not that of the logits without the classes. A
            further axis of length 1, last or in place of the classes, is allowed.

    Examples:
        >>> check_shapes((2, None, 4), logits=(2, 3, 4, 21), axis=-1)
    """
    axis = _place_of_classes(axis, logits)
    before, after = logits[:axis], logits[axis + 1 :]
    allowed = (before + after, (*before, 1, *after), (*before, *after, 1))
    if not any(_shapes_agree(label_map, shape) for shape in allowed):
        raise ValueError(
            "The shape of `label_map` must be that of `logits` without the classes. "
            f"Received: label_map={label_map}, logits={logits}"
        )


def label_tensor(label_map: Any) -> Any:
    """Returns a label map as a tensor. Integers that are too large become invalid labels.

    Args:
        label_map: Class ids, of any dtype and shape.

    Raises:
        ValueError: If there is none.
    """
    if label_map is None:
        raise ValueError(
            "`label_map` must hold class ids. Received: None. Batches must be tuples, (images, "
            "label_maps): map dictionaries, such as those of keras_fcn.data.load, to tuples."
        )
    if not ops.is_tensor(label_map):
        label_map = np.asarray(label_map)
        dtype = label_map.dtype
        # JAX keeps only the lower bits, so that 2^32 would be class 0. PyTorch has no uint64.
        if dtype.kind in "iu" and not np.can_cast(dtype, backend.integer_dtype):
            label_map = np.minimum(label_map, np.iinfo(backend.integer_dtype).max)
            if dtype.kind == "i":
                label_map = np.maximum(label_map, np.iinfo(backend.integer_dtype).min)
            label_map = label_map.astype(backend.integer_dtype)
    return ops.convert_to_tensor(label_map)


def read_labels(
    label_map: Any,
    logits: Any,
    axis: int,
    ignore_class: int | None,
    num_classes: int | None = None,
) -> tuple[Any, Any, Any]:
    """Returns the labels of the pixels, which of them are class ids, and which are ignored.

    All three have the shape of the logits without the classes. Other labels are invalid.

    Args:
        label_map: Class ids, of any dtype.
        logits: Tensor.
        axis: Axis of the logits that holds the classes.
        ignore_class: Label of ignored pixels; may be a class id.
        num_classes: Number of classes; by default that of the logits.

    Raises:
        ValueError: As `check_shapes`.

    Examples:
        >>> _, is_class, is_ignored = read_labels(
        ...     [[0, 0.5, 255]], ops.zeros((1, 3, 2)), axis=-1, ignore_class=255
        ... )
        >>> np.array(is_class).tolist(), np.array(is_ignored).tolist()
        ([[True, False, False]], [[False, False, True]])
    """
    labels = label_tensor(label_map)
    shape, sizes = tuple(logits.shape), list(ops.shape(logits))
    has_rank = getattr(labels.shape, "rank", 0) is not None  # TensorFlow may not know the rank.
    if has_rank:
        check_shapes(tuple(labels.shape), shape, axis)
    del sizes[_place_of_classes(axis, shape)]
    dtype = keras.backend.standardize_dtype(labels.dtype)
    is_float = keras.backend.is_float_dtype(dtype)
    if not is_float:
        narrow = np.can_cast(dtype, "int32")
        labels = ops.cast(labels, "int32" if narrow else backend.integer_dtype)
    elif dtype != "float64":  # bfloat16 has no 257.
        labels = ops.cast(labels, "float32")
    if not has_rank or len(labels.shape) == len(shape):
        labels = ops.reshape(labels, sizes)
    elif None in (*labels.shape, *shape):
        labels = ops.broadcast_to(labels, sizes)  # Raises if they differ.
    num_classes = shape[axis] if num_classes is None else num_classes
    is_class = ops.logical_and(labels >= 0, labels < num_classes)
    if is_float:
        is_class = ops.logical_and(is_class, labels == ops.floor(labels))
    # JAX casts uint32 to int32, where 2^32 - 1 is -1.
    if ignore_class is None or (ignore_class < 0 and dtype.startswith("uint")):
        return labels, is_class, ops.zeros_like(is_class)
    is_ignored = labels == ignore_class
    return labels, ops.logical_and(is_class, ops.logical_not(is_ignored)), is_ignored


def pixel_weights(sample_weight: Any, logits: tuple, axis: int, dtype: str) -> Any:
    """Returns sample weights in a shape that broadcasts to that of the logits without the classes.

    Args:
        sample_weight: Weights of images, (batch,), or of pixels, in the shape of a label map; sizes
            of 1 broadcast.
        logits: Shape, with `None` for unknown sizes.
        axis: Axis of the logits that holds the classes.
        dtype: Dtype of the result.

    Raises:
        ValueError: If the weights have another shape.

    Examples:
        >>> tuple(pixel_weights([1.0, 0.5], (2, 3, 4, 21), axis=-1, dtype="float32").shape)
        (2, 1, 1)
    """
    weights = ops.convert_to_tensor(sample_weight, dtype=dtype)
    shape, axis = tuple(weights.shape), axis % len(logits)
    pixels = logits[:axis] + logits[axis + 1 :]
    if len(shape) == len(logits):
        for place in (axis, len(logits) - 1):
            rest = shape[:place] + shape[place + 1 :]
            if shape[place] in (1, None) and _broadcasts(rest, pixels):
                return ops.squeeze(weights, axis=place)
    elif _broadcasts(shape, pixels[: len(shape)]):
        for _ in range(len(pixels) - len(shape)):
            weights = ops.expand_dims(weights, -1)
        return weights
    raise ValueError(
        "The shape of `sample_weight` must be (batch,) or that of `label_map`. "
        f"Received: sample_weight={shape}, logits={logits}"
    )


def _place_of_classes(axis, logits):
    rank = len(logits)
    if not -rank <= axis < rank:
        raise ValueError(
            f"The shape of `logits` must have the classes on axis={axis}. Received: logits={logits}"
        )
    return axis % rank


def _shapes_agree(shape, other):
    """Returns whether two static shapes may be equal; `None` is an unknown size."""
    return len(shape) == len(other) and all(
        a == b or None in (a, b) for a, b in zip(shape, other, strict=True)
    )


def _broadcasts(shape, other):
    return _shapes_agree([None if size == 1 else size for size in shape], other)
