"""What `keras.Model.export` must be told for a model of unknown height and width."""

import keras

_TENSORFLOW_INSTEAD = (
    "Save the model as a .keras file, load it with KERAS_BACKEND=tensorflow, and export it there."
)
# The formats that cannot be written on a backend, and why.
_IMPOSSIBLE = {
    ("jax", "openvino"): "Keras needs a TensorFlow graph without XLA, which JAX no longer makes",
    ("jax", "onnx"): "jax2onnx cannot slice or pad an axis of unknown size",
    ("jax", "litert"): "Keras writes it on TensorFlow and PyTorch only",
    ("jax", "torch"): "Keras writes it on PyTorch only",
    ("tensorflow", "torch"): "Keras writes it on PyTorch only",
}
# Those that can be written for an image of known size alone.
_OF_ONE_SIZE = {
    ("torch", "litert"): "Keras would make a file for images of one pixel",
    ("torch", "tf_saved_model"): "Keras traces an image of 2x2 pixels, whose sizes become constant",
}
# Height and width of the image that PyTorch traces: no map of it has a single pixel, because
# torch.export takes a size of 1 for constant.
_TRACED_SIZE = 70


def export_arguments(model, format, input_signature, kwargs) -> tuple[list, dict]:
    """Returns `input_signature` and `kwargs` for `keras.Model.export`.

    Args:
        model: The model.
        format: As in `keras.Model.export`.
        input_signature: The caller's, or `None`.
        kwargs: The caller's further arguments.

    Raises:
        ValueError: If the backend cannot write the format, or not for unknown sizes.
    """
    backend = keras.backend.backend()
    shape = model.input_shape
    if input_signature is not None:
        shape = keras.tree.flatten(input_signature)[0].shape
    _check(backend, format, shape)
    kwargs = dict(kwargs)
    if (backend, format) == ("jax", "tf_saved_model"):
        # Nobody trains the file, and TensorFlow cannot save the gradients of unknown sizes.
        kwargs["jax2tf_kwargs"] = {"with_gradient": False, **(kwargs.get("jax2tf_kwargs") or {})}
    if input_signature is not None:
        return input_signature, kwargs
    if format == "torch" and "dynamic_shapes" not in kwargs:
        from torch.export import Dim

        unknown = [axis for axis, size in enumerate(shape) if size is None]
        kwargs["dynamic_shapes"] = dict.fromkeys(unknown, Dim.DYNAMIC)
        shape = (2, *(_TRACED_SIZE if size is None else size for size in shape[1:]))
    # Without one, Keras writes ONNX only of models that were called before.
    return [keras.InputSpec(dtype="float32", shape=shape, name="image")], kwargs


def _check(backend, format, shape):
    reason = _IMPOSSIBLE.get((backend, format))
    if reason:
        remedy = _TENSORFLOW_INSTEAD
        if format == "torch":
            remedy = remedy.replace("tensorflow", "torch")
        raise ValueError(f"format={format!r} cannot be written on {backend}: {reason}. {remedy}")
    reason = _OF_ONE_SIZE.get((backend, format))
    if reason and None in shape:
        raise ValueError(
            f"format={format!r} needs an image of known size on {backend}: {reason}. Received: "
            f"shape {tuple(shape)}. Give input_signature=[keras.InputSpec(shape=(1, 256, 256, 3), "
            f"dtype='float32')] with the size of your images, or for every size: "
            f"{_TENSORFLOW_INSTEAD}"
        )
