"""Coordinate maps and receptive fields of networks, and the crop offsets that follow from them."""

from keras_fcn.alignment.graph import coordinate_maps
from keras_fcn.alignment.maps import (
    IMAGE,
    CoordinateMap,
    FeatureMap,
    convolution,
    crop_offset,
    fcn_crop_offsets,
    transposed_convolution,
    vgg16_pool_maps,
)

__all__ = [
    "IMAGE",
    "CoordinateMap",
    "FeatureMap",
    "convolution",
    "coordinate_maps",
    "crop_offset",
    "fcn_crop_offsets",
    "transposed_convolution",
    "vgg16_pool_maps",
]
