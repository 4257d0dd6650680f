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
    # Of the last layer on every backend: the output and its losses and logs bear it.
    name = f"head{suffix}"
    if activation is None:
        logits = change_layout(logits, layout, data_format, f"logits_layout{suffix}")
        return layers.Activation("linear", dtype="float32", name=name)(logits)
    # Keras's cross-entropy calls PyTorch's nll_loss. Its gradient fails for probabilities that are
    # not stored channels first in memory.
    is_softmax_of_torch = activation == "softmax" and layout == "channels_first"
    computed_in = layout if is_softmax_of_torch else "channels_last"
    logits = change_layout(logits, layout, computed_in, f"class_axis_last{suffix}")
    is_last = computed_in == data_format
    options = {"dtype": "float32", "name": name if is_last else f"class_scores{suffix}"}
    if is_softmax_of_torch:
        activated = layers.Softmax(axis=1, **options)(logits)
    else:
        activated = layers.Activation(activation, **options)(logits)
    return change_layout(activated, computed_in, data_format, name)
