"""Scores of each image of a validation set, and how sure the difference of two models is."""

import dataclasses
import os
import zipfile
from collections.abc import Iterable, Sequence

import numpy as np

from keras_fcn.spelling import counted

_RESAMPLES_AT_ONCE = 200


@dataclasses.dataclass(frozen=True)
class ImageScores:
    """What the scores of a model follow from, for each image.

    Args:
        names: Names of the images.
        counts: Numbers of pixels, (images, 3, num_classes), int64: those of a class that are
            predicted correctly, those of the ground truth, and those predicted as the class.
            Ignored pixels do not count.
    """

    names: tuple[str, ...]
    counts: np.ndarray

    @classmethod
    def of_matrices(cls, names: Sequence[str], matrices: Iterable[np.ndarray]) -> "ImageScores":
        """Returns the scores of confusion matrices, whose rows are the ground truth."""
        counts = [[np.diagonal(m), m.sum(1), m.sum(0)] for m in matrices]
        return cls(tuple(names), np.array(counts, "int64"))

    @classmethod
    def load(cls, path: str | os.PathLike) -> "ImageScores":
        """Returns what `save` wrote.

        Raises:
            ValueError: If the file is damaged.
        """
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
                return cls(tuple(arrays["names"].tolist()), arrays["counts"])
        except (EOFError, KeyError, OSError, ValueError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"{path} must be a whole file of scores. Received: {error}."
            ) from error

    def save(self, path: str | os.PathLike) -> None:
        """Writes an `.npz` file, not atomically."""
        with open(path, "wb") as file:
            np.savez_compressed(file, names=np.array(self.names, "str"), counts=self.counts)

    @property
    def mean_iou(self) -> float:
        """Mean IoU over the classes that occur in the ground truth or the predictions."""
        return float(_mean_iou(self.counts.sum(0)))

    @property
    def class_iou(self) -> np.ndarray:
        """IoU of each class, NaN if it does not occur."""
        return _class_iou(self.counts.sum(0))

    @property
    def pixel_accuracy(self) -> float:
        """Fraction of the pixels that are predicted correctly."""
        correct, truth, _ = self.counts.sum((0, 2))
        return float(correct / max(1, truth))

    def has_images_of(self, other: "ImageScores") -> bool:
        """Whether both are of the same images, with the same ground truth."""
        return self.names == other.names and np.array_equal(self.counts[:, 1], other.counts[:, 1])


@dataclasses.dataclass(frozen=True)
class Difference:
    """Mean IoU of one model minus that of another on the same images.

    Args:
        value: The difference.
        low: Lower end of its 95 % confidence interval.
        high: Upper end.
        better: Fraction of the resamples in which the difference is positive.
    """

    value: float
    low: float
    high: float
    better: float


def paired_bootstrap(
    scores: ImageScores, baseline: ImageScores, num_resamples: int = 10_000, seed: int = 0
) -> Difference:
    """Returns the difference in mean IoU with its confidence interval, by the paired bootstrap.

    The images are drawn with replacement, the same for both models, as often as there are images;
    the mean IoU of a resample is that of the sum of its images' pixels. The interval holds the
    middle 95 % of the resamples' differences (percentile method). It tells how much the score
    depends on which images were validated on, and not how much it depends on the seed of training.

    Args:
        scores: Scores of the model.
        baseline: Scores of the other model, on the same images.
        num_resamples: Number of resamples.
        seed: Seed of the resamples.

    Raises:
        ValueError: If the images differ.

    References:
        - Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13
    """
    if not scores.has_images_of(baseline):
        raise ValueError(
            "`scores` and `baseline` must be of the same images. Received: "
            f"{len(scores.names)} and {counted(len(baseline.names), 'image')}."
        )
    rng, num_images = np.random.default_rng(seed), len(scores.names)
    differences: list[float] = []
    while len(differences) < num_resamples:
        times = rng.multinomial(
            num_images,
            np.full(num_images, 1 / num_images),
            size=min(_RESAMPLES_AT_ONCE, num_resamples - len(differences)),
        )
        differences.extend(_resampled(scores, times) - _resampled(baseline, times))
    low, high = np.quantile(differences, [0.025, 0.975])
    return Difference(
        value=scores.mean_iou - baseline.mean_iou,
        low=float(low),
        high=float(high),
        better=float(np.mean(np.array(differences) > 0)),
    )


def _resampled(scores, times):
    """Mean IoU of each resample, whose images occur so many times."""
    counts = scores.counts.reshape(len(scores.names), -1).astype("float64")
    return _mean_iou((times @ counts).reshape(len(times), *scores.counts.shape[1:]))


def _class_iou(counts):
    correct, truth, predicted = np.moveaxis(counts, -2, 0)
    union = truth + predicted - correct
    return np.where(union > 0, correct / np.maximum(union, 1), np.nan)


def _mean_iou(counts):
    iou = _class_iou(counts)
    occurs = ~np.isnan(iou)
    return np.where(occurs, iou, 0).sum(-1) / np.maximum(1, occurs.sum(-1))
