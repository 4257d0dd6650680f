"""An array that is written to a file part by part, over several runs of a program if need be."""

import json
import os
import shutil
import warnings
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

try:
    import fcntl
except ImportError:  # Windows has no such locks.
    fcntl = None  # type: ignore[assignment]

_ARRAY, _FINISHED, _LOCK = "array.npy", "finished.txt", "lock"
_FEATURES = "features"


class UnfinishedArray:
    """An array of which rows and columns are written one part after the other.

    It lies in the folder `PATH.unfinished` next to `path`: the array as an .npy file, and a text
    file whose first line describes how the array is made and whose other lines are the numbers of
    the parts that are on the disk. A folder of the same description is continued; another one is
    replaced, with a warning.

    Args:
        path: The file that the array is for. Its parent folder must exist.
        shape: (height, width), or (height, width, channels).
        dtype: dtype of the array.
        description: What the values depend on, as JSON values.

    Raises:
        OSError: If the disk has too little free space, the folder cannot be written, or another
            process writes it.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        shape: tuple[int, ...],
        dtype: np.dtype | str,
        description: Mapping[str, Any],
    ):
        path = Path(path)
        self.folder = path.with_name(f"{path.name}.unfinished")
        self.shape, self.dtype = shape, np.dtype(dtype)
        self._description = json.dumps({**description, "shape": shape, "dtype": self.dtype.str})
        self.folder.mkdir(exist_ok=True)
        lock = self._locked()
        # The lock ends with this object, or with the process.
        self._release = weakref.finalize(self, lock.close)
        self.finished = self._read_finished()
        if self.finished is None:
            self.finished = self._begin()

    @property
    def file(self) -> Path:
        """The .npy file."""
        return self.folder / _ARRAY

    @property
    def features(self) -> Path:
        """Folder for what the array is computed from, which is removed with it."""
        return self.folder / _FEATURES

    def write(self, number: int, rows: slice, columns: slice, values: np.ndarray) -> None:
        """Writes a part and records it as finished.

        Args:
            number: The part's number.
            rows: Its rows.
            columns: Its columns.
            values: The part.
        """
        values = np.ascontiguousarray(values, self.dtype)
        pixel = values[0, 0].nbytes
        # Not by a memory map: a full disk would kill the process instead of raising an OSError.
        with self.file.open("r+b") as file:
            for row, line in zip(range(rows.start, rows.stop), values, strict=True):
                file.seek(self._offset + (row * self.shape[1] + columns.start) * pixel)
                file.write(line.data)
            file.flush()
            os.fsync(file.fileno())
        with (self.folder / _FINISHED).open("a") as file:
            file.write(f"{number}\n")
            file.flush()
            os.fsync(file.fileno())
        self.finished.add(number)

    def read(self, rows: slice, columns: slice = slice(None)) -> np.ndarray:
        """Returns a copy of some rows and columns."""
        # A map of its own each time, so that what was read does not stay in memory.
        return np.array(np.load(self.file, mmap_mode="r")[rows, columns])

    def has_parts(self) -> bool:
        """Returns whether a part of it, or of what it is computed from, is on the disk."""
        return any(file.read_text().count("\n") > 1 for file in self.folder.rglob(_FINISHED))

    def remove(self) -> None:
        """Removes the folder."""
        self._release()
        shutil.rmtree(self.folder)

    def _locked(self):
        """Returns an open file with a lock against other processes."""
        file = (self.folder / _LOCK).open("a")
        if fcntl is not None:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                raise OSError(
                    f"{self.folder} must be written by one process. Received: another one writes "
                    "it now. Wait for its end, or name another file."
                ) from None
        return file

    def _read_finished(self):
        """Returns the numbers of the finished parts, or `None` if there is nothing to continue."""
        try:
            text = (self.folder / _FINISHED).read_text()
            self._offset = np.load(self.file, mmap_mode="r").offset
        except FileNotFoundError:
            return None
        # A line that was being written when the process ended has no end.
        first, *lines = text.split("\n")[:-1] or [""]
        if first != self._description:
            warnings.warn(
                f"{self.folder} is of another image, model or setting, and is replaced.",
                stacklevel=4,
            )
            return None
        return set(map(int, lines))

    def _begin(self):
        (self.folder / _FINISHED).unlink(missing_ok=True)
        (self.folder / _ARRAY).unlink(missing_ok=True)
        shutil.rmtree(self.folder / _FEATURES, ignore_errors=True)
        needed = self.dtype.itemsize * int(np.prod(self.shape, dtype="int64"))
        free = shutil.disk_usage(self.folder.parent).free
        if needed > free:
            self.remove()
            raise OSError(
                f"{self.folder.parent} must have {needed / 2**30:.1f} GiB of free disk space. "
                f"Received: {free / 2**30:.1f} GiB."
            )
        array = np.lib.format.open_memmap(self.file, "w+", self.dtype, self.shape)
        self._offset = array.offset
        del array
        (self.folder / _FINISHED).write_text(f"{self._description}\n")
        return set()
