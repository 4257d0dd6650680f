"""What the losses share: labels, ignored pixels and weights."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_fcn.arguments import finite_numbers, integer, optional_integer
from keras_fcn.backends import backend
from keras_fcn.label_maps import pixel_weights, read_labels


class PreciseLoss(keras.losses.Loss):
    """Base class of losses that are sums over many pixels."""

    @property
    def dtype(self):
        """The dtype of the loss; float32 instead of half precision, whose sums end at 2^8 pixels in
        bfloat16 and at 2^11 in float16, as its class ids do.
        """
        return "float64" if super().dtype == "float64" else "float32"


class SegmentationLoss(PreciseLoss):
    """Base class of the losses: ignored pixels, class weights, axis of the classes."""

    is_exact_on_replicas = True  # As in `SparseCategoricalCrossentropy`.

    def __init__(
        self,
        ignore_class: int | None = None,
        class_weights: Sequence[float] | Mapping[int, float] | None = None,
        axis: int = -1,
        name: str | None = None,
        dtype: str | keras.DTypePolicy | None = None,
    ):
        super().__init__(name=name, reduction=None, dtype=dtype)
        self.ignore_class = optional_integer("ignore_class", ignore_class)
        self.class_weights = None if class_weights is None else _checked_weights(class_weights)
        self.axis = integer("axis", axis)

    # Not `call`, which does not receive sample weights: Keras multiplies them by its result.
    def __call__(self, y_true, y_pred, sample_weight=None):
        y_pred = ops.convert_to_tensor(y_pred, dtype=self.dtype)
        ids, counted, weights = read(self, y_true, y_pred, sample_weight)
        num_classes = y_pred.shape[self.axis]
        if self.class_weights is not None and len(self.class_weights) != num_classes:
            raise ValueError(
                f"`class_weights` must hold one weight for each of the {num_classes} classes. "
                f"Received: {len(self.class_weights)} weights."
            )
        logits = ops.reshape(ops.moveaxis(y_pred, self.axis, -1), (-1, num_classes))
        truth = ops.one_hot(ops.reshape(ids, (-1,)), num_classes, dtype=logits.dtype)
        # Selected, since 0 times a logit that is not finite would be NaN.
        logits = ops.where(ops.reshape(counted, (-1, 1)), logits, 0.0)
        counted = ops.cast(counted, logits.dtype)
        class_weights = [1.0] * num_classes if self.class_weights is None else self.class_weights
        class_weights = ops.convert_to_tensor(class_weights, logits.dtype)
        loss = self._loss(logits, truth, ops.reshape(weights, (-1, 1)), counted, class_weights)
        return backend.summand(loss)

    def get_config(self):
        config = super().get_config()
        del config["reduction"]
        return {
            **config,
            "ignore_class": self.ignore_class,
            "class_weights": self.class_weights,
            "axis": self.axis,
        }


def _checked_weights(class_weights):
    """Returns a list of the weights."""
    if isinstance(class_weights, Mapping):
        class_weights = _in_order(class_weights)
    return finite_numbers("class_weights", class_weights, least=0)


def _in_order(class_weights):
    """Returns the weights of a dictionary from class ids, as Keras's `class_weight` is one."""
    if set(class_weights) != set(range(len(class_weights))):
        raise ValueError(
            "`class_weights` must be a sequence, or a dictionary with a key for each class id from "
            f"0 on. Received: {class_weights=}."
        )
    return [class_weights[class_id] for class_id in range(len(class_weights))]


def read(
    loss: keras.losses.Loss, label_map: Any, logits: Any, sample_weight: Any
) -> tuple[Any, Any, Any]:
    """Returns class ids, pixels that are not ignored, and weights, NaN for invalid labels."""
    labels, is_class, is_ignored = read_labels(label_map, logits, loss.axis, loss.ignore_class)
    weights = 1.0
    if sample_weight is not None:
        weights = pixel_weights(sample_weight, tuple(logits.shape), loss.axis, loss.dtype)
    ids = ops.cast(ops.where(is_class, labels, 0), "int32")
    not_a_class = ops.cast(ops.where(is_ignored, 0.0, np.nan), loss.dtype)
    return ids, ops.logical_not(is_ignored), ops.where(is_class, weights, not_a_class)


def ratio(part: Any, whole: Any) -> Any:
    """Returns part / whole, 0 where both are 0."""
    return part / ops.where(whole == 0, 1.0, whole)
