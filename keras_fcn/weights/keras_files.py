"""Reads the arrays of Keras's own weight files by layer, without building their model."""

import contextlib
import os
import zipfile
from pathlib import Path

import h5py
import numpy as np

_VARIABLE_NAMES = ("kernel", "bias")


def read_keras_file(path: str | os.PathLike) -> dict[tuple[str, str], np.ndarray]:
    """Returns the arrays of a Keras file.

    Args:
        path: A `.weights.h5` or `.keras` file of Keras 3, or an `.h5` file of an earlier Keras.

    Returns:
        Dictionary from (layer name, `"kernel"` or `"bias"`) to a NumPy array.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is none of these, or damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"`weights` must be an existing file. Received: {path}.")
    try:
        with _open_hdf5(path) as file:
            read = _read_keras3 if "layers" in file else _read_legacy
            return {
                (layer, name): np.asarray(array)
                for layer, arrays in read(file)
                for name, array in zip(_VARIABLE_NAMES, arrays, strict=False)
            }
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(
            "`weights` must be a Keras file, whole: .weights.h5, .h5 or .keras. "
            f"Received: {path} ({error})."
        ) from error


@contextlib.contextmanager
def _open_hdf5(path):
    with contextlib.ExitStack() as stack:
        file = path
        if path.suffix == ".keras":
            archive = stack.enter_context(zipfile.ZipFile(path))
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
