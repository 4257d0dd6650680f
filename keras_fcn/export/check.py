"""Compares an exported file, in the format's own runtime, with the model."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from keras_fcn.export.formats import Run
from keras_fcn.export.metadata import Metadata

if TYPE_CHECKING:
    from keras_fcn.export.traced import Traced

TOLERANCE = 1e-4
"""Largest accepted difference of logits, as a fraction of the largest; of probabilities."""

# (batch, height, width): a single pixel, odd, even, and one of each.
_SIZES = ((1, 1, 1), (2, 37, 45), (1, 64, 96), (1, 23, 58))


def differences(traced: "Traced", run: Run) -> dict[str, float]:
    """Returns the largest difference at each size, as a fraction of the largest logit.

    For probabilities, it is the difference itself. For labels, it is the largest margin between the
    two largest logits among the pixels whose labels differ.

    Args:
        traced: The model.
        run: The loaded file.

    Raises:
        ValueError: If the file fails at a size, or returns another shape or what is not finite.
    """
    found = {}
    for shape in _shapes(traced.metadata):
        images = np.random.default_rng(shape[-2]).uniform(0, 255, shape).astype("float32")
        size = _name(shape, traced.metadata)
        try:
            output = run(images)
        except Exception as error:  # Each runtime has its own.
            raise ValueError(f"at {size} the runtime failed: {_last_line(error)}") from error
        found[size] = difference(traced.expected(images), output, traced)
        if not np.isfinite(found[size]):
            raise ValueError(f"at {size} the file returned a shape or values that differ")
    return found


def reason(error: Exception) -> str:
    """Returns the line of a runtime's error that states why, without full stop."""
    lines = [line.strip() for line in str(error).splitlines()]
    # OpenVINO first names places in its source code.
    lines = [line for line in lines if line and not line.startswith("Exception from ")]
    return lines[0].rstrip(".") if lines else type(error).__name__


def difference(scores: np.ndarray, output: np.ndarray, traced: "Traced") -> float:
    """Returns the difference of one output, infinite if its shape differs, see `differences`."""
    class_axis = 1 if traced.metadata.data_format == "channels_first" else -1
    if traced.metadata.output == "labels":
        return _margin_of_errors(np.moveaxis(scores, class_axis, -1), output)
    if traced.metadata.output == "probabilities" and traced.model.classifier_activation is None:
        scores, scale = _softmax(scores, class_axis), 1.0
    else:
        scale = _largest(scores)
    if output.shape != scores.shape:
        return np.inf
    # NumPy's maximum propagates NaN.
    return float(np.abs(output - scores).max() / scale)


def _margin_of_errors(scores, labels):
    if labels.shape != scores.shape[:-1]:
        return np.inf
    two = np.sort(scores, axis=-1)[..., -2:]
    margins = (two[..., 1] - two[..., 0])[labels != scores.argmax(axis=-1)]
    return float(margins.max(initial=0) / _largest(scores))


def _largest(scores):
    return max(float(np.abs(scores).max()), np.finfo("float32").tiny)


def _softmax(logits, class_axis):
    exponents = np.exp(logits - logits.max(axis=class_axis, keepdims=True))
    return exponents / exponents.sum(axis=class_axis, keepdims=True)


def _shapes(metadata: Metadata) -> Iterator[tuple[int, ...]]:
    sizes = list(_SIZES)
    if metadata.size is not None:
        batch_sizes = (1, 2) if metadata.batch_size is None else (metadata.batch_size,)
        sizes = [(batch, *metadata.size) for batch in batch_sizes]
    for batch, height, width in sizes:
        if metadata.data_format == "channels_first":
            yield batch, metadata.num_channels, height, width
        else:
            yield batch, height, width, metadata.num_channels


def _name(shape, metadata):
    first = 2 if metadata.data_format == "channels_first" else 1
    size = "x".join(map(str, shape[first : first + 2]))
    return size if shape[0] == 1 else f"{shape[0]} images of {size}"


def _last_line(error):
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
