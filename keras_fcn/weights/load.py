"""One door for every source of weights."""

import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np

from keras_fcn.weights.caffe import open_caffemodel
from keras_fcn.weights.entries import Entries, Entry
from keras_fcn.weights.imagenet import imagenet_vgg16
from keras_fcn.weights.keras_files import open_keras_file
from keras_fcn.weights.npz import open_npz
from keras_fcn.weights.paper_names import from_paper
from keras_fcn.weights.port import port
from keras_fcn.weights.published import cached_file, find_published, published_names
from keras_fcn.weights.pytorch import open_pytorch_file

_KERAS_SUFFIXES = (".weights.h5", ".h5", ".keras")
_PAPER_FORMATS = {
    ".caffemodel": open_caffemodel,
    ".pth": open_pytorch_file,
    ".pt": open_pytorch_file,
    ".pth.tar": open_pytorch_file,
    ".npz": open_npz,
}
_VGG16_LAYERS = frozenset(
    f"block{block}_conv{number}"
    for block, convolutions in enumerate((2, 2, 3, 3, 3), start=1)
    for number in range(1, convolutions + 1)
)
_CLASSIFIER = {"fc1": "fc6", "fc2": "fc7"}
# The classifier's last layer, of Keras and of Caffe: its classes are ImageNet's.
_IMAGENET_SCORES = ("predictions", "fc8")
# Layers whose shapes follow the number of classes.
_CLASS_LAYERS = ("score_", "upscore")


def load(
    model: keras.Model, source: str | os.PathLike | keras.Model, *, partial: bool = True
) -> None:
    """Sets the weights of an FCN from a file, from another model, or by name.

    A source of the same network sets every variable. VGG-16 sets the convolutions and, if it has
    them and they fit, fc6 and fc7. An FCN of coarser stride sets the layers that the two share: the
    hand-over from 32s to 16s to 8s. An FCN of other classes sets all but the scores. What a source
    does not set keeps its values, and a warning says so unless it is the hand-over.

    Args:
        model: The model whose weights are set.
        source: `"imagenet"`, `"pascal_voc"`, `"pascal_voc_atonce"`; a path to a Keras file
            (`.weights.h5`, `.h5`, `.keras`), a `.caffemodel`, a `.pth` of pytorch-fcn or an `.npz`
            of wkentaro/fcn; or a `keras.Model`.
        partial: If `False`, the source must set every variable.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If the source is a `.pth` file and PyTorch is not installed.
        OSError: If weights cannot be downloaded.
        ValueError: If the source is damaged or does not fit; it lists every layer with both
            shapes, and the model is untouched.
    """
    if isinstance(source, keras.Model):
        _port(model, _entries_of(source), f"Model {source.name!r}", partial)
    elif source == "imagenet":
        vgg16 = imagenet_vgg16(include_top=_takes_classifier(model))
        _port(model, _entries_of(vgg16), "VGG-16 of keras.applications", partial)
    elif source in published_names():
        with open_file(_published_file(model, source)) as entries:
            _port(model, entries, f"weights={source!r}", partial)
    else:
        with open_file(source) as entries:
            if Path(source).suffix == ".caffemodel":
                _check_skip_scales(model, entries, source)
            _port(model, entries, str(source), partial)


@contextlib.contextmanager
def open_file(path: str | os.PathLike) -> Iterator[Entries]:
    """Yields the entries of a weight file in Keras's names and layout; its suffix says the format.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If the source is a `.pth` file and PyTorch is not installed.
        ValueError: If the format is unknown, or the file damaged.
    """
    name = Path(path).name.lower()
    if not Path(path).is_file():
        raise FileNotFoundError(
            "`weights` must be an existing file, a model, or one of imagenet, "
            f"{', '.join(published_names())}. Received: {path}."
        )
    if name.endswith(_KERAS_SUFFIXES):
        with open_keras_file(path) as entries:
            yield entries
        return
    for suffix, open_paper_format in _PAPER_FORMATS.items():
        if name.endswith(suffix):
            with open_paper_format(path) as entries:
                yield from_paper(entries)
            return
    suffixes = ", ".join((*_KERAS_SUFFIXES, *_PAPER_FORMATS))
    raise ValueError(f"`weights` must be a file that ends in one of {suffixes}. Received: {path}.")


def _entries_of(model):
    return {
        (layer.name, variable.name): Entry(
            tuple(variable.shape), lambda variable=variable: keras.ops.convert_to_numpy(variable)
        )
        for layer in model.layers
        for variable in layer.weights
        if variable.name in ("kernel", "bias")
    }


def _published_file(model, name):
    """Returns the path of published weights in the cache, converted by a model of their own."""
    layers = {layer.name for layer in model.layers}
    stride = 8 if "score_pool3" in layers else 16 if "score_pool4" in layers else 32
    published = find_published(name, stride)
    kernel, wanted = tuple(model.get_layer("fc6").kernel.shape), (7, 7, 512, published.fc_units)
    if kernel != wanted:
        raise ValueError(
            f"fc6 must have a kernel of {wanted} for weights={name!r}. Received: {kernel}. Leave "
            "out `fc_units` and `fc6_kernel_size`."
        )
    for pool, scale in zip(("pool4", "pool3"), published.skip_scales, strict=True):
        if f"score_{pool}" in layers and _skip_scale(model, pool) != scale:
            raise ValueError(
                f"`skip_scales` must be {published.skip_scales} for weights={name!r}, or left out. "
                f"Received: {_skip_scale(model, pool):g} for {pool}."
            )

    def convert(file, target):
        blank = type(model)(
            num_classes=published.label_space.num_classes,
            skip_scales=published.skip_scales,
            fc_units=published.fc_units,
        )
        load(blank, file, partial=False)
        blank.save_weights(target)

    return cached_file(published, convert)


def _takes_classifier(model):
    return tuple(model.get_layer("fc6").kernel.shape) == (7, 7, 512, 4096)


def _port(model, entries, name, partial):
    if ("score_fr", "kernel") in entries:
        _port_fcn(model, entries, name, partial)
    else:
        _port_vgg16(model, entries, name, partial)


def _port_vgg16(model, entries, name, partial):
    entries = {key: entry for key, entry in entries.items() if key[0] not in _IMAGENET_SCORES}
    entries = {
        (_CLASSIFIER.get(layer, layer), variable): entry
        for (layer, variable), entry in entries.items()
    }
    kept = {layer.name for layer in model.layers} - _VGG16_LAYERS
    if _takes_classifier(model) and ("fc6", "kernel") in entries:
        kept -= {"fc6", "fc7"}
        for layer in ("fc6", "fc7"):
            shape = tuple(model.get_layer(layer).kernel.shape)
            kernel = entries.get((layer, "kernel"))
            if kernel is not None and len(kernel.shape) == 2:
                entries[layer, "kernel"] = _dense_as_window(kernel, shape)
    else:
        entries = {key: entry for key, entry in entries.items() if key[0] not in ("fc6", "fc7")}
    port(model, entries, source=name, kept=kept if partial else ())
    if "fc6" in kept:
        _warn(
            f"fc6 and fc7 stay random: {name} has no classifier, or fc_units is not 4096 or "
            "fc6_kernel_size not 7. The model trains, but reaches lower scores."
        )


def _dense_as_window(kernel, shape):
    """Keras's `Dense` saw pool5 as (7, 7, 512) in C order."""
    if int(np.prod(shape[:3])) != kernel.shape[0] or shape[3] != kernel.shape[1]:
        return kernel
    return kernel.map(lambda array: array.reshape(shape), shape)


def _port_fcn(model, entries, name, partial):
    if not partial:
        port(model, entries, source=name)
        return
    shape, num_classes = entries["score_fr", "kernel"].shape, _num_classes(model)
    kept, unused = set(), set()
    if len(shape) == 4 and shape[-1] != num_classes:
        kept = {layer.name for layer in model.layers if layer.name.startswith(_CLASS_LAYERS)}
        unused = {layer for layer, _ in entries if layer.startswith(_CLASS_LAYERS)}
    elif finer := _layers_of_finer_stride(model, entries):
        # Each size ends in an upsampling of its own.
        kept = finer
        unused = {layer for layer, _ in entries if layer.startswith("upscore")}
        unused -= {layer.name for layer in model.layers}
    entries = {key: entry for key, entry in entries.items() if key[0] not in unused}
    port(model, entries, source=name, kept=kept)
    if "score_fr" in kept:
        _warn(
            f"The score layers keep their values, zero in a new model: {name} has {shape[-1]} "
            f"classes, the model {num_classes}."
        )


def _num_classes(model):
    return model.get_layer("score_fr").kernel.shape[-1]


def _layers_of_finer_stride(model, entries):
    """Layers that a model has beyond the coarser one that the entries are of; empty if none."""
    sources = {layer for layer, _ in entries}
    new = {layer.name for layer in model.layers} - sources
    new = {layer for layer in new if layer.startswith(_CLASS_LAYERS)}
    return new if {"score_pool4", "score_pool3"} & new else set()


def _check_skip_scales(model, entries, path):
    """Takes the Scale blobs out of the entries of a `.caffemodel` and compares them.

    Raises:
        ValueError: If the model multiplies a skip by something else.
    """
    for pool in ("pool4", "pool3"):
        blob = entries.pop((f"scale_{pool}", "kernel"), None)
        scales = np.ones(1, "float32") if blob is None else blob.read()
        if not np.allclose(scales, _skip_scale(model, pool), rtol=1e-4):
            found = f"{scales.min():g} to {scales.max():g}" if np.ptp(scales) else f"{scales[0]:g}"
            raise ValueError(
                f"`skip_scales` must be those of {path}, which scales {pool} by {found}. "
                f"Received: {_skip_scale(model, pool):g}. The at-once models need "
                "skip_scales=AT_ONCE_SKIP_SCALES, or --at-once on the command line."
            )


def _skip_scale(model, pool):
    """Rescaling layers stand only where the factor is not 1."""
    scales = [layer.scale for layer in model.layers if layer.name == f"scale_{pool}"]
    return scales[0] if scales else 1.0


def _warn(message):
    warnings.warn(message, stacklevel=5)
