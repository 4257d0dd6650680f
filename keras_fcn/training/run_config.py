"""The file `config.toml` of a run folder: everything that repeats the run."""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import tomli_w

from keras_fcn.backends import backend
from keras_fcn.io.atomic import atomic_write, remove_leftovers
from keras_fcn.training.recipe import Recipe, StagedRecipe, from_settings
from keras_fcn.version import __version__

CONFIG = "config.toml"

ANY_LETTER = "surrogateescape"
"""Error handler for file names that are no text in the system's encoding."""


def create_run_folder(path: Path, recipe: str, **tables: Mapping[str, Any]) -> None:
    """Creates a run folder that holds its `config.toml`, atomically.

    Args:
        path: The folder.
        recipe: Name of the recipe.
        **tables: Tables of the file. Empty tables, and values that are `None`, are left out.

    Raises:
        FileExistsError: If the folder was created meanwhile.
    """
    config: dict[str, Any] = {
        "recipe": recipe,
        "keras_fcn": __version__,
        "keras": keras.__version__,
        "backend": backend.name,
        **{name: _without_none(table) for name, table in tables.items() if table},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent)
    with atomic_write(path) as temporary:
        temporary.mkdir()
        write_tables(temporary / CONFIG, config)
        if path.exists():
            raise FileExistsError(f"{path} was made by another process meanwhile.")


def write_tables(path: Path, config: Mapping[str, Any]) -> None:
    """Writes everything that a `config.toml` holds, atomically.

    Args:
        path: The file.
        config: Tables without `None`.
    """
    # A colour on one line instead of five.
    text = re.sub(r"\[\s+(\d+),\s+(\d+),\s+(\d+),\s+\]", r"[\1, \2, \3]", tomli_w.dumps(config))
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors=ANY_LETTER)


def read_config(path: str | os.PathLike) -> tuple[str, Recipe | StagedRecipe]:
    """Returns the name of the recipe and the recipe that a `config.toml` holds.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged or holds what is no recipe.
    """
    return recipe_of(read_tables(Path(path)), path)


def recipe_of(config: Mapping[str, Any], path: str | os.PathLike) -> tuple[str, Any]:
    """Returns the name of the recipe and the `Recipe` or `StagedRecipe` of tables read from `path`.

    Raises:
        ValueError: If they hold no recipe.
    """
    try:
        if "stages" in config:
            stages = {
                stage: from_settings(settings) for stage, settings in config["stages"].items()
            }
            return config["recipe"], StagedRecipe(stages=stages)
        return config["recipe"], from_settings(config["settings"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} must hold a recipe. Received: {error}") from error


def read_tables(path: Path) -> dict[str, Any]:
    """Returns everything that a `config.toml` holds.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig", errors=ANY_LETTER))
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"RUN must be a folder written by `keras-fcn train`, with {CONFIG} in it. "
            f"Received: {path.parent}."
        ) from error
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as TOML: {error}.") from error


def _without_none(value):
    """Returns a table, and those in it, without the values that are `None`."""
    if not isinstance(value, Mapping):
        return value
    return {name: _without_none(item) for name, item in value.items() if item is not None}
