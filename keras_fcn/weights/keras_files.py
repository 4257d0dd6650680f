"""Reads the arrays of Keras's weight files by layer, without building their model."""

import contextlib
import itertools
import json
import math
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import h5py

from keras_fcn.spec import SKIPS
from keras_fcn.weights.entries import Contents, Entry, by_name, damaged_file
from keras_fcn.weights.port import numbered

_VARIABLE_NAMES = ("kernel", "bias")
_MAX_LAYERS = 10_000
_MAX_DEPTH = 10
# Keras stores the weights of a `.keras` file uncompressed. A compressed size far below the
# uncompressed one indicates a malicious file.
_MAX_EXPANSION = 20


@contextlib.contextmanager
def open_keras_file(path: str | os.PathLike) -> Iterator[Contents]:
    """Yields the contents of a Keras file.

    Args:
        path: A `.weights.h5` or `.keras` file of Keras 3, or an `.h5` file of an earlier Keras.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is none of these, or damaged.
    """
    with contextlib.ExitStack() as stack:
        with damaged_file(path, "Keras file (.weights.h5, .h5 or .keras)"):
            path = Path(path)
            is_archive = path.name.lower().endswith(".keras")
            archive = stack.enter_context(zipfile.ZipFile(path)) if is_archive else None
            file = path if archive is None else stack.enter_context(_weights_of(archive, path))
            file = stack.enter_context(h5py.File(file, "r"))
            read_layers = _read_keras3 if "layers" in file else _read_legacy
            entries = by_name(
                ((layer, _variable_name(layer, index)), _entry(dataset))
                for layer, datasets in read_layers(file)
                for index, dataset in enumerate(datasets)
            )
            config = archive.read("config.json") if archive else file.attrs.get("model_config")
            metadata = {} if config is None else _metadata(json.loads(config).get("config", {}))
        yield Contents(entries, **metadata)


def _weights_of(archive, path):
    size = archive.getinfo("model.weights.h5").file_size
    if size > _MAX_EXPANSION * path.stat().st_size:
        raise ValueError(f"model.weights.h5 claims {size} bytes")
    return archive.open("model.weights.h5")


def _metadata(config):
    """Returns the `Contents` other than arrays from the configuration of an FCN."""
    if "skip_scales" not in config:
        return {}
    scales = zip(SKIPS, config["skip_scales"], strict=True)
    mean = None
    if config["include_preprocessing"]:
        mean = tuple(map(float, config["mean"]))
    geometry = {
        "padding": config.get("padding"),
        "input_upsampling": config.get("input_upsampling", 1),
    }
    return {
        "skip_scales": {pool: (float(scale),) for pool, scale in scales},
        "mean": mean,
        "geometry": {} if "backbone" in config else geometry,
    }


def _variable_name(layer, index):
    is_known = "/" not in layer and index < len(_VARIABLE_NAMES)
    return _VARIABLE_NAMES[index] if is_known else numbered(index)


def _entry(dataset):
    shape = tuple(dataset.shape)
    # Keras writes neither external values nor chunks much larger than the array.
    if dataset.external or dataset.is_virtual:
        raise ValueError(f"{dataset.name} keeps its values in another file")
    if dataset.chunks and math.prod(dataset.chunks) > 2 * math.prod(shape) + 1024:
        raise ValueError(f"{dataset.name} has chunks of {dataset.chunks}")
    if dataset.attrs.get("dtype") == "bfloat16":
        return Entry(shape, lambda: _from_bfloat16(dataset[...]))
    return Entry(shape, lambda: dataset[...], dataset.dtype)


def _from_bfloat16(values):
    """Converts bfloat16, the upper 16 bits of float32, which HDF5 stores as untyped bytes."""
    return (values.view("<u2").astype("uint32") << 16).view("float32")


def _read_keras3(file, prefix="", depth=0):
    if depth > _MAX_DEPTH:
        raise ValueError(f"it holds models inside models, more than {_MAX_DEPTH} levels deep")
    layers = _child(file, "layers")
    if len(layers) > _MAX_LAYERS:
        raise ValueError(f"it holds {len(layers)} layers")
    for name in layers:
        layer = _child(layers, name)
        variables = _child(layer, "vars") if "vars" in layer else {}
        if len(variables):
            datasets = [_child(variables, key) for key in sorted(variables, key=int)]
            yield prefix + variables.attrs["name"], datasets
        elif "layers" in layer and "name" in getattr(variables, "attrs", {}):  # A model inside.
            yield from _read_keras3(layer, f"{prefix}{variables.attrs['name']}/", depth + 1)


def _read_legacy(file):
    file = _child(file, "model_weights") if "model_weights" in file else file
    for layer in _names_in(file, "layer_names"):
        group = _child(file, layer)
        names = _names_in(group, "weight_names")
        owners = dict.fromkeys(name.rpartition("/")[0] for name in names)
        if len(owners) == 1 or any("/" in owner for owner in owners):
            yield layer, [_child(group, name) for name in names]
            continue
        for owner in owners:  # The layers of a model inside.
            own = [name for name in names if name.rpartition("/")[0] == owner]
            yield f"{layer}/{owner}", [_child(group, name) for name in own]


def _names_in(group, attribute):
    """Returns a list of names, which Keras divides among several attributes if it is long."""
    if attribute in group.attrs:
        return [_text(name) for name in group.attrs[attribute]]
    parts = itertools.takewhile(
        lambda part: part in group.attrs, (f"{attribute}{number}" for number in itertools.count())
    )
    names = [_text(name) for part in parts for name in group.attrs[part]]
    if not names:
        raise ValueError(f"{group.name} has no {attribute}")
    return names


def _child(group, path):
    """Returns a member of a group without following links, which could lead into other files."""
    for name in _text(path).split("/"):
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{name!r} must be in {group.name}, and no link")
        group = group[name]
    return group


def _text(name):
    return name.decode() if isinstance(name, bytes) else str(name)
