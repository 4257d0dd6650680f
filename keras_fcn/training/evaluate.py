"""Scores of a model over a whole data set."""

import dataclasses
from collections.abc import Callable, Iterable

import keras
import numpy as np

from keras_fcn import metrics
from keras_fcn.inference import predict_label_maps


@dataclasses.dataclass(frozen=True)
class Scores:
    """The four scores of the paper and the IoU of each class, read off one confusion matrix.

    Args:
        matrix: Confusion matrix, (num_classes, num_classes), rows are the truth.
    """

    matrix: np.ndarray

    def as_dict(self) -> dict[str, float]:
        """Returns the four scores by name, as floats in [0, 1]."""
        functions = (
            metrics.pixel_accuracy,
            metrics.mean_accuracy,
            metrics.mean_iou,
            metrics.frequency_weighted_iou,
        )
        return {function.__name__: float(function(self.matrix)) for function in functions}

    @property
    def class_iou(self) -> np.ndarray:
        """IoU of each class, NaN where it occurs in neither truth nor prediction."""
        return metrics.class_iou(self.matrix)


def evaluate(
    model: keras.Model,
    batches: Iterable,
    *,
    num_classes: int,
    ignore_class: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Scores:
    """Compares a model's predictions with the truth, pixel by pixel, over a whole data set.

    Args:
        model: An FCN.
        batches: Iterable of (images, label maps), as from `keras_fcn.data.evaluation_batches`.
        num_classes: Number of classes.
        ignore_class: Label of the pixels that do not count.
        progress: Called after each batch with the number of its images.

    Returns:
        `Scores`.

    Raises:
        ValueError: If a label is neither a class nor `ignore_class`.
    """
    matrix = np.zeros((num_classes, num_classes), "int64")
    for images, label_maps in batches:
        matrix += metrics.confusion_matrix(
            np.asarray(label_maps),
            predict_label_maps(model, np.asarray(images)),
            num_classes,
            ignore_class,
        )
        if progress is not None:
            progress(len(images))
    return Scores(matrix)
