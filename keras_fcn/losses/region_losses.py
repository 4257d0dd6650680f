"""Losses of regions, which average over classes instead of pixels: Dice, Lovász-softmax."""

import keras
from keras import ops

from keras_fcn.backends import backend
from keras_fcn.losses.base import SegmentationLoss, ratio


@keras.saving.register_keras_serializable(package="keras_fcn")
class Dice(SegmentationLoss):
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
        dtype: As in `Focal`.

    Raises:
        ValueError: If a weight is less than 0, or the weights are not one per class.

    References:
        - [Milletari et al., 2016](https://arxiv.org/abs/1606.04797)
    """

    def _loss(self, logits, truth, weights, counted, class_weights):
        p = ops.softmax(logits, axis=-1) * weights
        size = backend.batch_sum(_sum_of_pixels(truth * weights))
        both = backend.batch_sum(_sum_of_pixels(p * truth))
        dice = ratio(2 * both, backend.batch_sum(_sum_of_pixels(p)) + size)
        return _mean_of_present(1 - dice, size, class_weights)


@keras.saving.register_keras_serializable(package="keras_fcn")
class LovaszSoftmax(SegmentationLoss):
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
        dtype: As in `Focal`.

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
        size = _sum_of_pixels(truth)
        # 1 - IoU if the first n pixels are wrong, for every n, and its increase with each pixel.
        intersection = size - ops.cumsum(truth, axis=0)
        union = size + ops.cumsum(others, axis=0)
        jaccard = 1 - ratio(intersection, union)
        growth = ops.concatenate([jaccard[:1], jaccard[1:] - jaccard[:-1]], axis=0)
        return _mean_of_present(_sum_of_pixels(errors * growth), size, class_weights)


def _sum_of_pixels(values):
    """Returns the sum over the first axis.

    TensorFlow adds along the first axis one number after the other: in float32, the Lovász
    loss of 8 million pixels is 4 % too small. Along the last axis it adds partial sums.
    """
    return ops.sum(ops.transpose(values), axis=-1)


def _mean_of_present(values, size, weights):
    weights = weights * ops.cast(size != 0, values.dtype)
    return ratio(ops.sum(weights * values), ops.sum(weights))
