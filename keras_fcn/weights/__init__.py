"""Loads weight files into models; all weights are checked and none is dropped silently."""

from keras_fcn.weights.diagnose import Finding, diagnose
from keras_fcn.weights.files import local_file, open_file
from keras_fcn.weights.load import load
from keras_fcn.weights.published import (
    PUBLISHED_WEIGHTS,
    PublishedWeights,
    find_published,
    published_names,
    registry,
)

__all__ = [
    "PUBLISHED_WEIGHTS",
    "Finding",
    "PublishedWeights",
    "diagnose",
    "find_published",
    "load",
    "local_file",
    "open_file",
    "published_names",
    "registry",
]
