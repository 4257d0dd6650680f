"""Evaluates a model on a data set."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import keras
import numpy as np

from keras_fcn import metrics
from keras_fcn.inference import predict_label_maps, predict_scores
from keras_fcn.inference.checks import image_layout

SCORE_NAMES = ("pixel_accuracy", "mean_accuracy", "mean_iou", "frequency_weighted_iou")
"""The paper's four scores, as the functions of `keras_fcn.metrics` are called."""


@dataclasses.dataclass(frozen=True)
class Scores:
    """The four scores of the paper and the IoU of each class, computed from a confusion matrix.

    Args:
        matrix: Confusion matrix, (num_classes, num_classes); rows are the ground truth.
        trimap: `Scores` of only the pixels near a boundary, or `None`.
        loss: Mean of a loss over the batches, or `None`.
    """

    matrix: np.ndarray
    trimap: "Scores | None" = None
    loss: float | None = None

    def as_dict(self) -> dict[str, float]:
        """Returns the four scores by name, as floats in [0, 1]."""
        return {name: float(getattr(metrics, name)(self.matrix)) for name in SCORE_NAMES}

    @property
    def class_iou(self) -> np.ndarray:
        """IoU of each class, NaN if it is in neither ground truth nor prediction."""
        return metrics.class_iou(self.matrix)


def score_title(name: str) -> str:
    """Returns a score's name in words.

    Examples:
        >>> score_title("mean_iou")
        'mean IoU'
    """
    return name.replace("_", " ").replace("iou", "IoU")


def evaluate(
    model: keras.Model,
    batches: Iterable,
    *,
    num_classes: int,
    ignore_class: int | None = None,
    trimap: int | None = None,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    loss: keras.losses.Loss | None = None,
    progress: Callable[[int], None] | None = None,
    on_prediction: Callable[[np.ndarray], None] | None = None,
) -> Scores:
    """Compares a model's predictions with the ground truth of a data set.

    Args:
        model: An FCN.
        batches: Iterable of (images, label maps), as from `keras_fcn.data.evaluation_batches`.
        num_classes: Number of classes.
        ignore_class: Label of ignored pixels.
        trimap: Width in pixels of the band along boundaries for separate scores; see
            `keras_fcn.metrics.boundary_band`.
        scales: See `keras_fcn.inference.predict_label_maps`.
        flip: See `keras_fcn.inference.predict_label_maps`.
        loss: Loss of (label maps, logits) to average over the batches. It excludes test-time
            augmentation (`scales` and `flip`).
        progress: Called after each batch with the number of its images.
        on_prediction: Called with the predicted label map of each image, in order.

    Returns:
        `Scores`.

    Raises:
        ValueError: If a label is neither a class nor `ignore_class`.
    """
    matrix = np.zeros((num_classes, num_classes), "int64")
    trimap_matrix = np.zeros_like(matrix)
    losses = []
    for images, label_maps in batches:
        label_maps = np.asarray(label_maps)
        images = np.asarray(images)
        if loss is None:
            predictions = predict_label_maps(model, images, scales=scales, flip=flip)
        else:
            logits = predict_scores(model, images)
            losses.append(float(loss(label_maps, logits)))
            predictions = logits.argmax(1 if image_layout(model) == "channels_first" else -1)
        matrix += metrics.confusion_matrix(label_maps, predictions, num_classes, ignore_class)
        if trimap is not None:
            band = metrics.boundary_band(label_maps, trimap)
            trimap_matrix += metrics.confusion_matrix(
                label_maps[band], predictions[band], num_classes, ignore_class
            )
        if on_prediction is not None:
            for prediction in predictions:
                on_prediction(prediction)
        if progress is not None:
            progress(len(label_maps))
    return Scores(
        matrix,
        None if trimap is None else Scores(trimap_matrix),
        float(np.mean(losses)) if losses else None,
    )
