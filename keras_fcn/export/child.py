"""Converts a model and checks the file: `python -m keras_fcn.export.child REQUEST RESULT`.

A process of its own, on TensorFlow, for `keras_fcn.export.export`.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from PIL import Image

from keras_fcn.data.image_files import read_image
from keras_fcn.export import check
from keras_fcn.export.formats import FORMATS, Run
from keras_fcn.export.metadata import Metadata
from keras_fcn.export.request import Request
from keras_fcn.export.traced import Traced
from keras_fcn.models.precision import in_precision

# Fractions of the largest logit. Weights in float16 change logits by less than 1e-3; what int8 may
# change depends on the model: its labels are compared instead.
_TOLERANCE = {None: check.TOLERANCE, "float16": 2e-2}
_LEAST_AGREEMENT = 0.9


def convert(request: Request) -> dict[str, Any]:
    """Writes the file of a request and returns what its check measured.

    Raises:
        ValueError: If the file does not compute what the model does.
    """
    model = in_precision(keras.saving.load_model(request.model, compile=False), "float32")
    metadata = request.metadata
    traced = Traced(model, metadata, lambda: calibration_images(request.calibration, metadata))
    format = FORMATS[request.format]
    result: dict[str, Any] = {}
    if metadata.quantization is not None:
        plain = request.scratch / f"float32{request.target.suffix}"
        format.write(traced.float32, plain, request.scratch)
        result["float32_differences"] = checked(traced.float32, format.load(plain, metadata))
    format.write(traced, request.target, request.scratch)
    run = format.load(request.target, metadata)
    result |= {"runtime": format.runtime(), "differences": checked(traced, run)}
    if request.calibration:
        result["agreement"] = agreement(traced, run)
        if result["agreement"] < _LEAST_AGREEMENT:
            raise ValueError(
                f"at least {_LEAST_AGREEMENT:.0%} of the calibration images' pixels must get the "
                f"model's label; found {result['agreement']:.1%}"
            )
    return result


def calibration_images(paths: tuple[Path, ...], metadata: Metadata) -> Iterator[np.ndarray]:
    """Yields each image as a batch, resized if the file takes one size."""
    for path in paths:
        image = read_image(path, metadata.num_channels)
        if metadata.size is not None:
            height, width = metadata.size
            # Channel by channel: Pillow takes a fourth channel for alpha and multiplies by it.
            channels = map(Image.fromarray, np.moveaxis(image, -1, 0))
            resized = (c.resize((width, height), Image.Resampling.BILINEAR) for c in channels)
            image = np.stack([np.asarray(channel) for channel in resized], axis=-1)
        if metadata.data_format == "channels_first":
            image = image.transpose(2, 0, 1)
        yield np.ascontiguousarray(image[None], "float32")


def agreement(traced: Traced, run: Run) -> float:
    """Returns the fraction of the calibration images' pixels whose largest score is the same."""
    class_axis = 1 if traced.metadata.data_format == "channels_first" else -1
    equal = total = 0
    for images in traced.calibration():
        output = run(images)
        labels = output if traced.metadata.output == "labels" else output.argmax(class_axis)
        expected = traced.expected(images).argmax(class_axis)
        equal, total = equal + int((labels == expected).sum()), total + expected.size
    return equal / total


def checked(traced: Traced, run: Run) -> dict[str, float]:
    """Returns `check.differences`.

    Raises:
        ValueError: If one is larger than the quantization may cause.
    """
    differences = check.differences(traced, run)
    tolerance = _TOLERANCE.get(traced.metadata.quantization)
    largest = max(differences.values())
    if tolerance is not None and not largest <= tolerance:
        numbers = ", ".join(f"{value:.1e} at {size}" for size, value in differences.items())
        unit = "" if traced.metadata.output == "probabilities" else " of the largest logit"
        raise ValueError(f"its differences must be at most {tolerance:g}{unit}; found {numbers}")
    return differences


def main(request: Path, result: Path) -> None:
    """Converts; writes what the check measured, or the error, as JSON."""
    try:
        found = convert(Request.read(request))
    except Exception as error:  # One sentence for the process that asked.
        found = {"error": check.reason(error)}
    result.write_text(json.dumps(found))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
