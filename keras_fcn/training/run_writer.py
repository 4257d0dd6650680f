"""Writes the folder of a training run; every file in it is replaced as a whole."""

import contextlib
import csv
import dataclasses
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import keras

from keras_fcn.distribution import processes
from keras_fcn.io.atomic import atomic_write, remove_leftovers
from keras_fcn.io.lock import locked
from keras_fcn.label_spaces import LabelSpace
from keras_fcn.training.checkpoint import Variables, save_state
from keras_fcn.training.environment import environment
from keras_fcn.training.image_scores import ImageScores
from keras_fcn.training.recipe import Recipe, StagedRecipe, as_settings
from keras_fcn.training.run import Run, Stages
from keras_fcn.training.run_config import (
    ANY_LETTER,
    CONFIG,
    create_run_folder,
    read_tables,
    write_tables,
)
from keras_fcn.visualization import plot_curves

_SPLIT = "split.csv"
_EVENTS = "tensorboard"


class RunWriter(Run):
    """A run folder that this process trains; of several processes, the first alone writes it.

    Args:
        path: The folder.
    """

    def create(
        self,
        name: str,
        recipe: Recipe,
        label_space: LabelSpace,
        user_code: Mapping[str, list[str]] | None = None,
    ) -> None:
        """Makes the folder and writes what repeats the run.

        Args:
            name: What the recipe is called.
            recipe: The `Recipe`.
            label_space: The `LabelSpace` of the model's classes.
            user_code: See `UserCode.names`.
        """
        if not _writes():
            return
        create_run_folder(
            self.path,
            name,
            settings=as_settings(recipe),
            label_space=dataclasses.asdict(label_space),
            python=user_code or {},
            environment=environment(),
        )

    @contextlib.contextmanager
    def only_writer(self) -> Iterator[None]:
        """Context manager in which no other process may train the run.

        The lock is that of `io.lock.locked`, which some file systems, and Windows, do not check.

        Raises:
            OSError: If another process trains it.
            FileNotFoundError, ValueError: As `recipe`.
        """
        self.recipe()  # Raises if there is no run.
        with contextlib.ExitStack() as stack:
            if _writes():
                try:
                    stack.enter_context(locked(self.path))
                except BlockingIOError:
                    raise OSError(
                        f"{self.path} must be trained by one process at a time. Received: another "
                        "process trains it now. Wait for its end, or stop it."
                    ) from None
            yield

    def record_folders(self, folders: Mapping[str, str]) -> None:
        """Replaces paths of folders in `config.toml`, by the names of their settings."""
        config = read_tables(self.path / CONFIG)
        config["settings"] |= folders
        _write_config(self.path, config)

    def clean(self) -> None:
        """Removes what an interrupted process left half written."""
        remove_leftovers(self.path, older_than=0)

    def save_state(self, variables: Variables, facts: dict) -> None:
        """Writes everything that the next step follows from; see `training.checkpoint`."""
        if not _writes():
            return
        with _replacing(self.state_path) as temporary:
            save_state(temporary, variables, facts)

    def save_model(self, model: keras.Model) -> None:
        """Writes the model, without the state of its optimizer, which is twice its size."""
        if not _writes():
            return
        with _replacing(self.best_model_path) as temporary:
            copy_of(model).save(temporary)

    def write_split(self, train: Sequence[str], validation: Sequence[str]) -> None:
        """Writes which images are trained on and which are held out.

        Args:
            train: File names of the training images.
            validation: File names of the validation images.
        """
        if not _writes():
            return
        with (
            _replacing(self.path / _SPLIT) as temporary,
            temporary.open("w", encoding="utf-8", errors=ANY_LETTER, newline="") as file,
        ):
            writer = csv.writer(file)
            writer.writerow(("split", "image"))
            writer.writerows(("train", name) for name in train)
            writer.writerows(("validation", name) for name in validation)

    def write_history(self, history: list[dict]) -> None:
        """Writes the scores, a dictionary for each epoch, as a table, as curves and as events."""
        if not history or not _writes():
            return
        columns = list(dict.fromkeys(column for row in history for column in row))
        with (
            _replacing(self.history_path) as temporary,
            temporary.open("w", encoding="utf-8", errors=ANY_LETTER, newline="") as file,
        ):
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(history)
        with drawing_errors_warn("the curves"), _replacing(self.path / "curves.png") as temporary:
            plot_curves(history, temporary)
        self._write_events(history)

    def _write_events(self, history):
        """Anew each time: an event file that a process died over cannot be gone on with."""
        import tensorflow as tf  # Late: predicting with a run does not need it.

        folder = self.path / _EVENTS
        shutil.rmtree(folder, ignore_errors=True)
        try:
            with tf.summary.create_file_writer(os.fsencode(folder)).as_default():
                for row in history:
                    for name, value in row.items():
                        if name != "epoch":
                            tf.summary.scalar(name, value, step=row["epoch"])
        except tf.errors.OpError as error:
            # "{{node …}} PATH; No space left on device", and lines about the operation.
            found = re.search(r"; ([^;\n]+)", error.message)
            raise _not_written(folder, found[1] if found else type(error).__name__) from error

    def remove_state(self) -> None:
        """Removes the last checkpoint, which a finished run does not need."""
        if _writes():
            self.state_path.unlink(missing_ok=True)

    def write_report(self, write: Callable[[Path], None]) -> None:
        """Calls `write` with the path of the report."""
        with _replacing(self.report_path) as temporary:
            write(temporary)

    def write_image_scores(self, scores: ImageScores) -> None:
        """Writes the scores of the model on each validation image."""
        if not _writes():
            return
        with _replacing(self.image_scores_path) as temporary:
            scores.save(temporary)


class StagesWriter(Stages):
    """The folder of a staged recipe that this process trains.

    Args:
        path: The folder.
    """

    def create(self, name: str, recipe: StagedRecipe) -> None:
        """Makes the folder and writes what repeats the runs."""
        stages = {
            stage: as_settings(settings.with_absolute_paths())
            for stage, settings in recipe.stages.items()
        }
        create_run_folder(self.path, name, stages=stages)

    def record_folders(self, folders: Mapping[str, str]) -> None:
        """Replaces paths of folders in `config.toml`, for every stage."""
        config = read_tables(self.path / CONFIG)
        for settings in config["stages"].values():
            settings |= folders
        _write_config(self.path, config)

    def run(self, stage: str) -> RunWriter:
        """Returns the `RunWriter` of a stage."""
        return RunWriter(self.path / stage)


def copy_of(model: keras.Model) -> keras.Model:
    """Returns a model of the same weights, for one device and without an optimizer."""
    copy = type(model).from_config(model.get_config())
    copy.set_weights(model.get_weights())
    return copy


def _writes():
    """Of several processes that train, the first writes the run folder."""
    return processes.rank() == 0


@contextlib.contextmanager
def drawing_errors_warn(picture: str) -> Iterator[None]:
    """Turns an error in drawing into a warning, so that it does not end the training.

    Args:
        picture: What is drawn, such as "the curves".
    """
    try:
        yield
    except OSError:
        raise  # The disk's, after which nothing else can be written either.
    except Exception as error:
        warnings.warn(
            f"{picture[0].upper()}{picture[1:]} of the run cannot be drawn: {error}. The run goes "
            "on.",
            stacklevel=3,
        )


def _write_config(folder, config):
    try:
        write_tables(folder / CONFIG, config)
    except OSError as error:
        raise _not_written(folder / CONFIG, error) from error


@contextlib.contextmanager
def _replacing(path):
    """Writes a file of a run atomically, and adds the remedy to errors of the disk."""
    try:
        with atomic_write(path) as temporary:
            yield temporary
    except (OSError, RuntimeError, ValueError) as error:
        if not _comes_from_the_disk(error):
            raise
        raise _not_written(path, error) from error


def _not_written(path, reason):
    run = path.parent
    with contextlib.suppress(OSError, ValueError):  # There is no run in the folder of the run.
        if run in (stage.path for stage in Run(run.parent).stages()):
            run = run.parent
    return OSError(
        f"{path} cannot be written: {reason}. What was written before is whole: free the disk "
        f"or its permissions, and go on with `keras-fcn train --resume {run}`."
    )


def _comes_from_the_disk(error):
    """Whether an error is, or follows from, one of the operating system.

    HDF5 has errors of its own for a full disk, and zipfile one for an archive that then cannot be
    closed.
    """
    while error is not None:
        if isinstance(error, OSError) or "errno = " in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
