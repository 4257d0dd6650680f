"""Contents of a weight file; the shapes of its arrays are known before their values are read."""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

_FLOAT32 = np.dtype("float32")


@dataclasses.dataclass(frozen=True)
class Entry:
    """An array in a file, read on demand.

    Shapes are compared with the model before values are read, so that neither a wrong nor a
    malicious file can allocate more memory than the model has.

    Args:
        shape: Shape of the array.
        read: Function without arguments that reads the NumPy array.
        dtype: NumPy dtype of the array.
    """

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]
    dtype: np.dtype = _FLOAT32

    def map(self, function: Callable[[np.ndarray], np.ndarray], shape: tuple[int, ...]) -> "Entry":
        """Returns the entry of `function(array)`, whose shape is `shape`."""
        return Entry(shape, lambda: function(self.read()), self.dtype)


Entries = dict[tuple[str, str], Entry]
"""Dictionary from (layer name, `"kernel"` or `"bias"`) to its `Entry`."""


@dataclasses.dataclass(frozen=True)
class Contents:
    """Contents of a weight file or model: its arrays, and the metadata that it defines.

    Args:
        entries: The arrays.
        skip_scales: Dictionary from `"pool4"` and `"pool3"` to the scale of the skip. Caffe scales
            each channel; more than one value means that the scales of the channels differ.
        mean: Mean (blue, green, red), or of each channel, that the network subtracts from images,
            if defined.
        geometry: `padding` and `input_upsampling` of the FCN, if defined: no array depends on them,
            and every prediction does.
    """

    entries: Entries
    skip_scales: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    mean: tuple[float, ...] | None = None
    geometry: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def by_name(named_entries: Iterable[tuple[tuple[str, str], Entry]]) -> Entries:
    """Returns a dictionary of entries.

    Raises:
        ValueError: If two have the same name.
    """
    entries = {}
    for key, entry in named_entries:
        if key in entries:
            raise ValueError(f"it holds {'/'.join(key)} twice")
        entries[key] = entry
    return entries


@contextlib.contextmanager
def damaged_file(path: str | os.PathLike, format_name: str) -> Iterator[None]:
    """Turns every error of the block into a `ValueError` that names the file and its format.

    Libraries raise errors of any class for damaged files.

    Args:
        path: The file.
        format_name: Format that the file should have.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"`weights` must be an existing file. Received: {path}.")
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"`weights` must be a whole {format_name}. Received: {path} ({reason})."
        ) from error
