"""Arguments that `keras.Model.export` needs for a model of unknown height and width."""

from typing import Any

import keras

from keras_fcn.backends import backend

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
    _check(format, shape)
    traced, kwargs = backend.export_arguments(format, shape, dict(kwargs))
    if input_signature is None:
        # Without a signature, Keras exports to ONNX only models that have been called before.
        input_signature = [keras.InputSpec(dtype="float32", shape=traced, name="image")]
    return input_signature, kwargs


def _check(format, shape):
    reason = backend.formats_without_export.get(format)
    if reason:
        raise ValueError(
            f"format={format!r} cannot be written on {backend.name}: {reason}. {_remedy(format)}."
        )
    reason = backend.formats_of_one_size.get(format)
    if reason and None in shape:
        raise ValueError(
            f"format={format!r} needs an image of known size on {backend.name}: {reason}. "
            f"Received: shape {tuple(shape)}. {_remedy(format)}, or give "
            "input_signature=[keras.InputSpec(shape=(1, 256, 256, 3), dtype='float32')] with the "
            "size of your images."
        )


def _remedy(format):
    if format == "torch":
        return "Save the model as a .keras file, load it with KERAS_BACKEND=torch, and export it"
    own = _OWN_NAMES.get(format, format)
    return f"Use keras_fcn.export.export(model, path, format={own!r}), which takes every size"
