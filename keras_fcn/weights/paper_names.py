"""Converts the names and the layout of the paper's releases to those of this package."""

import re

import numpy as np

from keras_fcn.weights.entries import Entries, Entry, by_name

# Kernel sizes of fully-connected layers, which Caffe and PyTorch store as matrices. That of fc6 is
# 7 in VGG-16 and 6 in AlexNet.
_KERNEL_SIZES = {"fc6": (7, 6), "fc7": (1,), "fc8": (1,)}
# Ends of names in the release's networks of several streams or heads. The network of RGB and depth
# has one stream.
_SUFFIXES = {
    "color": "_image",
    "hha": "_hha",
    "_bgrd": "",
    "_sem": "_semantic",
    "_geo": "_geometric",
}


def from_paper(entries: Entries) -> Entries:
    """Returns the entries under Keras's names and in Keras's layout.

    Caffe, PyTorch and Chainer store the kernel of a convolution as (outputs, inputs, height, width)
    and that of a transposed convolution as (inputs, outputs, height, width). Keras stores both with
    the channels reversed and last. Matrices of fully-connected layers become kernels.

    Args:
        entries: Entries of layers `conv1_1`, ..., `fc6`, `score_fr`, `upscore2`, ...
    """
    return by_name(
        ((_keras_name(layer), variable), _keras_layout(layer, variable, entry))
        for (layer, variable), entry in entries.items()
    )


def _keras_name(layer):
    for suffix, ours in _SUFFIXES.items():
        if layer.endswith(suffix):
            return _keras_name(layer.removesuffix(suffix)) + ours
    return re.sub(r"^conv([1-5])_([1-3])$", r"block\1_conv\2", layer)


def _keras_layout(layer, variable, entry):
    if variable != "kernel":
        return entry
    if len(entry.shape) == 2 and layer in _KERNEL_SIZES:
        entry = _as_kernel(entry, _KERNEL_SIZES[layer])
    if len(entry.shape) != 4:
        return entry
    outputs, inputs, height, width = entry.shape
    return entry.map(
        lambda array: np.ascontiguousarray(np.transpose(array, (2, 3, 1, 0))),
        (height, width, inputs, outputs),
    )


def _as_kernel(entry: Entry, sizes: tuple[int, ...]) -> Entry:
    outputs, inputs = entry.shape
    size = next((size for size in sizes if inputs % size**2 == 0), None)
    if size is None:
        return entry
    shape = (outputs, inputs // size**2, size, size)
    return entry.map(lambda array: array.reshape(shape), shape)
