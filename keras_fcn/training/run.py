"""The folder that a training run leaves behind, for those that read it."""

import csv
import functools
import os
import zipfile
from pathlib import Path

import keras

from keras_fcn.label_spaces import LabelSpace
from keras_fcn.models.base import BaseFCN
from keras_fcn.training.image_scores import ImageScores
from keras_fcn.training.recipe import Recipe, StagedRecipe
from keras_fcn.training.run_config import ANY_LETTER, CONFIG, read_config, read_tables, recipe_of

MODEL = "best.keras"
_HISTORY = "metrics.csv"
_IMAGE_SCORES = "image_scores.npz"
_STATE = "last.npz"
_REPORT = "report.html"


class Run:
    """A run folder, which a `RunWriter` writes.

    `config.toml` repeats the run, `last.npz` goes on with it until its end, `best.keras` is the
    model, `metrics.csv`, `curves.png` and `tensorboard/` are its history, and `report.html` tells
    of all. `image_scores.npz` holds the scores of each validation image, and `split.csv` lists the
    images that were held out for validation, if any were.

    Args:
        path: The folder.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)

    @functools.cached_property
    def _config(self):
        return read_tables(self.path / CONFIG)

    @property
    def exists(self) -> bool:
        """Whether the run has begun."""
        return (self.path / CONFIG).is_file()

    @property
    def has_model(self) -> bool:
        """Whether a model has been saved yet."""
        return self.best_model_path.is_file()

    @property
    def has_state(self) -> bool:
        """Whether there is a checkpoint."""
        return self.state_path.is_file()

    @property
    def is_finished(self) -> bool:
        """Whether the run has come to its end."""
        return self.report_path.is_file()

    @property
    def state_path(self) -> Path:
        """The last checkpoint."""
        return self.path / _STATE

    @property
    def report_path(self) -> Path:
        """The report, which is written last."""
        return self.path / _REPORT

    @property
    def image_scores_path(self) -> Path:
        """The scores of the best model on each validation image."""
        return self.path / _IMAGE_SCORES

    @property
    def best_model_path(self) -> Path:
        """The best model so far."""
        return self.path / MODEL

    def recipe(self) -> tuple[str, Recipe]:
        """Returns the name of the recipe and the recipe.

        Raises:
            FileNotFoundError: If there is no such run.
            ValueError: If its `config.toml` is damaged.
        """
        return recipe_of(self._config, self.path / CONFIG)

    def user_code_names(self) -> dict[str, list[str]]:
        """Returns what the run was begun with in Python; see `UserCode.names`."""
        return self._config.get("python", {})

    def environment(self) -> dict[str, str]:
        """Returns hardware and versions on which the run was begun, as far as they are stored."""
        names = "keras_fcn", "keras", "backend"
        versions = {name: self._config[name] for name in names if name in self._config}
        return self._config.get("environment", versions)

    def label_space(self) -> LabelSpace:
        """Returns the `LabelSpace` of the model's classes.

        Raises:
            ValueError: If its `config.toml` is damaged.
        """
        try:
            return LabelSpace(**self._config["label_space"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{self.path / CONFIG} must hold the classes in the table [label_space]. "
                f"Received: {error}"
            ) from error

    def stages(self) -> "list[Run]":
        """Returns the `Run` of every stage if this is the folder of a staged recipe, else none."""
        return [Run(self.path / stage) for stage in self._config.get("stages", {})]

    @property
    def history_path(self) -> Path:
        """The table of scores by epoch."""
        return self.path / _HISTORY

    def best_epoch(self) -> dict | None:
        """Returns the row of the history with the best validation mean IoU, `None` without one."""
        history = [row for row in self.history() if row.get("val_mean_iou") is not None]
        return max(history, key=lambda row: row["val_mean_iou"], default=None)

    def history(self) -> list[dict]:
        """Returns a dictionary for each epoch, without what was not measured in it."""
        path = self.path / _HISTORY
        if not path.is_file():
            return []
        with path.open(encoding="utf-8", errors=ANY_LETTER, newline="") as file:
            rows = list(csv.DictReader(file))
        return [
            {"epoch": int(row.pop("epoch"))}
            | {name: float(value) for name, value in row.items() if value}
            for row in rows
        ]

    def runs(self) -> "list[Run]":
        """Returns this run alone; `Stages` are several."""
        return [self]

    def image_scores(self) -> ImageScores | None:
        """Returns the scores of the model on each validation image; `None` before the end.

        Raises:
            ValueError: If the file is damaged.
        """
        path = self.image_scores_path
        return ImageScores.load(path) if path.is_file() else None

    def load_model(self) -> keras.Model:
        """Returns the saved model."""
        return load_fcn(self.best_model_path)


class Stages:
    """The folder of a staged recipe, in which each stage has its run folder.

    Args:
        path: The folder.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)

    @property
    def exists(self) -> bool:
        """Whether there is a folder of a staged recipe at `path`."""
        config = self.path / CONFIG
        return config.is_file() and "stages" in read_tables(config)

    def recipe(self) -> tuple[str, StagedRecipe]:
        """Returns the name of the recipe and the recipe."""
        return read_config(self.path / CONFIG)  # type: ignore[return-value]

    def run(self, stage: str) -> Run:
        """Returns the `Run` of a stage."""
        return Run(self.path / stage)

    def runs(self) -> list[Run]:
        """Returns the `Run` of every stage."""
        return [self.run(stage) for stage in self.recipe()[1].stages]


def load_fcn(path: str | os.PathLike) -> BaseFCN:
    """Returns the model of a `.keras` file.

    Raises:
        ValueError: If the file is damaged or holds another model.
    """
    try:
        model = keras.saving.load_model(path)
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} must be a whole .keras file. Received: {error}.") from error
    if not isinstance(model, BaseFCN):
        raise ValueError(
            f"{path} must hold a model of keras_fcn. Received: {type(model).__name__}."
        )
    return model
