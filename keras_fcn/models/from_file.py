"""Builds the model of a weight file without configuration, inferred from names and shapes."""

import os

import numpy as np

from keras_fcn.label_spaces import PASCAL_VOC
from keras_fcn.models.alexnet import FCNAlexNet
from keras_fcn.models.base import BaseFCN
from keras_fcn.models.fcn import FCN8s, FCN16s, FCN32s
from keras_fcn.spec import ALEXNET_FILTERS, AT_ONCE_SKIP_SCALES, SKIPS, VGG16_FILTERS
from keras_fcn.weights.entries import Entries
from keras_fcn.weights.files import PAPER_SUFFIXES, open_file
from keras_fcn.weights.networks import of_semantic_head


def model_from_file(path: str | os.PathLike, *, at_once: bool = False) -> BaseFCN:
    """Returns the FCN of a `.caffemodel`, `.pth` or `.npz` file, with its weights.

    Output stride, number of classes and size of fc6 are inferred from the names and shapes in the
    file. Such files were trained with the paper's padding and PASCAL VOC's mean, so these are used.
    A file with 21 classes gets PASCAL VOC's label space; of SIFT Flow's two heads, the semantic one
    is taken.

    Args:
        path: The file. Keras's weight files do not store the padding and raise a ValueError.
        at_once: Whether the file is an FCN-8s trained all at once. Only a `.caffemodel` stores
            this itself.

    Raises:
        FileNotFoundError: If the file does not exist.
        ImportError: If it is a `.pth` file and PyTorch is not installed.
        ValueError: If the file is damaged, has another format, or contains no FCN.
    """
    if not str(path).lower().endswith(PAPER_SUFFIXES):
        raise ValueError(
            f"MODEL must be a .keras file or end in one of {', '.join(PAPER_SUFFIXES)}. Other "
            f"weight files do not define the network. Received: {path}."
        )
    with open_file(path) as contents:
        entries, scales = of_semantic_head(contents.entries), contents.skip_scales
        layers = {layer for layer, _ in entries}
        score, fc6 = (entries.get((layer, "kernel")) for layer in ("score_fr", "fc6"))
        if score is None or fc6 is None or len(score.shape) != 4 or len(fc6.shape) != 4:
            raise ValueError(
                f"MODEL must contain an FCN, with layers fc6 and score_fr. Received: {path}, with "
                f"{', '.join(sorted(layers))}."
            )
        num_classes, (size, _, _, fc_units) = score.shape[-1], fc6.shape
        filters = filters_of(entries)
        if "conv1" in layers:
            return _alexnet(path, num_classes, fc_units, filters)
        if all(scales.get(pool) for pool in SKIPS):
            means = [np.mean(scales[pool]) for pool in SKIPS]
            at_once = np.allclose(means, AT_ONCE_SKIP_SCALES, rtol=1e-3)
    network = FCN8s if "score_pool3" in layers else FCN16s if "score_pool4" in layers else FCN32s
    return network(
        num_classes,
        weights=path,
        filters=filters,
        fc_units=fc_units,
        fc6_kernel_size=size,
        skip_scales=AT_ONCE_SKIP_SCALES if at_once else None,
        label_space=PASCAL_VOC if num_classes == PASCAL_VOC.num_classes else None,
        data_format="channels_last",
    )


def _alexnet(path, num_classes, fc_units, filters):
    return FCNAlexNet(
        num_classes,
        weights=path,
        filters=filters,
        fc_units=fc_units,
        label_space=PASCAL_VOC if num_classes == PASCAL_VOC.num_classes else None,
        data_format="channels_last",
    )


def filters_of(entries: Entries) -> tuple[int, int, int, int, int]:
    """Returns the filters of AlexNet's convolutions, or of those of each block of VGG-16.

    Where there is no kernel, it is the published number.
    """
    layer, published = "block{}_conv1", VGG16_FILTERS
    if any(name == "conv1" for name, _ in entries):
        layer, published = "conv{}", ALEXNET_FILTERS
    kernels = [entries.get((layer.format(n), "kernel")) for n in range(1, 6)]
    first, second, third, fourth, fifth = (
        usual if kernel is None or len(kernel.shape) != 4 else kernel.shape[-1]
        for kernel, usual in zip(kernels, published, strict=True)
    )
    return first, second, third, fourth, fifth
