"""Fully Convolutional Networks for Keras 3: FCN-32s, FCN-16s and FCN-8s, exact to the paper."""

import importlib

from keras_fcn import _registration as _registration
from keras_fcn.version import __version__

# Public name -> module that defines it. Names resolve on first use (PEP 562), so that importing
# the package loads neither Keras nor a backend.
_EXPORTS = {
    "FCN32s": "keras_fcn.models.fcn",
    "FCN16s": "keras_fcn.models.fcn",
    "FCN8s": "keras_fcn.models.fcn",
    "FCN4s": "keras_fcn.models.fcn",
    "FCNAlexNet": "keras_fcn.models.alexnet",
    "MultimodalFCN32s": "keras_fcn.models.multimodal",
    "MultitaskFCN32s": "keras_fcn.models.multitask",
    "MultitaskFCN16s": "keras_fcn.models.multitask",
    "MultitaskFCN8s": "keras_fcn.models.multitask",
    "AT_ONCE_SKIP_SCALES": "keras_fcn.spec",
    "diagnose": "keras_fcn.weights.diagnose",
}
_SUBMODULES = (
    "alignment",
    "data",
    "distribution",
    "export",
    "inference",
    "label_spaces",
    "layers",
    "losses",
    "metrics",
    "models",
    "training",
    "visualization",
    "weights",
)

__all__ = [*_EXPORTS, *_SUBMODULES, "__version__"]


def __getattr__(name):
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    if name in _SUBMODULES:
        return importlib.import_module(f"keras_fcn.{name}")
    raise AttributeError(f"module 'keras_fcn' has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
