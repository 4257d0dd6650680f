"""Weights from files into models, and nothing of them lost on the way."""

from keras_fcn.weights.load import load

__all__ = ["load"]
