"""The convolutionalized VGG-16: the blocks of `keras.applications.VGG16`, fc6 and fc7."""

import dataclasses
import random

import keras
from keras import layers

from keras_fcn.layers import (
    ConvolutionalizedDense,
    Dropout,
    EmptyBorder,
    Surround,
    VGGConv2D,
    VGGMaxPooling2D,
)
from keras_fcn.spec import VGG16_CONVOLUTIONS

# Number of blocks that compute the border separately. From block 4 on, the receptive field of
# almost all of the border includes the image.
_BLOCKS_WITHOUT_BORDER = 3
# Height and width of the all-zero image that represents the border: 8 pixels of pool3. The upper
# edge affects 3 of them, the lower edge 3, or 4 of 9 if a pool rounds up.
_BORDER_SIZE = 64


@dataclasses.dataclass(frozen=True)
class Trunk:
    """The feature pyramid and the blocks of VGG-16.

    Args:
        pools: Dictionary from `"pool3"`, `"pool4"` and `"pool5"` to KerasTensors of output stride
            8, 16 and 32.
        blocks: Inputs and outputs of each block, two lists of KerasTensors. The outputs of a block
            are among the inputs of the next.
    """

    pools: dict[str, keras.KerasTensor]
    blocks: list[tuple[list[keras.KerasTensor], list[keras.KerasTensor]]]


def vgg16_trunk(
    x: keras.KerasTensor,
    *,
    filters: tuple[int, ...],
    input_padding: int,
    data_format: str,
    dtype: keras.DTypePolicy,
    suffix: str = "",
) -> Trunk:
    """Applies the five blocks of VGG-16.

    The layers are `VGGConv2D`s and `VGGMaxPooling2D`s with the names and settings of those of
    `keras.applications.VGG16`. The pools round their output size up, as in Caffe, so that no pixel
    is lost at odd sizes and an image of one pixel is large enough.

    The zero padding accounts for half of the paper's arithmetic, although its features do not
    depend on the image outside the image's receptive-field reach. Blocks 1 to 3 therefore process
    a window around the image and, once per batch, one small all-zero image from which the rest of
    the border is assembled. The pools have the same values.

    Args:
        x: KerasTensor (batch, height, width, channels), preprocessed.
        filters: Filters of the convolutions in each of the five blocks.
        input_padding: Zero padding around the image in pixels: 99 plus a multiple of 16, or 0.
        data_format: `"channels_last"` or `"channels_first"`, of `x` and of the pools.
        dtype: The layers' `keras.DTypePolicy`.
        suffix: End of the names of the layers, for models with several trunks.
    """
    options = {"data_format": data_format, "dtype": dtype}
    layers_of_blocks = _layers_of_blocks(filters, suffix, **options)
    apart = _BLOCKS_WITHOUT_BORDER if input_padding else 0
    blocks = _blocks_of_padded_image(x, layers_of_blocks[:apart], input_padding, suffix, options)
    for block in layers_of_blocks[apart:]:
        inputs = blocks[-1][1] if blocks else [x]
        blocks.append((inputs, [_apply(block, inputs[0])]))
    pools = {f"pool{number}": blocks[number - 1][1][0] for number in (3, 4, 5)}
    return Trunk(pools, blocks)


def convolutionalized_classifier(
    x: keras.KerasTensor,
    *,
    units: int,
    kernel_size: int,
    padding: str,
    dropout_rate: float,
    data_format: str,
    dtype: keras.DTypePolicy,
    suffix: str = "",
) -> keras.KerasTensor:
    """Applies fc6 and fc7, each with ReLU and dropout: the classifier's layers as convolutions.

    Args:
        x: KerasTensor of the coarsest features.
        units: Output channels of fc6 and of fc7.
        kernel_size: Kernel size of fc6.
        padding: `"valid"` or `"same"`, of fc6.
        dropout_rate: Fraction of the outputs that dropout sets to 0 in training.
        data_format: `"channels_last"` or `"channels_first"`, of `x` and of the output.
        dtype: The layers' `keras.DTypePolicy`.
        suffix: End of the names of the layers.
    """
    for number, size in ((6, kernel_size), (7, 1)):
        x = ConvolutionalizedDense(
            units,
            size,
            padding=padding,
            activation="relu",
            name=f"fc{number}{suffix}",
            data_format=data_format,
            dtype=dtype,
        )(x)
        x = seeded_dropout(dropout_rate, f"drop{number}{suffix}", dtype)(x)
    return x


def seeded_dropout(rate: float, name: str, dtype: keras.DTypePolicy) -> Dropout:
    """Returns a dropout layer with a seed of its own.

    Without one, dropout on PyTorch would use the global random generator, whose state no checkpoint
    of the model's variables restores.
    """
    return Dropout(rate, seed=random.getrandbits(31), name=name, dtype=dtype)


def _layers_of_blocks(filters, suffix, **options):
    """Returns the layers of each block, the pool last."""
    blocks = []
    sizes = zip(filters, VGG16_CONVOLUTIONS, strict=True)
    for block, (filters_of_block, count) in enumerate(sizes, start=1):
        convolutions = [
            VGGConv2D(
                filters_of_block,
                3,
                padding="same",
                activation="relu",
                name=f"block{block}_conv{number}{suffix}",
                **options,
            )
            for number in range(1, count + 1)
        ]
        pool = VGGMaxPooling2D(2, padding="same", name=f"block{block}_pool{suffix}", **options)
        blocks.append([*convolutions, pool])
    return blocks


def _apply(block, x):
    for layer in block:
        x = layer(x)
    return x


def _blocks_of_padded_image(image, layers_of_blocks, input_padding, suffix, options):
    """Returns `Trunk.blocks` of these blocks; the last output is the pool of the padded image."""
    window, origin, stride, reach = image, input_padding, 1, 0
    blocks = []
    for number, block in enumerate(layers_of_blocks, start=1):
        convolutions = len(block) - 1
        # Each convolution extends the image-dependent region by a pixel and invalidates one at the
        # edge of the window. A pool may mix in one more.
        margin = 2 * convolutions + 1
        if number == 1:
            inputs = [image]
            border = EmptyBorder(
                input_padding,
                2 ** len(layers_of_blocks),
                _BORDER_SIZE,
                name=f"empty_border{suffix}",
                **options,
            )(image)
            # Padded by one pixel more and cropped again: OpenVINO 2026.4 merges a padding with the
            # convolution after it and drops the convolution's padding. The crop prevents that.
            name = f"input_padding{suffix}"
            window = layers.ZeroPadding2D(margin + 1, name=name, **options)(window)
            window = layers.Cropping2D(1, name=f"input_window{suffix}", **options)(window)
            origin = input_padding - margin
        else:
            inputs = [window, border, image]
            surround = Surround(
                input_padding,
                stride,
                reach,
                origin,
                margin,
                name=f"block{number}_window{suffix}",
                **options,
            )
            window, origin = surround(inputs), surround.start
        window, border = _apply(block, window), _apply(block, border)
        reach += convolutions * stride
        stride, origin = 2 * stride, origin // 2
        blocks.append((inputs, [window, border]))
    if blocks:
        surround = Surround(
            input_padding, stride, reach, origin, name=f"pool{number}{suffix}", **options
        )
        blocks[-1] = (inputs, [surround([window, border, image])])
    return blocks
