"""Weights of the classes in a loss, against class imbalance."""

import warnings
from collections.abc import Sequence

import numpy as np


def median_frequency(pixels: np.ndarray, pixels_where_present: np.ndarray) -> np.ndarray:
    """Returns class weights by median frequency balancing, (num_classes,), against class imbalance.

    The frequency of a class is its fraction of the pixels in the images that show it. Its weight is
    the median of all frequencies divided by its own (Eigen & Fergus, arXiv 1411.4734), or 0 if the
    class never occurs.

    Args:
        pixels: Number of pixels of each class.
        pixels_where_present: Number of pixels, of any class, in the images that show each class.

    Examples:
        >>> median_frequency(np.array([8, 1, 1]), np.array([10, 10, 4])).round(3).tolist()
        [0.312, 2.5, 1.0]
        >>> median_frequency(np.array([8, 0, 2]), np.array([10, 0, 10])).tolist()
        [0.625, 0.0, 2.5]
    """
    weights, occurs = np.zeros(len(pixels)), np.asarray(pixels) > 0
    if occurs.any():
        frequency = pixels[occurs] / pixels_where_present[occurs]
        weights[occurs] = np.median(frequency) / frequency
    return weights


def warn_of_absent_classes(pixels: np.ndarray, class_names: Sequence[str]) -> None:
    """Warns of classes that never occur, whose median frequency weight is 0.

    Args:
        pixels: Number of pixels of each class.
        class_names: Name of each class.
    """
    absent = [name for name, count in zip(class_names, pixels, strict=True) if not count]
    if absent:
        warnings.warn(
            f"No pixel shows {', '.join(absent)}: the median frequency weight of a class that "
            "never occurs is 0, and a loss with these weights ignores its pixels.",
            stacklevel=3,
        )
