"""What a decoder takes of the convolutionalized VGG-16, and where it lies."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
from keras import layers

from keras_fcn.alignment import fcn_crop_offsets
from keras_fcn.models.config import paddings
from keras_fcn.models.vgg16 import Trunk, convolutionalized_classifier, vgg16_trunk


@dataclasses.dataclass(frozen=True)
class Features:
    """The features of an image.

    Args:
        fc7: KerasTensor of output stride 32.
        skips: Dictionary from the names of the fused pools, coarsest first, to KerasTensors.
        crop_offsets: One for each skip and one for the logits, see `fcn_crop_offsets`.
        trunk: The blocks that they come from.
    """

    fc7: keras.KerasTensor
    skips: dict[str, keras.KerasTensor]
    crop_offsets: tuple[int, ...]
    trunk: Trunk


def vgg16_features(
    x: keras.KerasTensor,
    config: Mapping[str, Any],
    pools: tuple[str, ...],
    *,
    data_format: str,
    dtype: keras.DTypePolicy,
    suffix: str = "",
) -> Features:
    """Applies the convolutionalized VGG-16.

    Args:
        x: KerasTensor (batch, height, width, channels), preprocessed.
        config: Configuration of the network: `padding`, `filters`, `fc_units`, `fc6_kernel_size`,
            `dropout_rate` and `skip_scales`.
        pools: Names of the fused pools, coarsest first.
        data_format: `"channels_last"` or `"channels_first"`, of `x` and of the features.
        dtype: The layers' `keras.DTypePolicy`.
        suffix: End of the names of the layers, for networks with several trunks.
    """
    options = {"data_format": data_format, "dtype": dtype, "suffix": suffix}
    input_padding, fc6_padding = paddings(config["padding"], config["fc6_kernel_size"])
    trunk = vgg16_trunk(x, filters=config["filters"], input_padding=input_padding, **options)
    fc7 = convolutionalized_classifier(
        trunk.pools["pool5"],
        units=config["fc_units"],
        kernel_size=config["fc6_kernel_size"],
        padding="same" if fc6_padding else "valid",
        dropout_rate=config["dropout_rate"],
        **options,
    )
    skips = {}
    for pool, scale in zip(pools, config["skip_scales"], strict=False):
        skips[pool] = trunk.pools[pool]
        if scale != 1:
            scaling = layers.Rescaling(scale, name=f"scale_{pool}{suffix}", dtype=dtype)
            skips[pool] = scaling(trunk.pools[pool])
    crop_offsets = fcn_crop_offsets(
        pools,
        input_padding=input_padding,
        fc6_kernel_size=config["fc6_kernel_size"],
        fc6_padding=fc6_padding,
    )
    return Features(fc7, skips, crop_offsets, trunk)
