"""One array of a weight file, whose shape is known before its values are read."""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np


@dataclasses.dataclass(frozen=True)
class Entry:
    """An array that waits in its file.

    Shapes are compared with the model before anything is read, so that neither a wrong nor a
    hostile file can ask for more memory than the model has.

    Args:
        shape: Shape of the array.
        read: Function without arguments that returns the NumPy array.
    """

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]

    def map(self, function: Callable[[np.ndarray], np.ndarray], shape: tuple[int, ...]) -> "Entry":
        """Returns the entry of `function(array)`, whose shape is `shape`."""
        return Entry(shape, lambda: function(self.read()))


Entries = dict[tuple[str, str], Entry]
"""Dictionary from (layer name, `"kernel"` or `"bias"`) to its `Entry`."""


@contextlib.contextmanager
def damaged_file(path: str | os.PathLike, format_name: str, *errors: type) -> Iterator[None]:
    """Turns `errors` of the block into a `ValueError` that says which file is not what it should.

    Args:
        path: The file.
        format_name: What the file should be.
        errors: Classes of what its library raises for anything else.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"`weights` must be an existing file. Received: {path}.")
    try:
        yield
    except errors as error:
        raise ValueError(
            f"`weights` must be a whole {format_name}. Received: {path} ({error})."
        ) from error
