"""Experiment trackers: what a run writes also goes to MLflow, Weights & Biases or TensorBoard."""

import contextlib
import importlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from keras_fcn.io.extras import check_installed

if TYPE_CHECKING:
    from keras_fcn.training.run import Run
    from keras_fcn.training.trackers.base import Tracker

# Public name -> module that defines it, resolved on first use (PEP 562).
_EXPORTS = {
    "MLflowTracker": "mlflow",
    "TensorBoardTracker": "tensorboard",
    "Tracker": "base",
    "WandbTracker": "wandb",
}
# Name of a tracker -> its class, and the extra with the package that it imports, if any.
_TRACKERS = {
    "mlflow": ("MLflowTracker", "mlflow"),
    "wandb": ("WandbTracker", "wandb"),
    "tensorboard": ("TensorBoardTracker", None),
}
NAMES = tuple(_TRACKERS)
"""What `track` may name (--track)."""

__all__ = [*_EXPORTS, "check_names", "open_trackers"]


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """Returns the names of trackers without duplicates, before anything is written.

    Raises:
        ValueError: If one is no tracker.
        ImportError: If the package of one is not installed; the message states how to install it.
    """
    for name in names:
        if name not in _TRACKERS:
            raise ValueError(f"`track` must hold {', '.join(NAMES)}. Received: {name!r}.")
        extra = _TRACKERS[name][1]
        if extra is not None:
            check_installed(extra, (extra,), f"for {name!r} in `track` (--track {name})")
    return tuple(dict.fromkeys(names))


def open_trackers(names: Sequence[str], run: "Run") -> "list[Tracker]":
    """Returns the trackers of a run folder by name.

    Args:
        names: As from `check_names`.
        run: The run.
    """
    return [__getattr__(_TRACKERS[name][0])(run.path) for name in names]


@contextlib.contextmanager
def tracking(trackers: "Sequence[Tracker]") -> Iterator[None]:
    """Context manager for a training: begins its trackers, and ends them if it is interrupted."""
    try:
        for tracker in trackers:
            tracker.on_train_begin()
        yield
    except BaseException:
        for tracker in trackers:
            tracker.interrupt()
        raise


def __getattr__(name):
    if name in _EXPORTS:
        return getattr(importlib.import_module(f"{__name__}.{_EXPORTS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
