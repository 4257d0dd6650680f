"""The convolutional part of `keras.applications.VGG16`, at every image size."""

import keras
from keras import layers

from keras_fcn.layers import EmptyBorder, Surround

# The blocks behind which the border is no longer computed apart: in block 4 the image's influence
# reaches almost to the outer edge.
_BLOCKS_WITHOUT_BORDER = 3
# Height and width of the empty image that stands for the border: 8 pixels of pool3, of which the
# upper edge has an influence on 3, the lower one on 3, or on 4 of 9 if a pool rounds up.
_BORDER_SIZE = 64


def vgg16_pools(
    x: keras.KerasTensor, *, input_padding: int, data_format: str, dtype: keras.DTypePolicy
) -> dict[str, keras.KerasTensor]:
    """Applies the five blocks of VGG-16 and returns their pools.

    The layers are made from the configurations of `keras.applications.VGG16` and keep their names.
    Only the pools differ: their output size is rounded up, as in Caffe, so that no pixel is lost
    at odd sizes and an image of one pixel is enough.

    The border that padding adds is half of the paper's arithmetic, though what it holds does not
    depend on the image far from it. Blocks 1 to 3 therefore see the image's surroundings, and one
    small empty image per batch from which the rest of the border is put together; the pools are
    the same.

    Args:
        x: KerasTensor (batch, height, width, channels), preprocessed.
        input_padding: Pixels of zeros around the image, at least 99, or 0.
        data_format: `"channels_last"` or `"channels_first"`, of `x` and of the pools.
        dtype: The layers' `keras.DTypePolicy`.

    Returns:
        Dictionary from `"pool3"`, `"pool4"` and `"pool5"` to KerasTensors of stride 8, 16 and 32.
    """
    options = {"data_format": data_format, "dtype": dtype}
    blocks = _blocks(**options)
    if input_padding:
        x = _pool_of_padded_image(x, blocks[:_BLOCKS_WITHOUT_BORDER], input_padding, options)
    else:
        x = _apply(blocks[:_BLOCKS_WITHOUT_BORDER], x)
    pools = {"pool3": x}
    for number, block in enumerate(blocks[_BLOCKS_WITHOUT_BORDER:], start=4):
        x = pools[f"pool{number}"] = _apply([block], x)
    return pools


def _blocks(data_format, dtype):
    """Returns the layers of each block, the pool last."""
    blocks = [[]]
    for layer in keras.applications.VGG16(include_top=False, weights=None).layers[1:]:
        config = {**layer.get_config(), "data_format": data_format, "dtype": dtype}
        is_pool = isinstance(layer, layers.MaxPooling2D)
        if is_pool:
            config["padding"] = "same"
        blocks[-1].append(type(layer).from_config(config))
        if is_pool:
            blocks.append([])
    return blocks[:-1]


def _apply(blocks, x):
    for block in blocks:
        for layer in block:
            x = layer(x)
    return x


def _pool_of_padded_image(image, blocks, input_padding, options):
    """Returns the last pool of `blocks` for the whole of the padded image."""
    border = EmptyBorder(
        input_padding, 2 ** len(blocks), _BORDER_SIZE, name="empty_border", **options
    )(image)
    window, origin, stride, reach = image, input_padding, 1, 0
    for number, block in enumerate(blocks, start=1):
        convolutions = len(block) - 1
        # Each convolution widens the image's influence by a pixel, and spoils one at the window's
        # own edge; a pool may mix in one more.
        margin = 2 * convolutions + 1
        if number == 1:
            window = layers.ZeroPadding2D(margin, name="input_padding", **options)(window)
            origin = input_padding - margin
        else:
            surround = Surround(
                input_padding,
                stride,
                reach,
                origin,
                margin,
                name=f"block{number}_window",
                **options,
            )
            window, origin = surround([window, border, image]), surround.start
        window, border = _apply([block], window), _apply([block], border)
        reach += convolutions * stride
        stride, origin = 2 * stride, origin // 2
    surround = Surround(input_padding, stride, reach, origin, name=f"pool{number}", **options)
    return surround([window, border, image])
