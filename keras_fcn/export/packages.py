"""Imports packages of the extra `export`, with one sentence where one is missing."""

import importlib
import importlib.metadata
from typing import Any

from keras_fcn.io.extras import check_installed


def imported(name: str) -> Any:
    """Returns a module.

    Raises:
        ImportError: If its package is not installed.
    """
    check_packages((name.partition(".")[0],))
    return importlib.import_module(name)


def check_packages(names: tuple[str, ...]) -> None:
    """Raises an ImportError that names the packages that are missing."""
    check_installed("export", names, "for this format")


def version(distribution: str) -> str:
    """Returns the installed version of a distribution."""
    return importlib.metadata.version(distribution)
