"""One array of a weight file, whose shape is known before its values are read."""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

_FLOAT32 = np.dtype("float32")


@dataclasses.dataclass(frozen=True)
class Entry:
    """An array that waits in its file.

    Shapes are compared with the model before anything is read, so that neither a wrong nor a
    hostile file can ask for more memory than the model has.

    Args:
        shape: Shape of the array.
        read: Function without arguments that returns the NumPy array.
        dtype: NumPy dtype of the array.
    """

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]
    dtype: np.dtype = _FLOAT32

    def map(self, function: Callable[[np.ndarray], np.ndarray], shape: tuple[int, ...]) -> "Entry":
        """Returns the entry of `function(array)`, whose shape is `shape`."""
        return Entry(shape, lambda: function(self.read()), self.dtype)


Entries = dict[tuple[str, str], Entry]
"""Dictionary from (layer name, `"kernel"` or `"bias"`) to its `Entry`.

What a source knows beside its weights stands there too: the factors of its skips as `scale_pool4`
and `scale_pool3`, and the mean that it subtracts as ("preprocessing", "mean").
"""


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


def constant(*values: float) -> Entry:
    """Returns the entry of a vector that is known already."""
    return Entry((len(values),), lambda: np.array(values, "float32"))


@contextlib.contextmanager
def damaged_file(path: str | os.PathLike, format_name: str) -> Iterator[None]:
    """Turns every error of the block into a `ValueError` that says which file is no such file.

    Libraries raise errors of every class for bytes that somebody has damaged.

    Args:
        path: The file.
        format_name: What the file should be.
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
