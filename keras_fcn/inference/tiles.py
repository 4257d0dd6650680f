"""Predicts an image of any size in bounded memory, exactly as if it were predicted at once."""

import hashlib
import json
import numbers
import os
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_fcn.inference.prediction import Prediction, image_layout, predict
from keras_fcn.inference.sinks import open_sink
from keras_fcn.inference.sources import open_source
from keras_fcn.inference.windows import windows
from keras_fcn.label_spaces import LabelSpace, generic
from keras_fcn.models.base import BaseFCN
from keras_fcn.models.prediction_memory import check_prediction_memory
from keras_fcn.version import __version__


def predict_tiles(
    model: keras.Model,
    source: Any,
    sink: Any,
    *,
    tile: int = 1536,
    output: str = "labels",
    label_space: LabelSpace | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Predicts an image of any size in overlapping windows (tiling, sliding window), exactly.

    The label map equals that of the whole image wherever the two largest logits differ by more than
    rounding: see `keras_fcn.inference.windows.windows`. All windows have one size, for which JAX
    compiles one program. Memory depends on `tile` and not on the image.

    A sink that is a path is written to a folder `PATH.unfinished` window by window and is renamed
    when it is whole. If the process ends earlier, the same call continues after the last finished
    window.

    Args:
        model: As in `predict`: a network whose receptive field is bounded.
        source: RGB in [0, 255], (height, width, channels): an array, or anything with `shape` and
            slices, such as `numpy.memmap`, an h5py data set or a zarr array; or the path of an
            image file. PNG, JPEG, WebP and BMP are decoded as a whole. Other files (GeoTIFF,
            BigTIFF, COG, JPEG 2000) are read in windows by rasterio.
        sink: What slices of the result are assigned to: an array of shape (height, width) whose
            integers hold the class ids, or (height, width, num_classes) for probabilities; or the
            path of a file to write. `.tif` is a GeoTIFF of unsigned integers of 8 bits, or 16 for
            more than 256 classes, with the colours of the label space and the coordinate reference
            system and transform of `source`; `.png` is a palette PNG, and needs the memory of the
            label map; `.npy` is an array.
        tile: Largest height and width of a window in pixels, halo included. It determines memory:
            see the guide "Precision and memory".
        output: `"labels"` for class ids, or `"probabilities"` for float32.
        label_space: `LabelSpace` with the colours; `None` for that of the model.
        progress: Called with the number of finished windows and that of all windows, at the start
            and after each window.

    Raises:
        FileNotFoundError: If `source` is a path and there is no such file.
        ImportError: If a path needs rasterio and it is not installed.
        OSError: If the disk has too little free space.
        ValueError: If the receptive field of `model` is unbounded, `tile` is too small for it,
            `sink` does not fit, or `source` cannot be read; or, on CPUs, if a window needs more
            memory than is free.

    Examples:
        >>> image = np.zeros((600, 40, 3), "uint8")
        >>> label_map = np.empty((600, 40), "uint8")
        >>> predict_tiles(FCN8s(2, filters=[4] * 5, fc_units=4), image, label_map, tile=544)
        >>> np.unique(label_map).tolist()
        [0]
    """
    if output not in ("labels", "probabilities"):
        raise ValueError(f"`output` must be 'labels' or 'probabilities'. Received: {output=}.")
    if _is_file(source) and _is_file(sink) and os.path.samefile(source, sink):
        raise ValueError(f"`sink` must be another file than `source`. Received: {sink=}.")
    if not isinstance(tile, numbers.Integral) or tile < 1:
        raise ValueError(f"`tile` must be an integer of at least 1. Received: {tile=}.")
    class_axis = 1 if image_layout(model) == "channels_first" else -1
    channels, num_classes = model.input_shape[class_axis], model.output_shape[class_axis]
    with open_source(source, channels) as image:
        parts = windows(model, image.shape[:2], tile)
        check_prediction_memory(model, parts[0].rows.stop, parts[0].columns.stop)
        target = open_sink(
            sink,
            image.shape[:2] if output == "labels" else (*image.shape[:2], num_classes),
            label_space or getattr(model, "label_space", None) or generic(num_classes),
            image.georeference,
            lambda: _description(model, image, parts),
        )
        tell = progress or (lambda done, total: None)
        tell(len(target.finished), len(parts))
        for number, window in enumerate(parts):
            if number in target.finished:
                continue
            values = _predict_window(model, image, window, output)
            target.write(number, window.kept_rows, window.kept_columns, values)
            tell(len(target.finished), len(parts))
        target.close()


def _description(model, image, parts):
    """Returns what the values in an unfinished file depend on."""
    return {
        "image": image.description(),
        "model": _digest_of_model(model),
        "windows": [len(parts), parts[0].rows.stop, parts[0].columns.stop],
        "version": __version__,
    }


def _is_file(place):
    return isinstance(place, (str, os.PathLike)) and os.path.isfile(place)


def _predict_window(model, image, window, output):
    prediction = predict(model, image.read(window.rows, window.columns))
    kept = Prediction(prediction.scores[window.kept], prediction.is_logits)
    return kept.label_map if output == "labels" else kept.probabilities


def _digest_of_model(model):
    """Returns a text that differs for a model of other weights or settings."""
    digest = hashlib.blake2b(digest_size=16)
    if isinstance(model, BaseFCN):
        # Of other models, the names of layers may differ from process to process.
        digest.update(json.dumps(model.get_config(), sort_keys=True, default=str).encode())
    for weight in model.weights:
        values = np.ascontiguousarray(ops.convert_to_numpy(weight))
        digest.update(f"{values.shape} {values.dtype}".encode())
        digest.update(values.reshape(-1).view("uint8"))
    return digest.hexdigest()
