"""One door for every source of weights."""

import os
import warnings

import keras

from keras_fcn.weights.keras_files import read_keras_file
from keras_fcn.weights.port import port

_VGG16_LAYERS = frozenset(
    f"block{block}_conv{number}"
    for block, convolutions in enumerate((2, 2, 3, 3, 3), start=1)
    for number in range(1, convolutions + 1)
)
_CLASSIFIER = {"fc1": "fc6", "fc2": "fc7"}


def load(model: keras.Model, source: str | os.PathLike | keras.Model) -> None:
    """Sets the weights of an FCN from a file, from another model, or from ImageNet.

    VGG-16 sets the convolutions and, if the source has them and they fit, fc6 and fc7; the rest
    keeps its values. An FCN of coarser stride sets all layers that the two share: the hand-over
    from 32s to 16s to 8s.

    Args:
        model: The model whose weights are set.
        source: `"imagenet"`, a path (`.weights.h5`, `.h5`, `.keras`), or a `keras.Model`.

    Raises:
        FileNotFoundError: If there is no such file.
        OSError: If the ImageNet weights cannot be downloaded.
        ValueError: If the source does not fit; it lists every layer with both shapes, and the
            model is untouched.
    """
    if isinstance(source, keras.Model):
        arrays, name = _arrays_of(source), f"Model {source.name!r}"
    elif source == "imagenet":
        arrays, name = _arrays_of(_imagenet_vgg16(model)), "VGG-16 of keras.applications"
    else:
        arrays, name = read_keras_file(source), str(source)
    if "score_fr" in {layer for layer, _ in arrays}:
        _port_fcn(model, arrays, name)
    else:
        _port_vgg16(model, arrays, name)


def _arrays_of(model):
    return {
        (layer.name, variable.name): keras.ops.convert_to_numpy(variable)
        for layer in model.layers
        for variable in layer.weights
        if variable.name in ("kernel", "bias")
    }


def _imagenet_vgg16(model):
    include_top = _takes_classifier(model)
    try:
        return keras.applications.VGG16(include_top=include_top, weights="imagenet")
    except Exception as error:  # What Keras raises for a failed download is nothing more specific.
        raise OSError(
            f"VGG-16 of keras.applications could not be downloaded: {error}. Pass the path of its "
            "file as `weights`, or weights=None to start from random values."
        ) from error


def _takes_classifier(model):
    return tuple(model.get_layer("fc6").kernel.shape) == (7, 7, 512, 4096)


def _port_vgg16(model, arrays, name):
    arrays = {key: array for key, array in arrays.items() if key[0] != "predictions"}
    kept = {layer.name for layer in model.layers} - _VGG16_LAYERS
    if _takes_classifier(model) and ("fc1", "kernel") in arrays:
        for old, new in _CLASSIFIER.items():
            kernel = model.get_layer(new).kernel
            arrays[new, "kernel"] = arrays.pop((old, "kernel")).reshape(kernel.shape)
            arrays[new, "bias"] = arrays.pop((old, "bias"))
        kept -= {"fc6", "fc7"}
    else:
        arrays = {key: array for key, array in arrays.items() if key[0] not in _CLASSIFIER}
    port(model, arrays, source=name, kept=kept)
    if "fc6" in kept:
        warnings.warn(
            f"fc6 and fc7 stay random: {name} has no classifier, or fc_units is not 4096 or "
            "fc6_kernel_size not 7. The model trains, but reaches lower scores.",
            stacklevel=4,
        )


def _port_fcn(model, arrays, name):
    sources = {layer for layer, _ in arrays}
    # Each size ends in an upsampling of its own and adds a score; the rest is common.
    new = {
        layer.name
        for layer in model.layers
        if layer.name not in sources and layer.name.startswith(("upscore", "score_pool"))
    }
    layers = {layer.name for layer in model.layers}
    coarser = bool({"score_pool4", "score_pool3"} & new)
    if coarser:
        arrays = {
            key: array
            for key, array in arrays.items()
            if key[0] in layers or not key[0].startswith("upscore")
        }
    port(model, arrays, source=name, kept=new if coarser else ())
