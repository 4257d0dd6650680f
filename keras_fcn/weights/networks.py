"""Which arrays of a source each network takes, and which of its layers keep their values."""

import dataclasses

import keras
import numpy as np

from keras_fcn.spec import vgg16_layer_names
from keras_fcn.weights.channels import kernel_for_channels, warn_of_channels
from keras_fcn.weights.entries import Contents, Entries
from keras_fcn.weights.metadata import check_geometry, check_mean, check_skip_scales, warn
from keras_fcn.weights.port import port, with_names_of

_VGG16_LAYERS = frozenset(vgg16_layer_names())
_CLASSIFIER = {"fc1": "fc6", "fc2": "fc7"}
# The classifier's last layer in Keras and Caffe, whose classes are ImageNet's.
_IMAGENET_SCORES = ("predictions", "fc8")
# Layers whose shapes depend on the number of classes.
_CLASS_LAYERS = ("score_", "upscore")
# Those of FCNs that a finer one may start from, on VGG-16 and on a backbone, each with its last
# upsampling, which the finer one replaces.
_STRIDE_16 = ("score_fr", "score_stride16", "upscore_to_stride16")
_COARSER_MODELS = {
    frozenset({"score_fr", "upscore"}): "upscore",
    frozenset({"score_fr", "score_pool4", "upscore2", "upscore16"}): "upscore16",
    frozenset({"score_fr", "upscore32"}): "upscore32",
    frozenset({*_STRIDE_16, "upscore16"}): "upscore16",
    frozenset({*_STRIDE_16, "score_stride8", "upscore_to_stride8", "upscore8"}): "upscore8",
}


def port_into(model: keras.Model, contents: Contents, name: str, partial: bool) -> None:
    """Sets the variables of a network from the contents of a source.

    Args:
        model: The network.
        contents: Arrays and metadata of the source.
        name: Name of the source, for errors and warnings.
        partial: As in `keras_fcn.weights.load`, as are the errors.
    """
    entries = with_names_of(model, _for_channels(model, contents.entries, name))
    if has_layer(model, "score_fr"):
        entries = of_semantic_head(entries)
    contents = dataclasses.replace(contents, entries=entries)
    is_fcn = any(layer.startswith(_CLASS_LAYERS) for layer, _ in entries)
    if is_fcn and not has_layer(model, "score_fr"):
        _port_heads(model, entries, name, partial)
    elif is_fcn:
        _port_fcn(model, contents, name, partial)
    elif has_layer(model, "conv1"):
        _port_alexnet(model, entries, name, partial)
    else:
        _port_vgg16(model, entries, name, partial)


def of_semantic_head(entries: Entries) -> Entries:
    """Returns the entries of SIFT Flow's semantic head under the names of a network of one head."""
    if ("score_fr_semantic", "kernel") not in entries:
        return entries
    return {
        (layer.removesuffix("_semantic"), variable): entry
        for (layer, variable), entry in entries.items()
        if not layer.endswith("_geometric")
    }


def fits_classifier(model: keras.Model) -> bool:
    """Whether fc6 of a model has the shape of VGG-16's first fully-connected layer."""
    return tuple(model.get_layer("fc6").kernel.shape) == (7, 7, 512, 4096)


def has_layer(model: keras.Model, name: str) -> bool:
    """Whether a model has a layer of this name."""
    return any(layer.name == name for layer in model.layers)


def num_classes_of(model: keras.Model) -> int:
    """Returns the number of classes of an FCN of one head."""
    return model.get_layer("score_fr").kernel.shape[-1]


def _for_channels(model, entries, name):
    """Returns the entries with the first kernel for the model's number of channels."""
    key = ("block1_conv1", "kernel")
    if key not in entries or len(entries[key].shape) != 4 or not has_layer(model, key[0]):
        return entries
    height, width, known, filters = entries[key].shape
    channels = model.get_layer(key[0]).kernel.shape[2]
    # Networks of several modalities extend kernels themselves, see `MultimodalFCN32s`.
    if channels == known or known != 3 or getattr(model, "network", "vgg16") != "vgg16":
        return entries
    # The paper's kernels take BGR; preprocessed images of other channels begin with red.
    order = slice(None, None, -1 if has_layer(model, "preprocessing") else 1)
    warn_of_channels(f"{key[0]} in {name}", channels, known)
    kernel = entries[key].map(
        lambda array: kernel_for_channels(array[:, :, order], channels),
        (height, width, channels, filters),
    )
    return {**entries, key: kernel}


def _port_heads(model, entries, name, partial):
    """Ports into a network of several heads or streams, also from one of coarser stride."""
    wanted, found = (
        {layer for layer in names if layer.startswith(_CLASS_LAYERS)}
        for names in ({layer.name for layer in model.layers}, {layer for layer, _ in entries})
    )
    kept, unused = set(), set()
    scores = {layer for layer in found if layer.startswith("score_")}
    if partial and not all(_fits(model, entries, layer) for layer in scores):
        kept, unused = wanted, found
        warn(f"The score layers keep their values: {name} has other classes or tasks.")
    elif partial and scores < wanted:
        kept, unused = wanted - found, found - wanted
    entries = {key: entry for key, entry in entries.items() if key[0] not in unused}
    port(model, entries, source=name, kept=kept)


def _fits(model, entries, layer):
    kernel = entries.get((layer, "kernel"))
    if kernel is None or not has_layer(model, layer):
        return False
    return kernel.shape == tuple(model.get_layer(layer).kernel.shape)


def _port_alexnet(model, entries, name, partial):
    """Ports the classifier CaffeNet."""
    entries = {key: entry for key, entry in entries.items() if key[0] not in _IMAGENET_SCORES}
    kept = {layer.name for layer in model.layers if layer.name.startswith(_CLASS_LAYERS)}
    port(model, entries, source=name, kept=kept if partial else ())


def _port_vgg16(model, entries, name, partial):
    entries = {
        (_CLASSIFIER.get(layer, layer), variable): entry
        for (layer, variable), entry in entries.items()
        if layer not in _IMAGENET_SCORES
    }
    has_classifier, takes_classifier = ("fc6", "kernel") in entries, fits_classifier(model)
    kept = {layer.name for layer in model.layers} - _VGG16_LAYERS
    if takes_classifier and has_classifier:
        kept -= {"fc6", "fc7"}
        for layer in ("fc6", "fc7"):
            shape = tuple(model.get_layer(layer).kernel.shape)
            kernel = entries.get((layer, "kernel"))
            if kernel is not None and len(kernel.shape) == 2:
                entries[layer, "kernel"] = _dense_as_kernel(kernel, shape)
    else:
        entries = {key: entry for key, entry in entries.items() if key[0] not in ("fc6", "fc7")}
    port(model, entries, source=name, kept=kept if partial else ())
    if "fc6" in kept:
        reason = (
            "pretrained values need fc_units=4096 and fc6_kernel_size=7"
            if has_classifier or not takes_classifier
            else f"{name} does not hold them"
        )
        warn(f"fc6 and fc7 start random: {reason}.")


def _dense_as_kernel(kernel, shape):
    """Returns the convolution kernel of a `Dense` layer on pool5, flattened from (7, 7, 512)."""
    if int(np.prod(shape[:3])) != kernel.shape[0] or shape[3] != kernel.shape[1]:
        return kernel
    return kernel.map(lambda array: array.reshape(shape), shape)


def _port_fcn(model, contents, name, partial):
    entries, num_classes = contents.entries, num_classes_of(model)
    score = entries.get(("score_fr", "kernel"))
    found = num_classes if score is None or len(score.shape) != 4 else score.shape[-1]
    kept, unused = set(), set()
    if partial and found != num_classes:
        kept = {layer.name for layer in model.layers if layer.name.startswith(_CLASS_LAYERS)}
        unused = {layer for layer, _ in entries if layer.startswith(_CLASS_LAYERS)}
    else:
        if partial:
            kept, unused = _stage_wise(model, entries)
        check_skip_scales(model, contents.skip_scales, name)
    entries = {key: entry for key, entry in entries.items() if key[0] not in unused}
    port(model, entries, source=name, kept=kept)
    if "score_fr" in kept:
        warn(
            f"The score layers keep their values, which are zero in a new model: {name} has "
            f"{found} classes, the model {num_classes}."
        )
    check_mean(model, contents.mean, name)
    check_geometry(model, contents.geometry, name)


def _stage_wise(model, entries):
    """Returns the layers that a model adds to a coarser one, and those that it drops.

    Both are empty unless the entries hold all layers of a model of coarser output stride.
    """
    layers, sources = (
        frozenset(layer for layer in names if layer.startswith(_CLASS_LAYERS))
        for names in ({layer.name for layer in model.layers}, {layer for layer, _ in entries})
    )
    last = _COARSER_MODELS.get(sources)
    if last is None or last in layers or not sources - {last} < layers:
        return set(), set()
    return layers - sources, sources - layers
