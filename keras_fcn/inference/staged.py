"""Predicts an FCN in tiles stage by stage, each over the whole image before the next one begins."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_fcn.alignment import IMAGE, CoordinateMap, FeatureMap
from keras_fcn.alignment.graph import output_maps
from keras_fcn.backends.host_memory import return_freed_memory
from keras_fcn.inference.checks import check_pixels, check_scores, image_layout
from keras_fcn.inference.prediction import Prediction
from keras_fcn.inference.sources import Source
from keras_fcn.inference.unfinished import UnfinishedArray
from keras_fcn.inference.windows import Geometry, Reach, Window, read_geometry
from keras_fcn.models.base import BaseFCN
from keras_fcn.models.split import SplitFCN

# Smallest side of the classifier's windows, in pixels of its input.
_LEAST_CLASSIFIER_TILE = 32


class StagedNetwork:
    """An FCN whose trunk, classifier and decoder are predicted in tiles one after the other.

    The receptive field of a pixel's logits is that of all three. Stage by stage, the windows of the
    trunk overlap by its own receptive field only, and those of fc6 and fc7 by fc6's kernel. What a
    stage passes on lies on the disk: with 21 classes, 4 bytes per pixel of the image.

    Args:
        model: The FCN.
        parts: Its parts.
        image: The image.
        tile: As in `predict_tiles`.

    Raises:
        ValueError: As `windows`.
    """

    windows: list[Window]
    """The windows of the image, as of the function `windows`."""

    def __init__(self, model: BaseFCN, parts: SplitFCN, image: Source, tile: int):
        size = image.shape[0], image.shape[1]
        geometry, maps = read_geometry(parts.trunk, size)
        self._model, self._decoder, self._image = model, parts.decoder, image
        self._trunk = _Stage(parts.trunk, geometry.windows(tile), maps)
        self._stages, self._score_maps = [self._trunk], maps
        if parts.classifier is not None:
            features, *skips = maps
            stride = math.ceil(max(axis.stride for axis in features.axes))
            side = max(tile // stride, _LEAST_CLASSIFIER_TILE)
            windows = read_geometry(parts.classifier, features.size)[0].windows(side)
            scores = output_maps(parts.classifier, [features])
            self._stages.append(_Stage(parts.classifier, windows, scores))
            self._score_maps = [*scores, *skips]
        whole = FeatureMap(IMAGE, IMAGE, size, _rows_axis(model))
        reach = _reach_of_decoder(parts.decoder, whole, self._score_maps)
        self.windows = Geometry(size, geometry.strides, [reach]).windows(tile)

    @property
    def stages(self) -> list[list[Window]]:
        """The windows of each stage before the decoder; the first stage's are of the image."""
        return [stage.windows for stage in self._stages]

    def open(self, folder: Path, description: Mapping[str, Any]) -> int:
        """Opens the files of what the stages pass on; returns how many windows are finished.

        Args:
            folder: Folder for the files. What an earlier call has finished there is kept.
            description: As in `UnfinishedArray`.
        """
        folder.mkdir(exist_ok=True)
        for stage in self._stages:
            stage.open(folder, description)
        trunk, *classifier = self._stages
        self._score_files = trunk.files
        if classifier:
            self._score_files = [*classifier[0].files, *trunk.files[1:]]
        return sum(len(stage.finished()) for stage in self._stages)

    def compute_features(self, tell: Callable[[], None]) -> None:
        """Computes the scores that the decoder joins; `tell` is called after each window."""
        for stage, read in zip(self._stages, (self._pixels, self._features), strict=False):
            # The C library would keep what the stage before has freed.
            return_freed_memory()
            stage.run(read, tell)
        return_freed_memory()

    def predict(self, window: Window) -> Prediction:
        """Returns what is predicted for the kept part of a window, from the scores."""
        scores = [
            _batch(file.read(*_part(found, window, self._image.shape)), found.rows_axis)
            for file, found in zip(self._score_files, self._score_maps, strict=True)
        ]
        # Of the image, the decoder only uses the size.
        height, width = (seen.stop - seen.start for seen in (window.rows, window.columns))
        empty = np.zeros((height, width, self._image.shape[2]), "float32")
        rows_axis = _rows_axis(self._model)
        output = self._decoder.predict_on_batch([_batch(empty, rows_axis), *scores])
        kept = _pixels_last(output, rows_axis)[window.kept[0].within]
        check_scores(kept)
        return Prediction(kept, self._model.classifier_activation is None)

    def _pixels(self, window):
        pixels = self._image.read(window.rows, window.columns)
        check_pixels(pixels, "`source`")
        return _batch(pixels, _rows_axis(self._model))

    def _features(self, window):
        features, found = self._trunk.files[0], self._trunk.maps[0]
        return _batch(features.read(window.rows, window.columns), found.rows_axis)


@dataclasses.dataclass
class _Stage:
    """A part of a network, its windows, and where its outputs lie in the image."""

    model: keras.Model
    windows: list[Window]
    maps: Sequence[FeatureMap]
    files: list[UnfinishedArray] = dataclasses.field(default_factory=list)

    def open(self, folder, description):
        """Opens a file for each output."""
        for number, (output, found) in enumerate(zip(self.model.outputs, self.maps, strict=True)):
            channels = output.shape[1 if found.rows_axis == 2 else -1]
            path = folder / f"{self.model.name}{number}"
            file = UnfinishedArray(path, (*found.size, channels), "float32", description)
            self.files.append(file)

    def finished(self):
        """Returns the numbers of the windows that all files have."""
        return set.intersection(*(file.finished for file in self.files))

    def run(self, read, tell):
        """Predicts the windows that are not in the files; `read` returns the input of one."""
        for number in sorted(set(range(len(self.windows))) - self.finished()):
            window = self.windows[number]
            outputs = keras.tree.flatten(self.model.predict_on_batch(read(window)))
            for file, found, kept, output in zip(
                self.files, self.maps, window.kept, outputs, strict=True
            ):
                values = _pixels_last(output, found.rows_axis)[kept.within]
                file.write(number, kept.rows, kept.columns, values)
            tell()


def _reach_of_decoder(decoder, image, score_maps):
    """Returns which pixels of the image, along the rows and along the columns, bound the scores
    that a pixel of the logits is interpolated from.
    """
    # Only the places of the scores count, not the receptive fields of the layers before.
    points = [
        dataclasses.replace(
            found,
            height=CoordinateMap(found.height.stride, found.height.offset),
            width=CoordinateMap(found.width.stride, found.width.offset),
        )
        for found in score_maps
    ]
    (logits,) = output_maps(decoder, [image, *points])
    reach = []
    for axis, length in enumerate(image.size):
        joined, scores = logits.axes[axis], [(p.axes[axis], p.size[axis]) for p in points]
        # A window has no score before its first one and none behind its last one.
        before = max(math.floor(s.offset - s.stride - joined.first) + 1 for s, _ in scores)
        after = max(
            length - math.ceil(s.offset + s.stride * count - joined.last) for s, count in scores
        )
        reach.append(Reach(Fraction(1), Fraction(-max(before, 0)), Fraction(max(after, 0)), length))
    return tuple(reach)


def _part(found, window, image_size):
    """Returns the rows and columns of a feature map that belong to a window of the image."""
    parts = []
    for axis, size, seen, whole in zip(
        found.axes, found.size, (window.rows, window.columns), image_size, strict=False
    ):
        start, behind = seen.start / axis.stride, (whole - seen.stop) / axis.stride
        parts.append(slice(int(start), size - int(behind)))
    return parts


def _rows_axis(model):
    return 2 if image_layout(model) == "channels_first" else 1


def _batch(pixels, rows_axis):
    """Returns (height, width, channels) as a batch of one in the layout of a model."""
    return np.ascontiguousarray(pixels.transpose(2, 0, 1) if rows_axis == 2 else pixels)[None]


def _pixels_last(batch, rows_axis):
    """Returns (height, width, channels) of a batch of one in the layout of a model."""
    return batch[0].transpose(1, 2, 0) if rows_axis == 2 else batch[0]
