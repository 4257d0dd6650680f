"""What a prediction in tiles is written to: arrays and files."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_fcn.inference.rasters import import_rasterio, write_geotiff
from keras_fcn.inference.unfinished import UnfinishedArray
from keras_fcn.io.atomic import atomic_write
from keras_fcn.label_spaces import LabelSpace
from keras_fcn.visualization import save_label_map

_GEOTIFF = (".tif", ".tiff")
_SUFFIXES = {2: (*_GEOTIFF, ".png", ".npy"), 3: (*_GEOTIFF, ".npy")}


class Sink:
    """What takes the predictions of windows."""

    finished: set[int]
    """Numbers of the windows that it has."""

    features: Path | None = None
    """Folder for what the windows are computed from, kept until the result is finished."""

    def write(self, number: int, rows: slice, columns: slice, values: np.ndarray) -> None:
        """Takes the kept part of window `number`."""
        raise NotImplementedError

    def close(self) -> None:
        """Finishes the result when all windows are there."""

    def fail(self, *, can_continue: bool) -> None:
        """Removes what no later call continues; `can_continue` is whether windows would help it."""


def open_sink(
    argument: str,
    sink: Any,
    shape: tuple[int, ...],
    label_space: LabelSpace,
    georeference: Mapping[str, Any],
    description: Callable[[], Mapping[str, Any]],
) -> Sink:
    """Returns the sink of a path or an array, see `predict_tiles`.

    Args:
        argument: What `predict_tiles` calls the sink.
        sink: The path or array.
        shape: (height, width) of a label map, or (height, width, num_classes) of probabilities.
        label_space: `LabelSpace` of the classes.
        georeference: See `write_geotiff`.
        description: Function that returns what the values depend on, see `UnfinishedArray`.

    Raises:
        FileNotFoundError: If there is no folder for the file.
        ImportError: If a path needs rasterio and that is not installed.
        OSError: As `UnfinishedArray`.
        ValueError: If the array or the suffix of the path does not fit.
    """
    if not isinstance(sink, (str, os.PathLike)):
        return _ArraySink(sink, shape, label_space.num_classes, argument)
    path = Path(sink)
    if path.suffix.lower() not in _SUFFIXES[len(shape)]:
        raise ValueError(
            f"`{argument}` must end in {', '.join(_SUFFIXES[len(shape)])} for this output. "
            f"Received: {argument}={sink!r}."
        )
    if not path.parent.is_dir():
        raise FileNotFoundError(f"`{argument}` must lie in an existing folder. Received: {path}.")
    if path.suffix.lower() in _GEOTIFF:
        import_rasterio()
    dtype = "float32"
    if len(shape) == 2:
        dtype = "uint8" if label_space.num_classes <= 256 else "uint16"
    unfinished = UnfinishedArray(path, shape, dtype, description())
    return _FileSink(path, unfinished, label_space, georeference)


class _ArraySink(Sink):
    """An array of the caller, which does not show what an earlier call has finished."""

    def __init__(self, array: Any, shape: tuple[int, ...], num_classes: int, argument: str):
        found, dtype = getattr(array, "shape", None), np.dtype(getattr(array, "dtype", "V"))
        if found is None or tuple(found) != shape:
            raise ValueError(
                f"`{argument}` must be a path, or an array of shape {shape}. Received: a "
                f"{type(array).__name__} of shape {found}."
            )
        holds_ids = dtype.kind in "iu" and np.iinfo(dtype).max >= num_classes - 1
        if not (holds_ids if len(shape) == 2 else dtype.kind == "f"):
            values = f"the ids of {num_classes} classes" if len(shape) == 2 else "probabilities"
            raise ValueError(
                f"`{argument}` must have a dtype that holds {values}. Received: {dtype}."
            )
        self._array = array
        self.finished = set()

    def write(self, number, rows, columns, values):
        self._array[rows, columns] = values
        self.finished.add(number)


class _FileSink(Sink):
    """A file that is written to an `UnfinishedArray` first."""

    def __init__(
        self,
        path: Path,
        unfinished: UnfinishedArray,
        label_space: LabelSpace,
        georeference: Mapping[str, Any],
    ):
        self._path, self._unfinished = path, unfinished
        self._label_space, self._georeference = label_space, georeference
        self.finished, self.features = unfinished.finished, unfinished.features

    def write(self, number, rows, columns, values):
        self._unfinished.write(number, rows, columns, values)

    def close(self):
        with atomic_write(self._path) as temporary:
            self._save(temporary)
        self._unfinished.remove()

    def fail(self, *, can_continue):
        if not (can_continue and self._unfinished.has_parts()):
            self._unfinished.remove()

    def _save(self, path):
        array = self._unfinished
        if path.suffix.lower() == ".npy":
            os.replace(array.file, path)
        elif path.suffix.lower() == ".png":
            save_label_map(path, array.read(slice(None)), self._label_space)
        else:
            write_geotiff(
                path, array, georeference=self._georeference, label_space=self._label_space
            )
