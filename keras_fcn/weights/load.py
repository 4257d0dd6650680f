"""Loads weights from any source: files of any format, models, and names."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np

from keras_fcn.io import hub
from keras_fcn.spec import output_stride, vgg16_layer_names
from keras_fcn.spelling import proposal
from keras_fcn.weights.caffe import open_caffemodel
from keras_fcn.weights.channels import kernel_for_channels, warn_of_channels
from keras_fcn.weights.entries import Contents, Entries, Entry
from keras_fcn.weights.imagenet import imagenet_vgg16
from keras_fcn.weights.keras_files import open_keras_file
from keras_fcn.weights.metadata import (
    by_pool,
    check_geometry,
    check_mean,
    check_skip_scales,
    geometry_of,
    mean_of,
    skip_scales_of,
    warn,
)
from keras_fcn.weights.npz import open_npz
from keras_fcn.weights.paper_names import from_paper
from keras_fcn.weights.port import port, variables_of, with_names_of
from keras_fcn.weights.published import find_published, published_names
from keras_fcn.weights.published_files import cached_file, packaged_file
from keras_fcn.weights.pytorch import open_pytorch_file

_KERAS_SUFFIXES = (".weights.h5", ".h5", ".keras")
_PAPER_FORMATS = {
    ".caffemodel": open_caffemodel,
    ".pth": open_pytorch_file,
    ".pt": open_pytorch_file,
    ".pth.tar": open_pytorch_file,
    ".npz": open_npz,
}
PAPER_SUFFIXES = tuple(_PAPER_FORMATS)
"""Suffixes of weight files with the paper's names and layout."""
WEIGHT_SUFFIXES = (*_KERAS_SUFFIXES, *PAPER_SUFFIXES)
"""Suffixes of all weight files."""
_SIFT_FLOW_TASKS = {"semantic": 33, "geometric": 3}
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


def load(
    model: keras.Model, source: str | os.PathLike | keras.Model, *, partial: bool = True
) -> None:
    """Sets the weights of an FCN from a file, from another model, or by name.

    A source of the same network sets every variable. VGG-16 sets the convolutions and, if their
    shapes match, fc6 and fc7. An FCN of coarser output stride sets the layers that both have, for
    stage-wise training from 32s to 16s to 8s. An FCN with another number of classes sets all but
    the score layers. The other variables keep their values, with a warning except in stage-wise
    training.

    Args:
        model: The model to set.
        source: `"imagenet"`, or one of `published_names()`; a path to a Keras file (`.weights.h5`,
            `.h5`, `.keras`), a `.caffemodel`, a `.pth` of pytorch-fcn or an `.npz` of wkentaro/fcn;
            `"hf://owner/repo/file@revision"` for such a file of the Hugging Face Hub, see
            `keras_fcn.io.hub.download`; or a `keras.Model`.
        partial: If `False`, the source must set every variable.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If the source is a `.pth` file and PyTorch is not installed, or a file of the
            Hub and `huggingface_hub` is not installed.
        OSError: If weights cannot be downloaded, or the file in the package is damaged.
        ValueError: If the source is damaged, does not fit, or holds NaN or infinity. The message
            lists every layer with both shapes, and the model is unchanged.
    """
    if isinstance(source, keras.Model):
        _port(model, _contents_of(source), f"Model {source.name!r}", partial)
    elif source == "imagenet":
        if not _has_layer(model, "fc6") or _has_layer(model, "conv1"):
            raise _of_vgg16_only(model, source)
        _check_without_backbone(model, source)
        vgg16 = imagenet_vgg16(include_top=_takes_classifier(model))
        _port(model, _contents_of(vgg16), "VGG-16 of keras.applications", partial)
    elif source in published_names():
        published = _published(model, source)
        path = packaged_file(published) or cached_file(
            published,
            lambda file, target: _convert(model, published, file, target),
            variant="-multitask" if hasattr(model, "tasks") else "",
        )
        remedy = None if published.is_packaged else f"Delete {path} to download it again."
        with _remedy(remedy), open_file(path) as contents:
            contents = dataclasses.replace(
                contents,
                skip_scales=by_pool(published.skip_scales),
                mean=published.mean,
                geometry={
                    "padding": published.padding,
                    "input_upsampling": published.input_upsampling,
                },
            )
            _port(model, contents, f"weights={source!r}", partial)
    else:
        with open_file(source) as contents:
            _port(model, contents, str(source), partial)


@contextlib.contextmanager
def open_file(path: str | os.PathLike) -> Iterator[Contents]:
    """Yields the contents of a weight file in Keras's names and layout; the suffix sets the format.

    Args:
        path: The file, or its address on the Hub.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError, OSError: As `load`.
        ValueError: If the format is unknown, or the file is damaged.
    """
    path = local_file(path)
    if not isinstance(path, (str, os.PathLike)):
        raise ValueError(
            f"`weights` must be a name, a path or a model. Received: type {type(path).__name__}."
        )
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"`weights` must be an existing file, a model, {hub.FORM}, or one of imagenet, "
            f"{', '.join(published_names())}. Received: {path}."
            + proposal(str(path), ("imagenet", *published_names()))
        )
    open_format = _format_of(path)
    with open_format(path) as contents:
        if open_format is not open_keras_file:
            contents = dataclasses.replace(contents, entries=from_paper(contents.entries))
        yield contents


def local_file(source: str | os.PathLike) -> str | os.PathLike:
    """Returns the path of a weight file: of an address of the Hub the downloaded file.

    Every other source is returned as it is.

    Raises:
        ImportError, OSError: As `load`.
        ValueError: If it is an address of a file of another format, before it is downloaded.
    """
    if not hub.is_address(source):
        return source
    _format_of(hub.HubFile.of(source).name)
    return hub.download(source)


def _format_of(path):
    """Returns the function that opens a file of this suffix."""
    name = Path(path).name.lower()
    if name.endswith(".weights.json"):
        raise ValueError(
            f"`weights` must be one file. Received: {path}, the index of several (Keras's "
            "`max_shard_size`). Load it with Keras's `load_weights` into the model that wrote it, "
            "and save that as one .weights.h5 file."
        )
    if name.endswith(_KERAS_SUFFIXES):
        return open_keras_file
    for suffix, open_paper_format in _PAPER_FORMATS.items():
        if name.endswith(suffix):
            return open_paper_format
    suffixes = ", ".join(WEIGHT_SUFFIXES)
    raise ValueError(f"`weights` must be a file that ends in one of {suffixes}. Received: {path}.")


def _contents_of(model):
    entries = {
        key: Entry(tuple(variable.shape), _reader(variable))
        for key, variable in variables_of(model)
        if "/" in key[0] or variable.name in ("kernel", "bias")
    }
    return Contents(entries, skip_scales_of(model), mean_of(model), geometry_of(model))


def _reader(variable):
    return lambda: keras.ops.convert_to_numpy(variable).astype("float32")


def _check_without_backbone(model, name):
    if _has_layer(model, "backbone"):
        raise _of_vgg16_only(model, name)


def _of_vgg16_only(model, name):
    on_backbone = " on a backbone" if _has_layer(model, "backbone") else ""
    return ValueError(
        f"weights={name!r} are VGG-16's, and must be loaded into one network on it. Received: "
        f"{type(model).__name__}{on_backbone}."
    )


def _published(model, name):
    """Returns the published weights of a name, after checking that they fit the model."""
    _check_without_backbone(model, name)
    if not hasattr(model, "network"):
        raise ValueError(
            f"weights={name!r} must be loaded into a model of this package. Received: a "
            f"{type(model).__name__}."
        )
    published = find_published(name, output_stride(model.skips), model.network)
    tasks = getattr(model, "num_classes", None) if hasattr(model, "tasks") else None
    if tasks is not None and (name, tasks) != ("sift_flow", _SIFT_FLOW_TASKS):
        raise ValueError(
            "Published weights must be loaded into a network of one task, or those of sift_flow "
            f"into one of {_SIFT_FLOW_TASKS}. Received: weights={name!r}, {tasks}."
        )
    if model.network != "vgg16":
        return published
    size = published.fc6_kernel_size
    kernel = tuple(model.get_layer("fc6").kernel.shape)
    wanted = (size, size, 512, published.fc_units)
    if kernel != wanted:
        raise ValueError(
            f"fc6 must have a kernel of shape {wanted} for weights={name!r}. Received: {kernel}. "
            f"Set fc_units={published.fc_units}, fc6_kernel_size={size}, "
            f"padding={published.padding!r} and input_upsampling={published.input_upsampling}."
        )
    if _has_layer(model, "score_fr") and _num_classes(model) == published.label_space.num_classes:
        check_skip_scales(model, by_pool(published.skip_scales), f"weights={name!r}")
    return published


def _convert(model, published, file, target):
    """Converts a published file to a `.weights.h5` file, through a temporary model."""
    blank = model.blank(
        published.label_space.num_classes,
        published.fc_units,
        skip_scales=published.skip_scales,
    )
    load(blank, file, partial=False)
    blank.save_weights(target)


@contextlib.contextmanager
def _remedy(sentence):
    try:
        yield
    except ValueError as error:
        if sentence is None:
            raise
        raise ValueError(f"{error} {sentence}") from error


def _takes_classifier(model):
    return tuple(model.get_layer("fc6").kernel.shape) == (7, 7, 512, 4096)


def _port(model, contents, name, partial):
    entries = with_names_of(model, _for_channels(model, contents.entries, name))
    if _has_layer(model, "score_fr"):
        entries = of_semantic_head(entries)
    contents = dataclasses.replace(contents, entries=entries)
    is_fcn = any(layer.startswith(_CLASS_LAYERS) for layer, _ in entries)
    if is_fcn and not _has_layer(model, "score_fr"):
        _port_heads(model, entries, name, partial)
    elif is_fcn:
        _port_fcn(model, contents, name, partial)
    elif _has_layer(model, "conv1"):
        _port_alexnet(model, entries, name, partial)
    else:
        _port_vgg16(model, entries, name, partial)


def _for_channels(model, entries, name):
    """Returns the entries with the first kernel for the model's number of channels."""
    key = ("block1_conv1", "kernel")
    if key not in entries or len(entries[key].shape) != 4 or not _has_layer(model, key[0]):
        return entries
    height, width, known, filters = entries[key].shape
    channels = model.get_layer(key[0]).kernel.shape[2]
    # Networks of several modalities extend kernels themselves, see `MultimodalFCN32s`.
    if channels == known or known != 3 or getattr(model, "network", "vgg16") != "vgg16":
        return entries
    # The paper's kernels take BGR; preprocessed images of other channels begin with red.
    order = slice(None, None, -1 if _has_layer(model, "preprocessing") else 1)
    warn_of_channels(f"{key[0]} in {name}", channels, known)
    kernel = entries[key].map(
        lambda array: kernel_for_channels(array[:, :, order], channels),
        (height, width, channels, filters),
    )
    return {**entries, key: kernel}


def _has_layer(model, name):
    return any(layer.name == name for layer in model.layers)


def of_semantic_head(entries: Entries) -> Entries:
    """Returns the entries of SIFT Flow's semantic head under the names of a network of one head."""
    if ("score_fr_semantic", "kernel") not in entries:
        return entries
    return {
        (layer.removesuffix("_semantic"), variable): entry
        for (layer, variable), entry in entries.items()
        if not layer.endswith("_geometric")
    }


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
    if kernel is None or not _has_layer(model, layer):
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
    has_classifier, takes_classifier = ("fc6", "kernel") in entries, _takes_classifier(model)
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
    entries, num_classes = contents.entries, _num_classes(model)
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


def _num_classes(model):
    return model.get_layer("score_fr").kernel.shape[-1]


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
