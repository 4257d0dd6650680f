"""Recipes, training, evaluation and what a run leaves on disk."""

import importlib

# Public name -> module that defines it, resolved on first use (PEP 562).
_EXPORTS = {
    "Recipe": "recipe",
    "StagedRecipe": "recipe",
    "resume": "trainer",
    "train": "trainer",
}

__all__ = [*_EXPORTS, "recipes"]


def __getattr__(name):
    if name in _EXPORTS:
        return getattr(importlib.import_module(f"{__name__}.{_EXPORTS[name]}"), name)
    if name == "recipes":
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
