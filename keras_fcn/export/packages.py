"""Imports packages of the extra `export`, with one sentence where one is missing."""

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Iterable
from typing import Any


def imported(name: str) -> Any:
    """Returns a module.

    Raises:
        ImportError: If its package is not installed.
    """
    check_installed([name.partition(".")[0]])
    return importlib.import_module(name)


def check_installed(names: Iterable[str]) -> None:
    """Raises an ImportError that names the packages that are missing."""
    if missing := [name for name in names if importlib.util.find_spec(name) is None]:
        raise ImportError(
            f"{', '.join(missing)} must be installed for this format: "
            'pip install "keras-fcn[export]"'
        )


def version(distribution: str) -> str:
    """Returns the installed version of a distribution."""
    return importlib.metadata.version(distribution)
