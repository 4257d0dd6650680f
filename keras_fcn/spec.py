"""Facts of the networks that several modules share; imports nothing of the package."""

from collections.abc import Sequence

MODEL_NAMES = ("fcn32s", "fcn16s", "fcn8s", "fcn4s", "fcn_alexnet")
"""Short names of the models, those on VGG-16 from the coarsest output stride to the finest."""

EXPORT_FORMATS = ("saved_model", "onnx", "litert", "openvino")
"""Formats of exported files."""

EXPORT_OUTPUTS = ("logits", "probabilities", "labels")
"""What an exported file returns for each pixel."""

MODALITIES = {"image": 3, "depth": 1, "hha": 3}
"""Number of channels of each input that `MultimodalFCN32s` knows."""

SEMANTIC = "semantic"
"""The task of a data set's label map, the only one of most data sets."""

TASKS = (SEMANTIC, "geometric")
"""Tasks of SIFT Flow's two label maps."""

VGG16_FILTERS = (64, 128, 256, 512, 512)
"""Filters of the convolutions in each of VGG-16's five blocks."""

SKIPS = ("pool4", "pool3")
"""Pools that the skip connections of FCN-8s start from; FCN-16s has the first one only."""

AT_ONCE_SKIP_SCALES = (0.01, 0.0001)
"""`skip_scales` of FCN-8s trained all at once instead of in three stages."""

VGG16_CONVOLUTIONS = (2, 2, 3, 3, 3)
"""Convolutions in each block of VGG-16, which ends in a pool of size 2 and stride 2."""


def vgg16_layer_names(template: str = "block{block}_conv{number}") -> list[str]:
    """Returns the names of VGG-16's convolutions, first to last.

    Args:
        template: `"conv{block}_{number}"` for the names of the paper and Caffe; Keras's by default.
    """
    return [
        template.format(block=block, number=number)
        for block, convolutions in enumerate(VGG16_CONVOLUTIONS, start=1)
        for number in range(1, convolutions + 1)
    ]


def output_stride(skips: Sequence[str]) -> int:
    """Returns the output stride of the network with these skip connections: 32, 16 or 8 pixels."""
    return 32 >> len(skips)


ALEXNET_FILTERS = (96, 256, 384, 384, 256)
"""Filters of AlexNet's five convolutions."""

NYUDV2_MEAN = (116.190, 97.203, 92.318)
"""Mean (blue, green, red) of NYUDv2's images, as are the following ones of their data sets."""

PASCAL_CONTEXT_MEAN = (104.007, 116.669, 122.679)

SIFT_FLOW_MEAN = (114.578, 115.294, 108.353)

HHA_MEAN = (132.431, 94.076, 118.477)
"""Mean of NYUDv2's HHA features: horizontal disparity, height above ground, angle with gravity."""

LOG_DEPTH_MEAN = 7.844
"""Mean of the natural logarithm of NYUDv2's depth in millimetres."""
