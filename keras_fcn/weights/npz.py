"""Reads the `.npz` copies of the authors' models: arrays named `conv1_1/W`, `conv1_1/b`, ..."""

import contextlib
import os
import zipfile
from collections.abc import Iterator

import numpy as np

from keras_fcn.weights.entries import Contents, Entry, by_name, damaged_file

_VARIABLE_NAMES = {"W": "kernel", "b": "bias"}
_MAX_ARRAYS = 10_000
_MAX_HEADER_BYTES = 10_000


@contextlib.contextmanager
def open_npz(path: str | os.PathLike) -> Iterator[Contents]:
    """Yields the contents of an `.npz` file, by the paper's layer names, in PyTorch's layout.

    Only the headers of the arrays are read at first; nothing is unpickled.

    Args:
        path: A file published by wkentaro/fcn.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no such file, or damaged.
    """
    with contextlib.ExitStack() as stack:
        with damaged_file(path, ".npz file of wkentaro/fcn"):
            archive = stack.enter_context(zipfile.ZipFile(path))
            members = archive.namelist()
            if len(members) > _MAX_ARRAYS:
                raise ValueError(f"it holds {len(members)} arrays")
            entries = by_name(_entry(archive, member) for member in members)
        yield Contents(entries)


def _entry(archive, member):
    layer, _, variable = member.removesuffix(".npy").rpartition("/")
    shape, dtype = _header(archive, member)
    if dtype.hasobject:
        raise ValueError(f"{member} holds Python objects")

    def read():
        with archive.open(member) as file:
            return np.lib.format.read_array(file, allow_pickle=False)

    return (layer, _VARIABLE_NAMES.get(variable, variable)), Entry(shape, read, dtype)


def _header(archive, member):
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        size = int.from_bytes(file.read(2 if version == (1, 0) else 4), "little")
    if size > _MAX_HEADER_BYTES:
        raise ValueError(f"{member} has a header of {size} bytes")
    with archive.open(member) as file:
        np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        else:
            shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    return shape, dtype
