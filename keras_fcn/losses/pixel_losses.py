"""Means of losses of single pixels: cross-entropy, focal loss, OHEM."""

import copy
from collections.abc import Mapping, Sequence

import keras
from keras import ops

from keras_fcn.arguments import boolean, integer, number, optional_integer
from keras_fcn.backends import backend
from keras_fcn.losses.base import PreciseLoss, SegmentationLoss, read


@keras.saving.register_keras_serializable(package="keras_fcn")
class SparseCategoricalCrossentropy(PreciseLoss, keras.losses.SparseCategoricalCrossentropy):
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
        dtype: As in Keras, but at least float32, in which pixels can be counted.

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
        from_logits = boolean("from_logits", from_logits)
        super().__init__(from_logits, ignore_class, reduction=reduction, name=name, dtype=dtype)
        self.ignore_class = ignore_class  # Keras 3.16 does not store it.
        self.axis = integer("axis", axis)

    def __call__(self, y_true, y_pred, sample_weight=None):
        y_pred = ops.convert_to_tensor(y_pred, dtype=self.dtype)
        ids, counted, weights = read(self, y_true, y_pred, sample_weight)
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
        y_pred = ops.moveaxis(y_pred, self.axis, -1)
        if self.from_logits:
            y_pred = backend.cross_entropy_logits(y_true, y_pred)
        return super().call(y_true, y_pred)

    def get_config(self):
        config = {**super().get_config(), "axis": self.axis}
        config.pop("label_smoothing", None)  # Keras 3.16 has this argument.
        return config

    @property
    def is_exact_on_replicas(self) -> bool:
        """Whether the replicas of a sharded batch compute the loss of the whole batch."""
        return self.reduction in ("sum", "sum_over_batch_size", "mean")


@keras.saving.register_keras_serializable(package="keras_fcn")
class Focal(SegmentationLoss):
    """Focal loss: cross-entropy that down-weights easy pixels.

    The loss of a pixel is -(1 - p)^gamma log p, where p is the probability of the true class. The
    loss of a batch is the mean over the pixels that are not ignored, each times the weight of its
    class. `sample_weight` is as in `SparseCategoricalCrossentropy`.

    Args:
        gamma: Focusing parameter: the larger, the less easy pixels count; 0 is cross-entropy.
        ignore_class: Label of the pixels without loss and gradient.
        class_weights: A weight for each class against class imbalance, such as median frequency
            weights, or a dictionary of them by class id; all 1 if `None`.
        axis: Axis of the logits that holds the classes; 1 for `channels_first`.
        name: Name of the loss; that of the class if `None`.
        dtype: As in `SparseCategoricalCrossentropy`.

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
        class_weights: Sequence[float] | Mapping[int, float] | None = None,
        axis: int = -1,
        name: str | None = None,
        dtype: str | keras.DTypePolicy | None = None,
    ):
        super().__init__(ignore_class, class_weights, axis, name, dtype)
        self.gamma = number("gamma", gamma, least=0)

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
class OHEM(SegmentationLoss):
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
        dtype: As in `Focal`.

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
        class_weights: Sequence[float] | Mapping[int, float] | None = None,
        axis: int = -1,
        name: str | None = None,
        dtype: str | keras.DTypePolicy | None = None,
    ):
        super().__init__(ignore_class, class_weights, axis, name, dtype)
        self.threshold = number("threshold", threshold)
        if not 0 < self.threshold <= 1:
            raise ValueError(
                f"`threshold` must be greater than 0 and at most 1. Received: {threshold=}."
            )
        self.min_kept = number("min_kept", min_kept, least=0, most=1)

    def _loss(self, logits, truth, weights, counted, class_weights):
        log_p, pixels = _cross_entropies(logits, truth, weights, class_weights)
        counted = ops.reshape(counted, (-1,))
        # Ignored pixels come last in the order.
        p = ops.stop_gradient(ops.where(counted > 0, ops.exp(log_p), 2.0))
        order = ops.sort(ops.append(backend.batch_concatenate(p), 2.0))  # Never empty.
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


def _cross_entropies(logits, truth, weights, class_weights):
    """Returns log p of the true class of each pixel, and the weighted loss -w log p."""
    # Selected, since 0 times the log p of a class that is excluded, -inf, would be NaN.
    log_p = ops.sum(ops.where(truth > 0, ops.log_softmax(logits, axis=-1), 0.0), axis=-1)
    return log_p, -weights[:, 0] * ops.sum(truth * class_weights, axis=-1) * log_p
