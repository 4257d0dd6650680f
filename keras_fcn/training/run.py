"""The folder that a training run leaves behind; every file in it is replaced as a whole."""

import contextlib
import csv
import dataclasses
import json
import os
import zipfile
from pathlib import Path

import keras

from keras_fcn import weights
from keras_fcn.label_spaces import LabelSpace, generic
from keras_fcn.models.fcn import FCN, FCN8s
from keras_fcn.visualization import plot_curves

_CONFIG = "config.json"
_MODEL = "best.keras"


class Run:
    """A run folder: `config.json`, `best.keras`, `metrics.csv` and `curves.png`.

    Args:
        path: The folder.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)

    @property
    def has_model(self) -> bool:
        """Whether a model has been saved yet."""
        return (self.path / _MODEL).is_file()

    def create(self, settings: dict, label_space: LabelSpace) -> None:
        """Makes the folder and writes what the run is made of.

        Args:
            settings: Dictionary of JSON values.
            label_space: The `LabelSpace` of the model's classes.
        """
        self.path.mkdir(parents=True)
        config = {"settings": settings, "label_space": dataclasses.asdict(label_space)}
        (self.path / _CONFIG).write_text(json.dumps(config, indent=2) + "\n")

    def write_history(self, history: list[dict]) -> None:
        """Writes the scores, a dictionary for each epoch, as a table and as curves."""
        with _replacing(self.path / "metrics.csv") as temporary, temporary.open("w") as file:
            writer = csv.DictWriter(file, history[0])
            writer.writeheader()
            writer.writerows(history)
        with _replacing(self.path / "curves.png") as temporary:
            plot_curves(history, temporary)

    def save_model(self, model: keras.Model) -> None:
        """Writes the model, without the state of its optimizer, which is twice its size."""
        plain = type(model).from_config(model.get_config())
        plain.set_weights(model.get_weights())
        with _replacing(self.path / _MODEL) as temporary:
            plain.save(temporary)

    def load_model(self) -> keras.Model:
        """Returns the saved model."""
        return _load_model(self.path / _MODEL)

    def label_space(self) -> LabelSpace:
        """Returns the `LabelSpace` of the model's classes."""
        config = json.loads((self.path / _CONFIG).read_text())
        return LabelSpace(**config["label_space"])


def open_run(path: str | os.PathLike) -> Run:
    """Returns the `Run` at `path`.

    Raises:
        FileNotFoundError: If there is none, or one without a saved model.
    """
    run = Run(path)
    if not run.has_model or not (run.path / _CONFIG).is_file():
        raise FileNotFoundError(
            f"MODEL must be a folder written by `keras-fcn train`, with {_CONFIG} and {_MODEL} in "
            f"it, a .keras file, or one of {', '.join(weights.published_names())}. "
            f"Received: {path}."
        )
    return run


def open_model(name: str | os.PathLike) -> tuple[keras.Model, LabelSpace]:
    """Returns a trained model and what its classes mean.

    Args:
        name: A run folder, a `.keras` file of this package, or the name of published weights, which
            stands for FCN-8s.

    Raises:
        FileNotFoundError: If it is none of these.
        OSError: If published weights cannot be downloaded.
        ValueError: If the file is damaged or holds another model.
    """
    if name in weights.published_names():
        published = weights.find_published(name, stride=8)
        model = FCN8s(
            published.label_space.num_classes,
            weights=name,
            fc_units=published.fc_units,
            data_format="channels_last",
        )
        return model, published.label_space
    if Path(name).is_file():
        model = _load_model(name)
        return model, model.label_space or generic(model.num_classes)
    run = open_run(name)
    return run.load_model(), run.label_space()


def _load_model(path):
    try:
        model = keras.saving.load_model(path)
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} must be a whole .keras file. Received: {error}.") from error
    if not isinstance(model, FCN):
        raise ValueError(
            f"{path} must hold a model of keras_fcn. Received: {type(model).__name__}."
        )
    return model


@contextlib.contextmanager
def _replacing(path):
    """Yields a temporary path that takes the place of `path` when the block ends well."""
    temporary = path.with_name(f".unfinished-{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
