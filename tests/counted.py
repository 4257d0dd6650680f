"""A confusion matrix counted by hand, random label maps, and the scores in exact fractions."""

from fractions import Fraction

import numpy as np

# Two rows of four pixels, three classes and one ignored pixel, counted by hand.
LABEL_MAP = np.array([[[0, 0, 0, 1], [1, 2, 2, 255]]], "uint8")
PREDICTION = np.array([[[0, 0, 1, 1], [0, 2, 1, 0]]])
MATRIX = [
    [2, 1, 0],
    [1, 1, 0],
    [0, 1, 1],
]
MATRIX_SCORES = {
    "pixel_accuracy": 4 / 7,
    "mean_accuracy": (2 / 3 + 1 / 2 + 1 / 2) / 3,
    "mean_iou": (2 / 4 + 1 / 4 + 1 / 2) / 3,
    "frequency_weighted_iou": (3 * 2 / 4 + 2 * 1 / 4 + 2 * 1 / 2) / 7,
}


def random_maps(seed, num_classes, shape=(4, 6, 7)):
    """Label map with half of the pixels predicted right and some ignored as 255."""
    generator = np.random.default_rng(seed)
    label_map = generator.integers(0, num_classes, shape)
    guess = generator.integers(0, num_classes, shape)
    prediction = np.where(generator.random(shape) < 0.5, label_map, guess)
    return np.where(generator.random(shape) < 0.1, 255, label_map).astype("uint8"), prediction


def exact_scores(matrix):
    """The paper's formulas in Python's integers and fractions."""
    matrix = [[int(count) for count in row] for row in matrix]
    classes = range(len(matrix))
    right = [matrix[i][i] for i in classes]
    truth = [sum(matrix[i]) for i in classes]
    predicted = [sum(matrix[j][i] for j in classes) for i in classes]
    union = [truth[i] + predicted[i] - right[i] for i in classes]
    accuracy = [Fraction(right[i], truth[i]) for i in classes if truth[i]]
    iou = {i: Fraction(right[i], union[i]) for i in classes if union[i]}
    return {
        "pixel_accuracy": float(Fraction(sum(right), sum(truth))),
        "mean_accuracy": float(sum(accuracy) / len(accuracy)),
        "mean_iou": float(sum(iou.values()) / len(iou)),
        "frequency_weighted_iou": float(
            sum(truth[i] * iou[i] for i in classes if truth[i]) / sum(truth)
        ),
    }
