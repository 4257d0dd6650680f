"""Predicts an image of any size in bounded memory, exactly as if it were predicted at once."""

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import json
import numbers
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_fcn.arguments import wrong
from keras_fcn.inference.checks import image_layout
from keras_fcn.inference.prediction import Prediction, predict_called
from keras_fcn.inference.rasters import DamagedImageError
from keras_fcn.inference.sinks import Sink, open_sink
from keras_fcn.inference.sources import Source, open_source
from keras_fcn.inference.staged import StagedNetwork
from keras_fcn.inference.windows import Window, windows
from keras_fcn.label_spaces import LabelSpace, generic
from keras_fcn.label_spaces.label_space import check_label_space
from keras_fcn.models.base import BaseFCN
from keras_fcn.models.prediction_memory import check_prediction_memory
from keras_fcn.models.split import split
from keras_fcn.version import __version__


def predict_tiles(
    model: keras.Model,
    source: Any,
    sink: Any = None,
    *,
    probabilities: Any = None,
    tile: int = 1536,
    label_space: LabelSpace | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Predicts an image of any size in overlapping windows (tiling, sliding window), exactly.

    The label map equals that of the whole image wherever the two largest logits differ by more than
    rounding: see `keras_fcn.inference.windows.windows`. An FCN is predicted stage by stage: the
    trunk, then fc6, fc7 and their scores, then the decoder, each in windows of its own. All windows
    of a stage have one size, for which JAX compiles one program. Memory depends on `tile` and not
    on the image.

    A sink that is a path is written to a folder `PATH.unfinished` window by window and is renamed
    when it is whole. If the process ends earlier, the same call continues after the last finished
    window. The folder is removed if no window is finished, or the image is damaged.

    Args:
        model: As in `predict`: a network whose receptive field is bounded.
        source: RGB in [0, 255], (height, width, channels): an array, or anything with `shape` and
            slices, such as `numpy.memmap`, an h5py data set or a zarr array; or the path of an
            image file. PNG, JPEG, WebP and BMP are decoded as a whole. Other files (GeoTIFF,
            BigTIFF, COG, JPEG 2000) are read in windows by rasterio.
        sink: What slices of the label map are assigned to: an array of shape (height, width) whose
            integers hold the class ids; or the path of a file to write. `.tif` is a GeoTIFF of
            unsigned integers of 8 bits, or 16 for more than 256 classes, with the colours of the
            label space and the coordinate reference system and transform of `source`; `.png` is a
            palette PNG, and needs the memory of the label map; `.npy` is an array. `None` for no
            label map.
        probabilities: The same for the class probabilities: an array of floating-point numbers of
            shape (height, width, num_classes), or the path of a `.tif` with one band of float32 per
            class or of an `.npy`; `None` for none.
        tile: Largest height and width of a window in pixels, halo included. It determines memory:
            see the guide "Precision and memory".
        label_space: `LabelSpace` with the colours; `None` for that of the model.
        progress: Called with the number of finished windows and that of all windows, at the start
            and after each window.

    Raises:
        FileNotFoundError: If `source` is a path and there is no such file, or there is no folder
            for a file to write.
        ImportError: If a path needs rasterio and it is not installed.
        OSError: If the disk has too little free space.
        ValueError: If the receptive field of `model` is unbounded, `tile` is too small for it,
            a sink does not fit, both are `None` or one file, or `source` cannot be read or holds
            values that are no finite numbers; or, on CPUs, if a window needs more memory than is
            free.

    Examples:
        >>> image = np.zeros((600, 40, 3), "uint8")
        >>> label_map = np.empty((600, 40), "uint8")
        >>> predict_tiles(FCN8s(2, filters=[4] * 5, fc_units=4), image, label_map, tile=544)
        >>> np.unique(label_map).tolist()
        [0]
    """
    outputs = {"label_map": sink, "probabilities": probabilities}
    outputs = {name: place for name, place in outputs.items() if place is not None}
    _check_arguments(model, source, outputs, tile)
    tile = int(tile)  # NumPy's integers are written into no JSON.
    class_axis = 1 if image_layout(model) == "channels_first" else -1
    channels, num_classes = model.input_shape[class_axis], model.output_shape[class_axis]
    if label_space is None:
        label_space = getattr(model, "label_space", None) or generic(num_classes)
    check_label_space(label_space)
    if label_space.num_classes < (num_classes or 0):
        rule = f"a label space of the model's {num_classes} classes"
        raise wrong("label_space", rule, label_space)
    with open_source(source, channels) as image:
        network = _network(model, image, tile)
        first = (*network.stages, network.windows)[0][0]
        check_prediction_memory(model, first.rows.stop, first.columns.stop)
        describe = functools.cache(lambda: _description(model, image, network))
        shapes = {"label_map": image.shape[:2], "probabilities": (*image.shape[:2], num_classes)}
        sinks: dict[str, Sink] = {}
        try:
            for name, place in outputs.items():
                argument = "sink" if name == "label_map" else name
                sinks[name] = open_sink(
                    argument, place, shapes[name], label_space, image.georeference, describe
                )
            _predict_windows(network, sinks, describe, progress or (lambda done, total: None))
        except BaseException as error:
            for target in sinks.values():
                target.fail(can_continue=not isinstance(error, DamagedImageError))
            raise
        for target in sinks.values():
            target.close()


def _check_arguments(model, source, outputs, tile):
    if not outputs:
        raise ValueError("`sink` or `probabilities` must be given. Received: neither.")
    for place in outputs.values():
        if _is_file(source) and _is_file(place) and os.path.samefile(source, place):
            raise ValueError(f"`sink` must be another file than `source`. Received: {place!r}.")
    files = [os.path.realpath(p) for p in outputs.values() if isinstance(p, (str, os.PathLike))]
    if len(set(files)) < len(files):
        raise ValueError(
            f"`probabilities` must be another file than `sink`. Received: {files[0]} for both."
        )
    if not isinstance(tile, numbers.Integral) or isinstance(tile, bool) or tile < 1:
        raise ValueError(f"`tile` (--tile) must be an integer of at least 1. Received: {tile=}.")
    if not isinstance(model, keras.Model) or not hasattr(model, "input_shape"):
        raise ValueError(
            "`model` must be a keras.Model, functional or Sequential, whose layers show its "
            "receptive field; for an exported file, that from which it was exported. Received: "
            f"{type(model).__name__}."
        )
    if len(model.outputs) != 1:
        raise ValueError(
            "`model` must return one map of logits. Received: one that returns "
            f"{', '.join(model.output_names)}; make a keras.Model of one of its outputs."
        )


def _is_file(place):
    return isinstance(place, (str, os.PathLike)) and os.path.isfile(place)


def _network(model, image, tile):
    """Returns the model as a `StagedNetwork` if that saves something, or else as a whole."""
    parts = split(model) if max(image.shape[:2]) > tile else None
    if parts is None:
        return _WholeNetwork(model, image, windows(model, image.shape[:2], tile))
    return StagedNetwork(model, parts, image, tile)


@dataclasses.dataclass(frozen=True)
class _WholeNetwork:
    """A model that is predicted in windows, all of it at once."""

    model: keras.Model
    image: Source
    windows: list[Window]
    stages: tuple = ()

    def compute_features(self, tell):
        """There is nothing to do before the windows."""

    def predict(self, window):
        pixels = self.image.read(window.rows, window.columns)
        found = predict_called("`source`", self.model, pixels)
        return Prediction(found.scores[window.kept[0].within], found.is_logits)


def _predict_windows(network, sinks, describe, progress):
    """Predicts the windows that are not in all sinks, after what they need of earlier stages."""
    left = [
        (number, window)
        for number, window in enumerate(network.windows)
        if not all(number in target.finished for target in sinks.values())
    ]
    total = sum(map(len, network.stages)) + len(network.windows)
    with contextlib.ExitStack() as stack:
        finished = total - len(left)
        if left and network.stages:
            folder = next((target.features for target in sinks.values() if target.features), None)
            if folder is None:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            finished = network.open(folder, describe()) + len(network.windows) - len(left)
        count = itertools.count(finished)

        def tell():
            progress(next(count), total)

        tell()
        if left:
            network.compute_features(tell)
        for number, window in left:
            prediction, (kept,) = network.predict(window), window.kept
            for output, target in sinks.items():
                target.write(number, kept.rows, kept.columns, getattr(prediction, output))
            tell()


def _description(model, image, network):
    """Returns what the values in an unfinished file depend on."""
    return {
        "image": image.description(),
        "model": _digest_of_model(model),
        "windows": [
            [len(parts), parts[0].rows.stop, parts[0].columns.stop]
            for parts in (*network.stages, network.windows)
        ],
        "version": __version__,
    }


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
