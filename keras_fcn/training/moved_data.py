"""Records in a run where its data lie now."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from keras_fcn.training.checkpoint import read_facts
from keras_fcn.training.recipe import PATHS, SETTINGS, Recipe
from keras_fcn.training.run import Run
from keras_fcn.training.run_writer import RunWriter, StagesWriter
from keras_fcn.training.splits import open_splits


def record_folders(path: str | os.PathLike, folders: Mapping[str, Any]) -> None:
    """Writes folders into the `config.toml` of a run, or of every stage, if they hold its data.

    Args:
        path: The run folder, of one recipe or of a staged one.
        folders: Paths by the names of settings of `Recipe`.

    Raises:
        FileNotFoundError: If there is no such run or no such folder.
        OSError: If another process trains the run now.
        ValueError: If the run has no folder of such a name, or other data lie there.
    """
    folders = {name: _absolute(name, folder) for name, folder in folders.items()}
    stages = StagesWriter(path)
    staged = stages.recipe()[1].stages if stages.exists else {}
    runs = [run for run in map(stages.run, staged) if run.exists] if staged else [RunWriter(path)]
    recipes = [*(run.recipe()[1] for run in runs), *staged.values()]
    for recipe in recipes:
        _check_has(recipe, folders, path)
    for run, recipe in zip(runs, recipes, strict=False):
        train_split, _ = open_splits(dataclasses.replace(recipe, **folders))
        if run.has_state:
            check_data(run, train_split.fingerprint(), read_facts(run.state_path)["data"])
    for run in runs:
        with run.only_writer():
            run.record_folders(folders)
    if staged:
        stages.record_folders(folders)


def check_data(run: Run, found: str, trained_on: str) -> None:
    """Raises a ValueError if the data that were found are not those that a run was trained on.

    Args:
        run: The run.
        found: As from `Split.fingerprint`.
        trained_on: As its checkpoint says.
    """
    if found != trained_on:
        raise ValueError(
            f"{run.path} must resume with the data it was trained on, {trained_on}. "
            f"Received: {found}."
        )


def _absolute(name, folder):
    if name not in PATHS:
        options = [SETTINGS[path].option_name for path in PATHS]
        raise ValueError(
            "A run that resumes keeps its settings, except where its data lie "
            f"({', '.join(options)}). Received: {name}={folder!r}."
        )
    if not isinstance(folder, str | os.PathLike):
        raise SETTINGS[name].error("a folder", folder)
    return os.path.abspath(os.path.expanduser(folder))


def _check_has(recipe: Recipe, folders: Mapping[str, str], path: str | os.PathLike) -> None:
    """Folders of the run may have moved; new ones would change it."""
    of_run = {name for name in PATHS if getattr(recipe, name) is not None}
    if recipe.data is not None:
        of_run.add("data_dir")  # By default it is TFDS's own.
    for name in folders:
        if name not in of_run:
            has = ", ".join(SETTINGS[each].option_name for each in PATHS if each in of_run)
            raise ValueError(
                f"`{name}` ({SETTINGS[name].option_name}) must be a folder that the run has, which "
                f"are {has}. Received: {name}={folders[name]!r}, for {path}."
            )
