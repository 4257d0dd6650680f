"""Losses for semantic segmentation that Keras lacks.

An invalid label, which is neither a class nor ignored, makes a loss and its gradient NaN, because a
compiled step cannot raise. The metrics raise an error that names such labels.
"""

import copy
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_fcn.backends import backend
from keras_fcn.label_maps import (
    integer,
    optional_integer,
    pixel_weights,
    read_labels,
)


@keras.saving.register_keras_serializable(package="keras_fcn")
class SparseCategoricalCrossentropy(keras.losses.SparseCategoricalCrossentropy):
    """Keras's loss of the same name, with the classes on any axis, exact on several devices.

    Keras 3.15 supports `axis=1`, which `channels_first` needs, only on PyTorch, and does not save
    it with a compiled model. On several replicas it averages the means of their shards, although
    the shards differ in their number of ignored pixels. It misses invalid labels on JAX, and labels
    such as 0.5 on every backend. With `axis=-1`, valid labels and one device, the two are equal.

    `sample_weight` multiplies the loss of each pixel, or of all pixels of an image if its shape is
    (batch,). The mean is still divided by the number of pixels that are not ignored.

    Args:
        from_logits: As in Keras; `True` for the logits of this package's models.
        ignore_class: Label of the pixels without loss and gradient.
        reduction: As in Keras: `"sum_over_batch_size"` is the mean over the batch's pixels that are
            not ignored, `"sum"` the paper's sum. On several replicas one of these two or `"mean"`.
        axis: Axis of the predictions that holds the classes; 1 for `channels_first`.
        name: Name of the loss.
        dtype: As in Keras.

    Examples:
        >>> loss = SparseCategoricalCrossentropy(from_logits=True, ignore_class=255, axis=1)
        >>> round(float(loss(np.array([[[0, 255]]]), np.zeros((1, 4, 1, 2)))), 4)  # log(4)
        1.3863
    """

    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        axis: int = -1,
        name: str = "sparse_categorical_crossentropy",
        dtype: str | keras.DTypePolicy | None = None,
    ):
        ignore_class = optional_integer("ignore_class", ignore_class)
        super().__init__(from_logits, ignore_class, reduction=reduction, name=name, dtype=dtype)
        self.ignore_class = ignore_class  # Keras 3.16 does not store it.
        self.axis = integer("axis", axis)

    def __call__(self, y_true, y_pred, sample_weight=None):
        y_pred = ops.convert_to_tensor(y_pred, dtype=self.dtype)
        ids, counted, weights = _read(self, y_true, y_pred, sample_weight)
        if self.ignore_class is not None:
            ids = ops.where(counted, ids, self.ignore_class)
        if backend.num_replicas() == 1:
            return super().__call__(ids, y_pred, weights)
        pixels = copy.copy(self)
        pixels.reduction = "sum"
        loss = backend.batch_sum(keras.losses.Loss.__call__(pixels, ids, y_pred, weights))
        if self.reduction != "sum":
            valid = ops.sum(ops.cast(counted, loss.dtype))
            loss = ops.divide_no_nan(loss, backend.batch_sum(valid))
        return backend.summand(loss)

    def call(self, y_true, y_pred):
        return super().call(y_true, keras.ops.moveaxis(y_pred, self.axis, -1))

    def get_config(self):
        config = {**super().get_config(), "axis": self.axis}
        config.pop("label_smoothing", None)  # Keras 3.16 has this argument.
        return config

    @property
    def is_exact_on_replicas(self) -> bool:
        """Whether the replicas of a sharded batch compute the loss of the whole batch."""
        return self.reduction in ("sum", "sum_over_batch_size", "mean")


class _SegmentationLoss(keras.losses.Loss):
    """Base class of the losses below: ignored pixels, class weights, axis of the classes."""

    is_exact_on_replicas = True  # As in `SparseCategoricalCrossentropy`.

    def __init__(
        self,
        ignore_class: int | None = None,
        class_weights: Sequence[float] | None = None,
        axis: int = -1,
        name: str | None = None,
        dtype: str | keras.DTypePolicy | None = None,
    ):
        super().__init__(name=name, reduction=None, dtype=dtype)
        if class_weights is not None and not all(weight >= 0 for weight in class_weights):
            raise ValueError(f"`class_weights` must be at least 0. Received: {class_weights=}.")
        self.ignore_class = optional_integer("ignore_class", ignore_class)
        self.class_weights = None if class_weights is None else [float(w) for w in class_weights]
        self.axis = integer("axis", axis)

    # Not `call`, which does not receive sample weights: Keras multiplies them by its result.
    def __call__(self, y_true, y_pred, sample_weight=None):
        y_pred = ops.convert_to_tensor(y_pred, dtype=self.dtype)
        ids, counted, weights = _read(self, y_true, y_pred, sample_weight)
        num_classes = y_pred.shape[self.axis]
        if self.class_weights is not None and len(self.class_weights) != num_classes:
            raise ValueError(
                f"`class_weights` must hold one weight for each of the {num_classes} classes. "
                f"Received: {len(self.class_weights)} weights."
            )
        logits = ops.reshape(ops.moveaxis(y_pred, self.axis, -1), (-1, num_classes))
        truth = ops.one_hot(ops.reshape(ids, (-1,)), num_classes, dtype=logits.dtype)
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


@keras.saving.register_keras_serializable(package="keras_fcn")
class Focal(_SegmentationLoss):
    """Focal loss: cross-entropy that down-weights easy pixels.

    The loss of a pixel is -(1 - p)^gamma log p, where p is the probability of the true class. The
    loss of a batch is the mean over the pixels that are not ignored, each times the weight of its
    class. `sample_weight` is as in `SparseCategoricalCrossentropy`.

    Args:
        gamma: Focusing parameter: the larger, the less easy pixels count; 0 is cross-entropy.
        ignore_class: Label of the pixels without loss and gradient.
        class_weights: A weight for each class against class imbalance, such as median frequency
            weights; all 1 if `None`.
        axis: Axis of the logits that holds the classes; 1 for `channels_first`.
        name: Name of the loss; that of the class if `None`.
        dtype: As in Keras.

    Raises:
        ValueError: If `gamma` or a weight is less than 0, or the number of weights is not that of
            the classes.

    References:
        - [Lin et al., 2017](https://arxiv.org/abs/1708.02002)
    """

    def __init__(
        self,
        gamma: float = 2.0,
        ignore_class: int | None = None,
        class_weights: Sequence[float] | None = None,
        axis: int = -1,
        name: str | None = None,
        dtype: str | keras.DTypePolicy | None = None,
    ):
        super().__init__(ignore_class, class_weights, axis, name, dtype)
        if not gamma >= 0:
            raise ValueError(f"`gamma` must be at least 0. Received: {gamma=}.")
        self.gamma = float(gamma)

    def _loss(self, logits, truth, weights, counted, class_weights):
        log_p, pixels = _cross_entropies(logits, truth, weights, class_weights)
        if self.gamma:
            # At 1 - p = 0 the derivative of a power below 1 is infinite.
            pixels *= ops.maximum(1 - ops.exp(log_p), 1e-7) ** self.gamma
        num_pixels = backend.batch_sum(ops.sum(counted))
        return backend.batch_sum(ops.sum(pixels)) / ops.maximum(num_pixels, 1.0)

    def get_config(self):
        return {**super().get_config(), "gamma": self.gamma}


@keras.saving.register_keras_serializable(package="keras_fcn")
class OHEM(_SegmentationLoss):
    """Online hard example mining: the mean cross-entropy of the hardest pixels.

    A pixel is hard if the probability of its true class is below `threshold`. If fewer than
    `min_kept` of the pixels are, that many with the smallest probabilities are kept instead. The
    loss of a batch is the mean over the pixels that are kept, each times the weight of its class,
    which does not matter for the choice. The gradient does not flow through the choice.

    `sample_weight` multiplies the loss of each pixel, or of all pixels of an image. It matters
    neither for the choice nor for the number of pixels by which the mean is divided, as in
    `SparseCategoricalCrossentropy`. On several replicas the pixels of the whole batch are compared,
    and each replica gathers and sorts the probabilities of all.

    Args:
        threshold: Probability of the true class from which on a pixel is easy, greater than 0 and
            at most 1; 1 keeps all that have any loss.
        min_kept: Smallest fraction, from 0 to 1, of the pixels that are not ignored. Of several
            pixels with the same probability at the limit, all are kept.
        ignore_class: As in `Focal`; never kept.
        class_weights: As in `Focal`.
        axis: As in `Focal`.
        name: Name of the loss; that of the class if `None`.
        dtype: As in Keras.

    Raises:
        ValueError: If `threshold` or `min_kept` is not as described, a weight is less than 0, or
            the weights are not one per class.

    References:
        - [Shrivastava et al., 2016](https://arxiv.org/abs/1604.03540)
    """

    def __init__(
        self,
        threshold: float = 0.7,
        min_kept: float = 1 / 16,
        ignore_class: int | None = None,
        class_weights: Sequence[float] | None = None,
        axis: int = -1,
        name: str | None = None,
        dtype: str | keras.DTypePolicy | None = None,
    ):
        super().__init__(ignore_class, class_weights, axis, name, dtype)
        if not 0 < threshold <= 1:
            raise ValueError(
                f"`threshold` must be greater than 0 and at most 1. Received: {threshold=}."
            )
        if not 0 <= min_kept <= 1:
            raise ValueError(f"`min_kept` must be from 0 to 1. Received: {min_kept=}.")
        self.threshold, self.min_kept = float(threshold), float(min_kept)

    def _loss(self, logits, truth, weights, counted, class_weights):
        log_p, pixels = _cross_entropies(logits, truth, weights, class_weights)
        counted = ops.reshape(counted, (-1,))
        # Ignored pixels come last in the order.
        p = ops.stop_gradient(ops.where(counted > 0, ops.exp(log_p), 2.0))
        order = ops.sort(backend.batch_concatenate(p))
        num_valid = backend.batch_sum(ops.sum(counted))
        num_kept = ops.cast(ops.ceil(self.min_kept * num_valid), "int32")
        last = ops.take(order, ops.maximum(num_kept - 1, 0))
        # Not the other way round: NaN, which is in no order, must reach the loss.
        is_easy = ops.logical_and(p >= self.threshold, ops.logical_or(p > last, num_kept == 0))
        # An invalid label has a weight of NaN and any probability.
        is_easy = ops.logical_and(is_easy, pixels == pixels)
        kept = counted * (1 - ops.cast(is_easy, counted.dtype))
        total = backend.batch_sum(ops.sum(kept * pixels))
        return total / ops.maximum(backend.batch_sum(ops.sum(kept)), 1.0)

    def get_config(self):
        return {
            **super().get_config(),
            "threshold": self.threshold,
            "min_kept": self.min_kept,
        }


@keras.saving.register_keras_serializable(package="keras_fcn")
class Dice(_SegmentationLoss):
    """Dice loss: 1 minus the soft Dice coefficient of each class over the batch, averaged.

    The coefficient is 2 sum(p t) / (sum(p) + sum(t)), where p is the softmax and t the one-hot
    ground truth of the pixels that are not ignored. The average is over the classes that occur in
    the ground truth of the batch.

    `sample_weight`, of images or pixels, multiplies each pixel in the three sums: a pixel of weight
    2 counts as two pixels, a pixel of weight 0 as an ignored one.

    Args:
        ignore_class: As in `Focal`.
        class_weights: As in `Focal`; weights of the average.
        axis: As in `Focal`.
        name: Name of the loss; that of the class if `None`.
        dtype: As in Keras.

    Raises:
        ValueError: If a weight is less than 0, or the weights are not one per class.

    References:
        - [Milletari et al., 2016](https://arxiv.org/abs/1606.04797)
    """

    def _loss(self, logits, truth, weights, counted, class_weights):
        p = ops.softmax(logits, axis=-1) * weights
        size = backend.batch_sum(ops.sum(truth * weights, axis=0))
        both = backend.batch_sum(ops.sum(p * truth, axis=0))
        dice = _ratio(2 * both, backend.batch_sum(ops.sum(p, axis=0)) + size)
        return _mean_of_present(1 - dice, size, class_weights)


@keras.saving.register_keras_serializable(package="keras_fcn")
class LovaszSoftmax(_SegmentationLoss):
    """Lovász-Softmax loss: the convex extension of 1 minus the IoU of each class, averaged.

    The IoU is that of the whole batch without ignored pixels, and the average is over the classes
    that occur in its ground truth. On several replicas, each replica gathers and sorts the errors
    of all.

    `sample_weight`, of images or pixels, weights each pixel in the intersection and union: a pixel
    of weight 2 counts as two pixels, a pixel of weight 0 as an ignored one.

    Args:
        ignore_class: As in `Focal`.
        class_weights: As in `Focal`; weights of the average.
        axis: As in `Focal`.
        name: Name of the loss; that of the class if `None`.
        dtype: As in Keras.

    Raises:
        ValueError: If a weight is less than 0, or the weights are not one per class.

    References:
        - [Berman et al., 2018](https://arxiv.org/abs/1705.08790)
    """

    def _loss(self, logits, truth, weights, counted, class_weights):
        errors = backend.batch_concatenate(ops.abs(truth - ops.softmax(logits, axis=-1)))
        # Weights in one array: positive for pixels of the class, negative for the others.
        signed = backend.batch_concatenate(weights * (2 * truth - 1))
        order = ops.argsort(-ops.stop_gradient(errors), axis=0)
        errors = ops.take_along_axis(errors, order, axis=0)
        signed = ops.take_along_axis(signed, order, axis=0)
        truth, others = (ops.abs(signed) + signed) / 2, (ops.abs(signed) - signed) / 2
        size = ops.sum(truth, axis=0)
        # 1 - IoU if the first n pixels are wrong, for every n, and its increase with each pixel.
        intersection = size - ops.cumsum(truth, axis=0)
        union = size + ops.cumsum(others, axis=0)
        jaccard = 1 - _ratio(intersection, union)
        growth = ops.concatenate([jaccard[:1], jaccard[1:] - jaccard[:-1]], axis=0)
        return _mean_of_present(ops.sum(errors * growth, axis=0), size, class_weights)


@keras.saving.register_keras_serializable(package="keras_fcn")
class WeightedSum(keras.losses.Loss):
    """The weighted sum of several losses, such as cross-entropy + 0.5 Dice.

    Each loss applies its own reduction, ignored pixels and sample weights.

    Args:
        losses: Instances of `keras.losses.Loss` that each return a scalar.
        weights: A factor of at least 0 for each loss.
        name: Name of the loss; that of the class if `None`.
        dtype: As in Keras, for the sum; each loss has its own.

    Raises:
        ValueError: If there is no loss, one of them is no `keras.losses.Loss`, a weight is less
            than 0, or the number of weights is not that of the losses.

    Examples:
        >>> cross_entropy = SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
        >>> loss = WeightedSum([cross_entropy, Dice(ignore_class=255)], weights=[1, 0.5])
        >>> round(float(loss(np.array([[[0, 255]]]), np.zeros((1, 1, 2, 4)))), 4)  # log(4) + 0.3
        1.6863
    """

    def __init__(
        self,
        losses: Sequence[keras.losses.Loss],
        weights: Sequence[float],
        name: str | None = None,
        dtype: str | keras.DTypePolicy | None = None,
    ):
        super().__init__(name=name, reduction=None, dtype=dtype)
        self.losses, self.weights = list(losses), [float(weight) for weight in weights]
        if not self.losses or not all(isinstance(loss, keras.losses.Loss) for loss in self.losses):
            raise ValueError(
                "`losses` must be one or more instances of keras.losses.Loss. "
                f"Received: losses={self.losses}."
            )
        if len(self.weights) != len(self.losses):
            raise ValueError(
                f"`weights` must hold one weight for each of the {len(self.losses)} losses. "
                f"Received: weights={self.weights}."
            )
        if not all(weight >= 0 for weight in self.weights):
            raise ValueError(f"`weights` must be at least 0. Received: weights={self.weights}.")

    # Not `call`, which does not receive sample weights: Keras multiplies them by its sum.
    def __call__(self, y_true, y_pred, sample_weight=None):
        return sum(
            weight * ops.cast(loss(y_true, y_pred, sample_weight), self.dtype)
            for loss, weight in zip(self.losses, self.weights, strict=True)
        )

    @property
    def is_exact_on_replicas(self) -> bool:
        """As in `SparseCategoricalCrossentropy`."""
        return all(getattr(loss, "is_exact_on_replicas", False) for loss in self.losses)

    def get_config(self):
        losses = [keras.losses.serialize(loss) for loss in self.losses]
        return {"name": self.name, "losses": losses, "weights": self.weights}

    @classmethod
    def from_config(cls, config):
        losses = [keras.losses.deserialize(loss) for loss in config["losses"]]
        return cls(**{**config, "losses": losses})


def _read(loss, label_map, logits, sample_weight):
    """Returns class ids, pixels that are not ignored, and weights, NaN for invalid labels."""
    labels, is_class, is_ignored = read_labels(label_map, logits, loss.axis, loss.ignore_class)
    weights = 1.0
    if sample_weight is not None:
        weights = pixel_weights(sample_weight, tuple(logits.shape), loss.axis, loss.dtype)
    ids = ops.cast(ops.where(is_class, labels, 0), "int32")
    not_a_class = ops.cast(ops.where(is_ignored, 0.0, np.nan), loss.dtype)
    return ids, ops.logical_not(is_ignored), ops.where(is_class, weights, not_a_class)


def _cross_entropies(logits, truth, weights, class_weights):
    """Returns log p of the true class of each pixel, and the weighted loss -w log p."""
    log_p = ops.sum(truth * ops.log_softmax(logits, axis=-1), axis=-1)
    return log_p, -weights[:, 0] * ops.sum(truth * class_weights, axis=-1) * log_p


def _ratio(part, whole):
    """Returns part / whole, 0 where both are 0."""
    return part / ops.where(whole == 0, 1.0, whole)


def _mean_of_present(values, size, weights):
    weights = weights * ops.cast(size != 0, values.dtype)
    return _ratio(ops.sum(weights * values), ops.sum(weights))
