"""Reads folders of images and label maps into batches. TensorFlow is imported on first use."""

import importlib

# Public name -> module that defines it, resolved on first use (PEP 562), so that code that only
# reads files does not wait for the import of TensorFlow.
_EXPORTS = {
    "Pair": "files",
    "find_pairs": "files",
    "read_pairs_file": "files",
    "check_label_map": "label_map_files",
    "check_pairs": "examples",
    "read_example": "examples",
    "read_image": "image_files",
    "read_label_map": "label_map_files",
    "from_directory": "loading",
    "from_pairs": "loading",
    "load": "loading",
    "data_set_names": "catalog",
    "label_space_of": "catalog",
    "as_transform": "transforms",
    "class_mix": "transforms",
    "cutout": "transforms",
    "gaussian_blur": "transforms",
    "gaussian_noise": "transforms",
    "photometric_jitter": "transforms",
    "random_crop": "transforms",
    "random_flip": "transforms",
    "random_resized_crop": "transforms",
    "random_rotation": "transforms",
    "random_scale": "transforms",
    "resize_keeping_aspect": "transforms",
    "evaluation_batches": "batches",
    "training_batches": "batches",
}
_SUBMODULES = (
    *("batches", "examples", "files", "image_files", "label_map_files", "loading", "transforms"),
)

__all__ = [*_EXPORTS, *_SUBMODULES]


def __getattr__(name):
    if name in _EXPORTS:
        return getattr(importlib.import_module(f"{__name__}.{_EXPORTS[name]}"), name)
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
