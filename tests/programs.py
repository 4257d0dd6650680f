"""Loads programs that are not part of the package, such as the hooks of the documentation."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def load(path):
    """Returns the module of a file, such as `.mkdocs/rooms.py`, below the repository's root."""
    path = ROOT / path
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
