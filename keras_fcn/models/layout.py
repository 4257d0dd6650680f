"""From the user's layout to the backend's and back: permutations, and a network's ends."""

import keras
from keras import layers

from keras_fcn.layers import BilinearUpSampling2D


def change_layout(x: keras.KerasTensor, layout: str, wanted: str, name: str) -> keras.KerasTensor:
    """Returns a 4D KerasTensor in the data format `wanted`; `name` is the permuting layer's."""
    if layout == wanted:
        return x
    axes = (2, 3, 1) if wanted == "channels_last" else (3, 1, 2)
    return layers.Permute(axes, dtype=x.dtype, name=name)(x)


def enlarge(image: keras.KerasTensor, factor: int, layout: str) -> keras.KerasTensor:
    """Returns an image upsampled bilinearly by a whole factor, in float32."""
    if factor == 1:
        return image
    return BilinearUpSampling2D(
        factor, data_format=layout, dtype="float32", name="input_upsampling"
    )(image)


def at_original_size(
    logits: keras.KerasTensor, factor: int, layout: str, name: str = "logits_of_image"
) -> keras.KerasTensor:
    """Returns the means of the logits over the pixels that `enlarge` made of each, in float32."""
    if factor == 1:
        return logits
    return layers.AveragePooling2D(factor, data_format=layout, dtype="float32", name=name)(logits)


def output_layers(
    logits: keras.KerasTensor,
    activation: str | None,
    layout: str,
    data_format: str,
    suffix: str = "",
) -> keras.KerasTensor:
    """Returns the output of a network: in float32, activated, in the user's data format.

    Losses and softmax need the range of float32 under every dtype policy.

    Args:
        logits: KerasTensor of the logits.
        activation: Name of an activation over the classes, `None` for logits.
        layout: Data format of `logits`.
        data_format: Data format of the output.
        suffix: End of the names of the layers, for networks with several outputs.
    """
    if activation == "softmax" and layout == "channels_first":
        # Keras's cross-entropy calls PyTorch's nll_loss. Its gradient fails for probabilities
        # that are not stored channels first in memory.
        output = layers.Softmax(axis=1, dtype="float32", name=f"head{suffix}")
    else:
        if activation is not None:
            logits = change_layout(logits, layout, "channels_last", f"class_axis_last{suffix}")
            layout = "channels_last"
        output = layers.Activation(activation or "linear", dtype="float32", name=f"head{suffix}")
    return change_layout(output(logits), layout, data_format, f"logits_layout{suffix}")
