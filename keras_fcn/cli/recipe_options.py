"""The recipe that a command takes, and the options that change its settings."""

import argparse
import os
import tomllib
from typing import Any

from keras_fcn.cli import options as shared
from keras_fcn.training.recipe import SETTINGS, Recipe, StagedRecipe, replace
from keras_fcn.training.recipes import RECIPES, find_recipe


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """Adds RECIPE and --set."""
    parser.add_argument(
        "recipe",
        nargs="?",
        metavar="RECIPE",
        help=f"{', '.join(RECIPES)}, or the config.toml of a run; default: folder",
    )
    add_set(parser)


def add_set(parser: argparse.ArgumentParser) -> None:
    """Adds --set."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a setting of the recipe, such as epochs=20 or crop=[320,320]",
    )


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Adds an option for each setting of `Recipe` that has one."""
    for name, declared in SETTINGS.items():
        if declared.option:
            # An option that is not given leaves the recipe's value.
            shared.add_setting(parser, name, default=argparse.SUPPRESS)


def changes(options: argparse.Namespace) -> dict[str, Any]:
    """Returns the settings that the options change, by name."""
    given = {name: value for name, value in vars(options).items() if name in SETTINGS}
    return {**given, **of_set(options)}


def of_set(options: argparse.Namespace) -> dict[str, Any]:
    """Returns the settings that --set changes, by name."""
    given = {}
    for change in options.set:
        name, equals, value = change.partition("=")
        if not equals:
            raise ValueError(f"--set must be KEY=VALUE. Received: {change}.")
        try:
            parsed = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            # A string without quotation marks.
            parsed = None if value.lower() == "none" else os.path.expanduser(value)
        given[name.strip().replace("-", "_")] = parsed
    return given


def find(name: str | None, changes: dict[str, Any]) -> tuple[str, Recipe | StagedRecipe]:
    """Returns the name of a recipe and the recipe with its changes.

    Args:
        name: Name of a recipe, or the config.toml of a run; `None` for `folder`.
        changes: As from `changes`.

    Raises:
        FileNotFoundError, ValueError: If there is no such recipe, or a change is invalid.
    """
    from keras_fcn.training.run_config import read_config

    name = name or "folder"
    if name.endswith(".toml"):
        name, recipe = read_config(name)
    else:
        recipe = find_recipe(name)
    return name, replace(recipe, **changes)
