"""What the trackers have in common: when they log, what, and what happens if they cannot."""

import dataclasses
import json
import math
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras

from keras_fcn.io.atomic import atomic_write
from keras_fcn.label_spaces import LabelSpace
from keras_fcn.training.final_report import FinalScores
from keras_fcn.training.recipe import as_settings
from keras_fcn.training.report import ReportImage
from keras_fcn.training.run import Run
from keras_fcn.visualization import as_rgb, overlay, picture_row, plot_confusion_matrix

_FILE = "trackers.json"


@dataclasses.dataclass
class Tracked:
    """What a run folder stores of a tracker, in `trackers.json`.

    Args:
        id: The tracker's own name of the run; `None` before it has one.
        epoch: The last epoch that was logged, 0 before the first.
    """

    id: str | None = None
    epoch: int = 0


class Tracker(keras.callbacks.Callback):
    """Sends what a run writes to an experiment tracker; subclasses talk to one.

    A tracker reads the run folder: after each epoch it logs every row of the history that it has
    not logged yet. So a tracker that joins late logs all epochs, and a run that resumes logs none
    twice. An error of a tracker is one warning; the run goes on. If the tracked run was opened, it
    is tried again after the next epoch.

    Args:
        path: The run folder.
    """

    name = ""
    """The tracker's name in `track`."""

    def __init__(self, path: str | os.PathLike):
        super().__init__()
        self.run = Run(path)
        self.final: FinalScores | None = None
        """Scores and images of the best model; set before `on_train_end`."""
        self.tracked = Tracked()
        self._is_open = self._has_failed = False

    # What a subclass does.

    def open(self, title: str, settings: dict[str, Any]) -> None:
        """Opens the run `tracked.id`, or a new one with the settings, and stores its id there."""

    def log_scores(self, epoch: int, scores: Mapping[str, float]) -> None:
        """Logs finite scores with the number of the epoch, from 1, as the step."""

    def log_pictures(self, epoch: int, pictures: Mapping[str, Path]) -> None:
        """Logs pictures by title: the overlays and the confusion matrix of the best model."""

    def log_files(self, files: list[Path]) -> None:
        """Logs the report and the best model."""

    def close(self, is_finished: bool) -> None:
        """Ends the run of the tracker; `is_finished` is false for a run that may resume."""

    # Keras's methods.

    def on_train_begin(self, logs=None):
        self._tried(self._open)

    def on_epoch_end(self, epoch, logs=None):
        if self._is_open:
            self._tried(self._log_epochs)

    def on_train_end(self, logs=None):
        if self._is_open:
            self._tried(self._log_end)
            self._tried(lambda: self.close(is_finished=True))

    def interrupt(self) -> None:
        """Ends the run of the tracker before its end."""
        if self._is_open:
            self._tried(lambda: self.close(is_finished=False))

    def _open(self):
        self.tracked = _read(self.run.path).get(self.name, Tracked())
        name, recipe = self.run.recipe()
        self.open(f"{name}: {self.run.path.name}", as_settings(recipe))
        self._is_open = True
        self._store()
        self._log_epochs()

    def _log_epochs(self):
        for row in self.run.history():
            if row["epoch"] > self.tracked.epoch:
                scores = {name: value for name, value in row.items() if name != "epoch"}
                finite = {name: value for name, value in scores.items() if math.isfinite(value)}
                self.log_scores(row["epoch"], finite)
                self.tracked.epoch = row["epoch"]
                self._store()

    def _log_end(self):
        self._log_epochs()
        with tempfile.TemporaryDirectory() as folder:
            if self.final is not None:
                pictures = _pictures(self.final, self.run.label_space(), Path(folder))
                self.log_pictures(self.tracked.epoch, pictures)
            files = [self.run.path / "report.html", self.run.best_model_path]
            self.log_files([path for path in files if path.is_file()])

    def _store(self):
        _write(self.run.path, {**_read(self.run.path), self.name: self.tracked})

    def _tried(self, log: Callable[[], None]) -> bool:
        """Returns whether `log` did not fail; warns of the first failure."""
        try:
            log()
        except Exception as error:
            if not self._has_failed:
                warnings.warn(
                    f"The run is not tracked by {self.name}: {type(error).__name__}: "
                    f"{' '.join(str(error).split()).rstrip('.')}. The run goes on.",
                    stacklevel=2,
                )
            self._has_failed = True
            return False
        return True


def _pictures(final: FinalScores, label_space: LabelSpace, folder: Path) -> dict[str, Path]:
    """Draws the overlays of the best and the worst images, and the confusion matrix."""
    pictures = {}
    for group, images in (("best", final.best), ("worst", final.worst)):
        for number, image in enumerate(images, start=1):
            stem = re.sub(r"[^\w.-]", "_", Path(image.name).stem)
            path = folder / f"{group}_{number}_{stem}.jpg"
            _panels(image, label_space).save(path, quality=85)
            title = f"{group} {number}: {image.name}, mean IoU {image.mean_iou:.4f}"
            pictures[title] = path
    path = folder / "confusion_matrix.png"
    plot_confusion_matrix(final.scores.matrix, label_space, path)
    return {**pictures, "confusion matrix": path}


def _panels(image: ReportImage, label_space: LabelSpace) -> Any:
    return picture_row(
        {
            "image": as_rgb(image.image),
            "truth": overlay(image.image, image.label_map, label_space),
            "prediction": overlay(image.image, image.prediction, label_space),
        },
        height=min(360, len(image.image)),
    )


def _read(folder: Path) -> dict[str, Tracked]:
    path = folder / _FILE
    if not path.is_file():
        return {}
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return {name: Tracked(**values) for name, values in stored.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} must hold what trackers stored. Received: {error}. Remove it to track the run "
            "as a new one."
        ) from error


def _write(folder: Path, tracked: dict[str, Tracked]) -> None:
    values = {name: dataclasses.asdict(each) for name, each in tracked.items()}
    with atomic_write(folder / _FILE) as temporary:
        temporary.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
