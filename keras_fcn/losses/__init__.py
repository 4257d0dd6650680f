"""Losses for semantic segmentation that Keras lacks.

An invalid label, which is neither a class nor ignored, makes a loss and its gradient NaN, because a
compiled step cannot raise. The metrics raise an error that names such labels.
"""

from keras_fcn.losses.pixel_losses import OHEM, Focal, SparseCategoricalCrossentropy
from keras_fcn.losses.region_losses import Dice, LovaszSoftmax
from keras_fcn.losses.weighted_sum import WeightedSum

__all__ = [
    "OHEM",
    "Dice",
    "Focal",
    "LovaszSoftmax",
    "SparseCategoricalCrossentropy",
    "WeightedSum",
]
