"""Loads programs that are not part of the package, and lists the imports of others."""

import importlib.util
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def load(path):
    """Returns the module of a file, such as `.mkdocs/rooms.py`, below the repository's root."""
    path = ROOT / path
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def imported_by(script, *modules):
    """Returns which of these modules a script imports, in an interpreter of its own."""
    script += f"\nimport sys; print('|', *sorted({set(modules)!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return done.stdout.rpartition("|")[2].split()
