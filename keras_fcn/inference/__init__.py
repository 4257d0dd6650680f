"""Prediction of label maps and class probabilities, of whole images and in tiles."""

from keras_fcn.inference.prediction import (
    Prediction,
    predict,
    predict_images,
    predict_label_map,
    predict_label_maps,
    predict_scores,
)
from keras_fcn.inference.tiles import predict_tiles

__all__ = [
    "Prediction",
    "predict",
    "predict_images",
    "predict_label_map",
    "predict_label_maps",
    "predict_scores",
    "predict_tiles",
]
