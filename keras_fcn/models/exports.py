"""Arguments that `keras.Model.export` needs for a model of unknown height and width."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from keras_fcn.backends import backend
from keras_fcn.layers.inside import with_layers_inside

# Keras's names of formats that `keras_fcn.export` writes under its own.
_OWN_NAMES = {"tf_saved_model": "saved_model"}


def export_arguments(
    model: keras.Model, format: str, input_signature: Any, kwargs: dict[str, Any]
) -> tuple[list, dict[str, Any]]:
    """Returns `input_signature` and `kwargs` for `keras.Model.export`.

    Args:
        model: The model.
        format: As in `keras.Model.export`.
        input_signature: As passed to `FCN.export`, or `None`.
        kwargs: Further keyword arguments passed to `FCN.export`.

    Raises:
        ValueError: If the backend cannot export the format, or only for known sizes.
    """
    shape = model.input_shape
    if input_signature is not None:
        shape = keras.tree.flatten(input_signature)[0].shape
    _check(model, format, shape)
    traced, kwargs = backend.export_arguments(format, shape, dict(kwargs))
    if input_signature is None:
        # Without a signature, Keras exports to ONNX only models that have been called before.
        input_signature = [keras.InputSpec(dtype="float32", shape=traced, name="image")]
    return input_signature, kwargs


def check_inputs(format: str) -> None:
    """Raises a ValueError if the backend cannot export a format of a model of several inputs."""
    reason = backend.formats_of_one_input.get(format) or backend.formats_without_export.get(format)
    if reason:
        raise ValueError(
            f"format={format!r} cannot be written on {backend.name} for a model of several inputs: "
            f"{reason}. Build it with stacked=True and weights=model, for one image of all "
            "channels, and export that."
        )


@contextlib.contextmanager
def traced_for_onnx(model: keras.Model) -> Iterator[None]:
    """Returns the context in which Keras traces a model for ONNX.

    A `Normalization` layer has NumPy's arrays there, which are constants of every trace: its
    tensors become further inputs of the file on TensorFlow.
    """
    found = [
        layer
        for layer in with_layers_inside(model)
        if isinstance(layer, keras.layers.Normalization)
    ]
    tensors = [(layer.mean, layer.variance) for layer in found]
    with backend.traced_for_export():
        try:
            for layer, values in zip(found, tensors, strict=True):
                layer.mean, layer.variance = map(ops.convert_to_numpy, values)
            yield
        finally:
            for layer, values in zip(found, tensors, strict=True):
                layer.mean, layer.variance = values


def _check(model, format, shape):
    reason = backend.formats_without_export.get(format)
    if reason:
        raise ValueError(
            f"format={format!r} cannot be written on {backend.name}: {reason}. "
            f"{_remedy(model, format)}."
        )
    reason = backend.formats_of_one_output.get(format)
    if reason and isinstance(model.output, dict):
        raise ValueError(
            f"format={format!r} cannot be written on {backend.name} for a model of several tasks: "
            f"{reason}. {_remedy(model, format)}."
        )
    reason = backend.formats_of_one_size.get(format)
    if reason and None in shape:
        raise ValueError(
            f"format={format!r} needs an image of known size on {backend.name}: {reason}. "
            f"Received: shape {tuple(shape)}. {_remedy(model, format)}, or give "
            "input_signature=[keras.InputSpec(shape=(1, 256, 256, 3), dtype='float32')] with the "
            "size of your images."
        )


def _remedy(model, format):
    if format == "torch":
        return "Save the model as a .keras file, load it with KERAS_BACKEND=torch, and export it"
    own = _OWN_NAMES.get(format, format)
    network = {dict: "model.as_fcn(task)", list: "fcn"}.get(type(model.output), "model")
    of_heads = " of the FCN with these heads" if network == "fcn" else ""
    call = f"keras_fcn.export.export({network}, path, format={own!r})"
    return f"Use {call}{of_heads}, which takes every size"
