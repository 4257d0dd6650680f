"""Opens weight files of every format; the suffix sets the format."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

from keras_fcn.io import hub
from keras_fcn.spelling import proposal
from keras_fcn.weights.caffe import open_caffemodel
from keras_fcn.weights.entries import Contents
from keras_fcn.weights.keras_files import open_keras_file
from keras_fcn.weights.npz import open_npz
from keras_fcn.weights.paper_names import from_paper
from keras_fcn.weights.published import published_names
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
