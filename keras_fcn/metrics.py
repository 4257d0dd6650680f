"""The paper's four scores: pixel accuracy, mean accuracy, mean IoU and frequency-weighted IoU.

All are computed from one confusion matrix over the whole data set, never averaged over images
([Long et al., 2015](https://arxiv.org/abs/1411.4038), section 5). Its rows are the ground truth,
its columns the prediction. Each score is a function of this matrix; each Keras metric accumulates a
matrix and calls that function.
"""

import functools
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_fcn.arguments import MOST_CLASSES, integer, optional_integer, wrong
from keras_fcn.backends import backend
from keras_fcn.label_maps import label_tensor, pixel_weights, read_labels
from keras_fcn.spelling import counted

# A count is high * _LIMB + low, exact up to 2^51 pixels. The limb is so small that the sum of `low`
# over a thousand replicas fits int32.
_LIMB = 2**20
# Labels of the bins after the matrix, which count labels that are neither a class nor ignored.
_STRAY_LABELS = ("below 0", *range(256), "above 255", "not a whole number")


def pixel_accuracy(matrix: np.ndarray) -> float:
    """Returns the fraction of pixels that are predicted correctly; 0 if there are none."""
    xp, right, truth, _ = _pixels_of_each_class(matrix)
    return _ratio(xp, xp.sum(right), xp.sum(truth))


def mean_accuracy(matrix: np.ndarray) -> float:
    """Returns the recall of each class, averaged over the classes in the ground truth."""
    xp, right, truth, _ = _pixels_of_each_class(matrix)
    return _mean_over_present(xp, _ratio(xp, right, truth), truth)


def mean_iou(matrix: np.ndarray) -> float:
    """Returns the mean intersection over union (IoU, Jaccard index) of the classes that occur.

    A class occurs if it is in the ground truth or the prediction.

    Examples:
        >>> mean_iou([[3, 1, 0], [0, 2, 0], [0, 0, 0]]).round(4)  # (3/4 + 2/3) / 2
        np.float64(0.7083)
    """
    xp, right, _, union = _pixels_of_each_class(matrix)
    return _mean_over_present(xp, _ratio(xp, right, union), union)


def frequency_weighted_iou(matrix: np.ndarray) -> float:
    """Returns the IoU of each class, weighted by its pixels in the ground truth."""
    xp, right, truth, union = _pixels_of_each_class(matrix)
    return _ratio(xp, xp.sum(truth * _ratio(xp, right, union)), xp.sum(truth))


def class_iou(matrix: np.ndarray) -> np.ndarray:
    """Returns the IoU of each class; NaN for a class in neither ground truth nor prediction."""
    _, right, _, union = _pixels_of_each_class(matrix)
    return np.where(union != 0, _ratio(np, right, union), np.nan)


def confusion_matrix(
    label_map: np.ndarray,
    prediction: np.ndarray,
    num_classes: int,
    ignore_class: int | None = None,
) -> np.ndarray:
    """Counts pixels by true (row) and predicted (column) class, in NumPy and int64.

    Args:
        label_map: True class ids, of any shape.
        prediction: Predicted class ids, of the same shape.
        num_classes: Number of classes.
        ignore_class: Label of ignored pixels.

    Raises:
        ValueError: If the shapes differ, a value is neither a class id nor `ignore_class`, or
            `num_classes` is no integer from 1 to 46340.
    """
    label_map, prediction = _numbers("label_map", label_map), _numbers("prediction", prediction)
    num_classes = integer("num_classes", num_classes, 1, MOST_CLASSES)
    ignore_class = optional_integer("ignore_class", ignore_class)
    if label_map.shape != prediction.shape:
        raise ValueError(
            "`label_map` and `prediction` must have the same shape. Received: "
            f"label_map.shape={label_map.shape}, prediction.shape={prediction.shape}"
        )
    if ignore_class is not None:
        counted = label_map != ignore_class
        label_map, prediction = label_map[counted], prediction[counted]
    for name, values in (("label_map", label_map), ("prediction", prediction)):
        is_class = (values >= 0) & (values < num_classes) & (values == np.floor(values))
        if not is_class.all():
            strays = zip(*np.unique(values[~is_class], return_counts=True), strict=True)
            allowed = ignore_class if name == "label_map" else None
            raise _stray_labels_error(name, num_classes, allowed, list(strays))
    bins = label_map.astype(np.int64).ravel() * num_classes + prediction.astype(np.int64).ravel()
    counts = np.bincount(bins, minlength=num_classes**2).astype(np.int64)
    return counts.reshape(num_classes, num_classes)


def boundary_band(label_map: np.ndarray, width: int) -> np.ndarray:
    """Returns which pixels lie within `width` pixels of a boundary, for scores in a trimap.

    Distances are Chebyshev distances; a pixel next to another label has distance 1. Ignored pixels
    have boundaries, too: if they mark the outline of objects, as in PASCAL VOC, the band lies on
    both sides of it (as in Krähenbühl & Koltun, 2011).

    Args:
        label_map: Class ids, (height, width) or (batch, height, width).
        width: Integer of at least 1.

    Returns:
        Boolean array of the shape of `label_map`.

    Raises:
        ValueError: If `width` is no integer of at least 1, or `label_map` has less than two axes.

    Examples:
        >>> boundary_band(np.array([[0, 0, 0, 1, 1]]), 2).tolist()
        [[False, True, True, True, True]]
    """
    width = integer("width", width, least=1)
    label_map = _numbers("label_map", label_map)
    if label_map.ndim < 2:
        raise ValueError(
            "`label_map` must be (height, width) or (batch, height, width). Received: shape "
            f"{label_map.shape}."
        )
    band = np.zeros(label_map.shape, bool)
    for axis in (-2, -1):
        differs = np.diff(label_map.astype("int64"), axis=axis) != 0
        before, behind = [slice(None)] * label_map.ndim, [slice(None)] * label_map.ndim
        before[axis], behind[axis] = slice(None, -1), slice(1, None)
        band[tuple(before)] |= differs
        band[tuple(behind)] |= differs
    for axis in (-2, -1):
        # Number of pixels of the band so far within width - 1 along this axis.
        counts = np.cumsum(np.insert(band.astype("int64"), 0, 0, axis=axis), axis=axis)
        size: int = band.shape[axis]
        places = np.arange(size)
        after = np.take(counts, np.minimum(places + width, size), axis=axis)
        band = after > np.take(counts, np.maximum(places - width + 1, 0), axis=axis)
    return band


def _numbers(argument, values):
    """Returns an array of NumPy; raises a ValueError if it does not hold real numbers."""
    try:
        array = np.asarray(values)
    except ValueError:  # Rows of different lengths.
        array = np.empty(0, object)
    if array.dtype.kind not in "buif":
        raise ValueError(
            f"`{argument}` must be an array of real numbers. Received: a {type(values).__name__} "
            f"of dtype {array.dtype}."
        )
    return array


def _stray_labels_error(argument, num_classes, ignore_class, found):
    """Returns the error for invalid labels `found`, pairs of (value, number of pixels)."""
    rule = f"class ids 0 to {num_classes - 1}"
    if ignore_class is not None:
        rule += f" or `ignore_class`={ignore_class}"
    shown = ", ".join(f"{value} ({counted(pixels, 'pixel')})" for value, pixels in found[:5])
    more, total = ", ..." if len(found) > 5 else "", sum(pixels for _, pixels in found)
    return ValueError(
        f"`{argument}` must hold {rule}. Received: {counted(total, 'pixel')} with other values: "
        f"{shown}{more}"
    )


def _pixels_of_each_class(matrix):
    """Returns the array module, and per class the pixels of intersection, truth and union."""
    xp = _array_module(matrix)
    matrix = _numbers("matrix", matrix) if xp is np else matrix
    if len(matrix.shape) != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(
            "`matrix` must be (num_classes, num_classes), as from `confusion_matrix`. Received: "
            f"shape {tuple(matrix.shape)}."
        )
    right, truth = xp.diagonal(matrix), xp.sum(matrix, axis=1)
    return xp, right, truth, truth + xp.sum(matrix, axis=0) - right


def _array_module(array):
    return ops if ops.is_tensor(array) else np


def _mean_over_present(xp, scores, pixels):
    """Returns the mean over classes that occur. Scores of absent classes must be 0."""
    return _ratio(xp, xp.sum(scores), xp.sum(xp.where(pixels != 0, 1.0, 0.0)))


def _ratio(xp, part, whole):
    """Returns part / whole, 0 where both are 0. `whole` may be less than 1: a sum of weights."""
    return part / xp.where(whole == 0, 1, whole)


@functools.cache
def _compiled_update(num_classes, ignore_class, axis):
    """Returns a function of a label map, logits, sample weights (or `None`) and the state: the
    state after the sums of the weights, or the numbers of pixels, have been added.
    """

    def update(label_map, logits, sample_weight, low, high, fraction):
        counts = _count(num_classes, ignore_class, axis, label_map, logits, sample_weight)
        if sample_weight is not None:
            sums = counts + ops.cast(fraction, counts.dtype)
            counts = ops.floor(sums)
            fraction = ops.cast(sums - counts, "float32")
        # Divided before the cast: sums of weights may exceed int32.
        limbs = ops.floor_divide(counts, _LIMB)
        low = low + ops.cast(counts - limbs * _LIMB, low.dtype)
        high = high + ops.cast(limbs, high.dtype) + ops.floor_divide(low, _LIMB)
        return ops.mod(low, _LIMB), high, fraction

    return backend.compiled(update)


def _count(num_classes, ignore_class, axis, label_map, logits, sample_weight):
    """Returns the sum of the weights, or the number of pixels, in each bin of the matrix and of
    `_STRAY_LABELS`.
    """
    num_bins = _num_bins(num_classes)
    labels, is_class, is_ignored = read_labels(label_map, logits, axis, ignore_class, num_classes)
    prediction = ops.cast(backend.argmax(logits, axis), "int32")
    stray = num_classes**2 + 1 + ops.cast(ops.clip(labels, -1, 256), "int32")
    if keras.backend.is_float_dtype(labels.dtype):
        stray = ops.where(labels == ops.floor(labels), stray, num_bins - 1)
    bins = ops.where(
        is_class,
        ops.cast(labels, "int32") * num_classes + prediction,
        ops.where(is_ignored, num_bins, stray),
    )
    bins = ops.reshape(bins, [-1])
    if sample_weight is None:
        return backend.histogram(bins, num_bins + 1)[:-1]
    weights = pixel_weights(sample_weight, tuple(logits.shape), axis, backend.float_dtype)
    # An invalid label is an error, also with a weight of 0.
    weights = ops.reshape(ops.where(is_class, weights, 1), [-1])
    return backend.weighted_histogram(bins, weights, num_bins + 1)[:-1]


def _num_bins(num_classes):
    return num_classes**2 + len(_STRAY_LABELS)


class _ConfusionMatrixMetric(keras.Metric):
    """Accumulates a confusion matrix; a subclass names the score computed from it.

    The state is a sum over pixels, so that the states of replicas or processes can be added.
    """

    _score: Any = None  # One of the functions above, whose name is the metric's default name.

    def __init__(
        self,
        num_classes: int,
        ignore_class: int | None = None,
        axis: int = -1,
        name: str | None = None,
        dtype: str | None = None,
    ):
        if not isinstance(name, str | None):
            raise wrong("name", "a text or None", name)
        super().__init__(name=name or self._score.__name__, dtype=dtype)
        self.num_classes = integer("num_classes", num_classes, 2, MOST_CLASSES)
        self.ignore_class = optional_integer("ignore_class", ignore_class)
        self.axis = integer("axis", axis)
        if not keras.backend.is_float_dtype(self.dtype):
            raise wrong("dtype", "a floating-point dtype, as scores are fractions", dtype)
        self._direction = "up"  # For Keras's callbacks: larger is better.
        shape = (_num_bins(self.num_classes),)
        self._low = self.add_variable(shape, "zeros", backend.integer_dtype, name="low")
        self._high = self.add_variable(shape, "zeros", backend.integer_dtype, name="high")
        self._fraction = self.add_variable(shape, "zeros", "float32", name="fraction")

    def update_state(self, label_map, logits, sample_weight=None):
        """Adds the pixels of a batch to the confusion matrix.

        Args:
            label_map: Class ids (batch, height, width), of any dtype. A further axis of length 1,
                last or in place of the classes, is allowed.
            logits: Logits (batch, height, width, num_classes), or with the classes on `axis`.
            sample_weight: Weights of images, (batch,), or of pixels, in the shape of the label
                map; sizes of 1 broadcast. A pixel counts as its weight, 1 by default.
        """
        logits = ops.convert_to_tensor(logits)
        self._check_classes(tuple(logits.shape))
        update = _compiled_update(self.num_classes, self.ignore_class, self.axis)
        state = map(ops.convert_to_tensor, (self._low, self._high, self._fraction))
        low, high, fraction = update(label_tensor(label_map), logits, sample_weight, *state)
        self._low.assign(low)
        self._high.assign(high)
        if sample_weight is not None:  # Else it is the variable's own value.
            self._fraction.assign(fraction)

    def result(self):
        """Returns the score so far, a scalar tensor; 0 before the first pixel.

        Raises:
            ValueError: If a label was neither a class id nor `ignore_class`. A compiled step cannot
                raise: its result is NaN.
        """
        try:
            matrix = self.confusion_matrix()
        except (TypeError, NotImplementedError):  # A step is being traced, without values.
            counts = ops.cast(self._high, "float32") * _LIMB + ops.cast(self._low, "float32")
            matrix, strays = self._split(counts + self._fraction)
            score = ops.where(ops.any(strays > 0), np.nan, self._score(matrix))
        else:
            score = self._score(matrix)
        return ops.cast(score, self.dtype)

    def confusion_matrix(self) -> np.ndarray:
        """Returns the exact counts (num_classes, num_classes) in int64; rows are the ground truth.

        The dtype is float64 if sums of sample weights are no integers.

        Raises:
            ValueError: If a label was neither a class id nor `ignore_class`.
        """
        low, high = (
            ops.convert_to_numpy(limb.value).astype(np.int64) for limb in (self._low, self._high)
        )
        matrix, strays = self._split(high * _LIMB + low)
        if strays.any():
            found = [(_STRAY_LABELS[i], strays[i]) for i in np.flatnonzero(strays)]
            raise _stray_labels_error("label_map", self.num_classes, self.ignore_class, found)
        fraction, _ = self._split(ops.convert_to_numpy(self._fraction.value))
        return matrix + fraction.astype(np.float64) if fraction.any() else matrix

    def get_config(self):
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "ignore_class": self.ignore_class,
            "axis": self.axis,
        }

    def _check_classes(self, logits):
        rank = len(logits)
        if not -rank <= self.axis < rank or logits[self.axis] not in (None, self.num_classes):
            raise ValueError(
                f"The shape of `logits` must have num_classes={self.num_classes} on "
                f"axis={self.axis}. Received: {logits=}"
            )

    def _split(self, counts):
        """Returns the confusion matrix and the counts of invalid labels."""
        end, xp = self.num_classes**2, _array_module(counts)
        return xp.reshape(counts[:end], (self.num_classes, self.num_classes)), counts[end:]


@keras.saving.register_keras_serializable(package="keras_fcn")
class PixelAccuracy(_ConfusionMatrixMetric):
    """The fraction of pixels that are predicted correctly. Arguments as for `MeanIoU`."""

    _score = staticmethod(pixel_accuracy)


@keras.saving.register_keras_serializable(package="keras_fcn")
class MeanAccuracy(_ConfusionMatrixMetric):
    """The mean over classes of the recall. Arguments as for `MeanIoU`."""

    _score = staticmethod(mean_accuracy)


@keras.saving.register_keras_serializable(package="keras_fcn")
class MeanIoU(_ConfusionMatrixMetric):
    """Intersection over union, averaged over the classes in the ground truth or the prediction.

    Unlike `keras.metrics.MeanIoU` it takes logits, counts more than 2^31 pixels on every backend,
    and raises an error for labels that are neither a class nor `ignore_class`.

    Args:
        num_classes: Number of classes, at most 46340.
        ignore_class: Label of ignored pixels, such as 255; may be a class id.
        axis: Axis of the logits that holds the classes; 1 for `channels_first`.
        name: Name of the metric; `mean_iou` by default.
        dtype: Dtype of the result.

    Examples:
        >>> metric = MeanIoU(num_classes=2, ignore_class=255)
        >>> metric.update_state([[[0, 1, 1, 255]]], [[[[2, 1], [0, 1], [3, 1], [0, 1]]]])
        >>> metric.confusion_matrix().tolist()
        [[1, 0], [1, 1]]
        >>> float(metric.result())  # (1/2 + 1/2) / 2
        0.5
    """

    _score = staticmethod(mean_iou)


@keras.saving.register_keras_serializable(package="keras_fcn")
class FrequencyWeightedIoU(_ConfusionMatrixMetric):
    """The IoU of each class, weighted by its true pixels. Arguments as for `MeanIoU`."""

    _score = staticmethod(frequency_weighted_iou)
