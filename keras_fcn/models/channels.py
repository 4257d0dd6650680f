"""Backbones for images of another number of channels than they were built for."""

import keras
import numpy as np
from keras import layers

from keras_fcn.weights.channels import kernel_for_channels, warn_of_channels

# Arguments of layers of preprocessing that may hold one value per channel.
_PER_CHANNEL = ("mean", "variance", "scale", "offset")


def with_channels(backbone: keras.Model, channels: int) -> keras.Model:
    """Returns a copy of a backbone for images of another number of channels, with its weights.

    The kernel of the first convolution follows from `kernel_for_channels`, with a warning.
    Constants of normalization layers are repeated.

    Args:
        backbone: Functional model of one image, channels last.
        channels: Number of channels of the new images.

    Raises:
        ValueError: If another layer than a convolution depends on the number of channels.
    """
    shape = backbone.inputs[0].shape
    known = shape[-1]
    image = keras.Input((*shape[1:-1], channels), name=backbone.inputs[0].name)

    def error(cause):
        return ValueError(
            f"`backbone` must be built for the {channels} channels of `input_shape`, as it cannot "
            f"be changed from {known}. Received: {backbone.name!r}, {cause}."
        )

    try:
        copy = keras.models.clone_model(
            backbone,
            input_tensors=image,
            clone_function=lambda layer: _copied(layer, known, channels),
        )
    except ValueError as cause:
        raise error(f"whose copy fails: {str(cause).splitlines()[0]}") from cause
    for layer in backbone.layers:
        if not layer.weights:
            continue
        values, copied = layer.get_weights(), copy.get_layer(layer.name)
        if [tuple(variable.shape) for variable in copied.weights] != [v.shape for v in values]:
            if isinstance(layer, layers.Normalization):
                copied.set_weights([_repeated(value, known, channels) for value in values])
                continue
            if not isinstance(layer, layers.Conv2D) or values[0].shape[2] != known:
                raise error(f"whose layer {layer.name!r} is a {type(layer).__name__}")
            values[0] = kernel_for_channels(values[0], channels)
            warn_of_channels(layer.name, channels, known)
        copied.set_weights(values)
    return copy


def _copied(layer, known, channels):
    if not isinstance(layer, keras.Layer):  # An operation of a functional model.
        return layer
    config = layer.get_config()
    if isinstance(layer, (layers.Normalization, layers.Rescaling)):
        for name in _PER_CHANNEL:
            if config.get(name) is not None:
                config[name] = _repeated(np.ravel(config[name]), known, channels).tolist()
    copy = type(layer).from_config(config)
    copy.trainable = layer.trainable
    return copy


def _repeated(values, known, channels):
    return values[np.arange(channels) % known] if values.shape == (known,) else values
