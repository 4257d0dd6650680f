"""The formats: which module writes and reads each, and how its files are recognized."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np

from keras_fcn.export import litert, onnx, openvino, saved_model
from keras_fcn.spec import EXPORT_FORMATS

Run = Callable[[np.ndarray], np.ndarray]
"""A loaded file as a function: a batch of float32 images -> its output."""

FORMATS: dict[str, ModuleType] = dict(
    zip(EXPORT_FORMATS, (saved_model, onnx, litert, openvino), strict=True)
)
"""Modules by format, each with `write`, `read_metadata`, `load`, `runtime`, `PACKAGES` and
`QUANTIZATIONS`."""

SUFFIXES = {"onnx": ".onnx", "litert": ".tflite"}
"""Suffixes of the formats that are one file; the others are folders."""


def find_format(path: Path) -> tuple[str, Path] | None:
    """Returns format and place of an exported model, `None` if the path is something else.

    The place of OpenVINO's folder may also be given as the `model.xml` in it.
    """
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            return "saved_model", path
        return ("openvino", path) if (path / openvino.GRAPH).is_file() else None
    if path.name == openvino.GRAPH and path.is_file():
        return "openvino", path.parent
    for format, suffix in SUFFIXES.items():
        if path.suffix.lower() == suffix and path.is_file():
            return format, path
    return None
