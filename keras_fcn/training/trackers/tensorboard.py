"""Adds the settings and the pictures of a run to its TensorBoard events."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_fcn.training.trackers.base import Tracker


class TensorBoardTracker(Tracker):
    """Writes what the events of every run lack: the settings, as text and hparams, and pictures.

    The scalars are written by the run itself, which begins the folder `tensorboard` again after
    each epoch. So the settings are written after each epoch, too.

    Args:
        path: The run folder.
    """

    name = "tensorboard"

    def open(self, title, settings):
        self._settings = settings
        self._write_settings()

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        if self._is_open:
            self._tried(self._write_settings)

    def _write_settings(self):
        from tensorboard.plugins.hparams import api

        rows = (f"| {name} | {_escaped(value)} |" for name, value in self._settings.items())
        values = {
            name: value if isinstance(value, bool | int | float | str) else str(value)
            for name, value in self._settings.items()
        }
        with self._writer("settings").as_default():
            tf.summary.text("settings", "\n".join(["| setting | value |", "|---|---|", *rows]), 0)
            api.hparams(values)

    def log_pictures(self, epoch: int, pictures: Mapping[str, Path]) -> None:
        with self._writer("pictures").as_default():
            for title, path in pictures.items():
                picture = np.asarray(Image.open(path).convert("RGB"))
                tf.summary.image(path.stem, picture[None], epoch, description=title)

    def _writer(self, name):
        folder = self.run.path / "tensorboard"
        return tf.summary.create_file_writer(os.fsencode(folder), filename_suffix=f".{name}")


def _escaped(value):
    return str(value).replace("|", "\\|").replace("\n", " ")
