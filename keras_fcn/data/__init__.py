"""Folders of images and label maps to batches. TensorFlow is loaded when a batch is asked for."""

import importlib

# Public name -> module that defines it, resolved on first use (PEP 562): reading files must not
# wait for TensorFlow.
_EXPORTS = {
    "Pair": "examples",
    "check_label_map": "examples",
    "check_pairs": "examples",
    "find_pairs": "examples",
    "read_example": "examples",
    "read_image": "examples",
    "read_label_map": "examples",
    "random_flip": "transforms",
    "evaluation_batches": "batches",
    "training_batches": "batches",
}
_SUBMODULES = ("batches", "examples", "transforms")

__all__ = [*_EXPORTS, *_SUBMODULES]


def __getattr__(name):
    if name in _EXPORTS:
        return getattr(importlib.import_module(f"{__name__}.{_EXPORTS[name]}"), name)
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
