"""Reads the arrays of Keras's own weight files by layer, without building their model."""

import contextlib
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import h5py

from keras_fcn.weights.entries import Entries, Entry, damaged_file

_VARIABLE_NAMES = ("kernel", "bias")
# Keras stores the weights of a `.keras` file unpacked; a packed size far below the true one is
# somebody else's doing.
_MAX_EXPANSION = 20


@contextlib.contextmanager
def open_keras_file(path: str | os.PathLike) -> Iterator[Entries]:
    """Yields the entries of a Keras file.

    Args:
        path: A `.weights.h5` or `.keras` file of Keras 3, or an `.h5` file of an earlier Keras.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is none of these, or damaged.
    """
    with contextlib.ExitStack() as stack:
        with damaged_file(
            path,
            "Keras file (.weights.h5, .h5 or .keras)",
            *(OSError, KeyError, RuntimeError, ValueError, zipfile.BadZipFile),
        ):
            file = stack.enter_context(_open_hdf5(Path(path)))
            read = _read_keras3 if "layers" in file else _read_legacy
            entries = {
                (layer, name): Entry(tuple(dataset.shape), lambda dataset=dataset: dataset[...])
                for layer, datasets in read(file)
                for name, dataset in zip(_VARIABLE_NAMES, datasets, strict=False)
            }
        yield entries


@contextlib.contextmanager
def _open_hdf5(path):
    with contextlib.ExitStack() as stack:
        file = path
        if path.suffix == ".keras":
            archive = stack.enter_context(zipfile.ZipFile(path))
            size = archive.getinfo("model.weights.h5").file_size
            if size > _MAX_EXPANSION * path.stat().st_size:
                raise ValueError(f"model.weights.h5 claims {size} bytes")
            file = stack.enter_context(archive.open("model.weights.h5"))
        yield stack.enter_context(h5py.File(file, "r"))


def _read_keras3(file):
    for group in file["layers"].values():
        variables = group.get("vars", {})
        if len(variables):
            yield variables.attrs["name"], [variables[key] for key in sorted(variables, key=int)]


def _read_legacy(file):
    file = file.get("model_weights", file)
    for layer in file.attrs["layer_names"]:
        group = file[layer]
        names = group.attrs["weight_names"]
        if len(names):
            yield _text(layer), [group[name] for name in names]


def _text(name):
    return name.decode() if isinstance(name, bytes) else str(name)
