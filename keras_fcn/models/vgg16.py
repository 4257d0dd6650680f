"""The convolutional part of `keras.applications.VGG16`, at every image size."""

import keras


def vgg16_pools(
    x: keras.KerasTensor, *, data_format: str, dtype: keras.DTypePolicy
) -> dict[str, keras.KerasTensor]:
    """Applies the five blocks of VGG-16 and returns their pools.

    The layers are made from the configurations of `keras.applications.VGG16` and keep their names.
    Only the pools differ: their output size is rounded up, as in Caffe, so that no pixel is lost
    at odd sizes and an image of one pixel is enough.

    Args:
        x: KerasTensor (batch, height, width, channels), preprocessed.
        data_format: `"channels_last"` or `"channels_first"`, of `x` and of the pools.
        dtype: The layers' `keras.DTypePolicy`.

    Returns:
        Dictionary from `"pool1"` ... `"pool5"` to KerasTensors of stride 2 ... 32.
    """
    pools = {}
    for layer in keras.applications.VGG16(include_top=False, weights=None).layers[1:]:
        config = {**layer.get_config(), "data_format": data_format, "dtype": dtype}
        if isinstance(layer, keras.layers.MaxPooling2D):
            config["padding"] = "same"
        x = type(layer).from_config(config)(x)
        if isinstance(layer, keras.layers.MaxPooling2D):
            pools[f"pool{len(pools) + 1}"] = x
    return pools
