"""Turns a weight file of any format into a file of this package."""

import os
from pathlib import Path

import keras

from keras_fcn import weights
from keras_fcn.io.atomic import atomic_write, remove_leftovers


def convert(source: str | os.PathLike, target: str | os.PathLike, model: keras.Model) -> None:
    """Loads a weight file into a model, all of it or nothing, and saves the model.

    Args:
        source: As in `keras_fcn.weights.load`; it must set every variable of `model`.
        target: Path of a `.weights.h5` file, or of a `.keras` file, that does not exist yet.
        model: The FCN that the weights are for.

    Raises:
        FileExistsError: If `target` exists.
        FileNotFoundError: If `source`, or the folder of `target`, does not exist.
        ValueError: If `source` is damaged or does not fit `model`, or `target` ends otherwise.
    """
    target = Path(target)
    if not target.name.endswith((".weights.h5", ".keras")):
        raise ValueError(f"`target` must end in .weights.h5 or .keras. Received: {target}.")
    if target.exists():
        raise FileExistsError(f"`target` must not exist yet. Received: {target}.")
    if not target.absolute().parent.is_dir():
        raise FileNotFoundError(f"`target` must lie in an existing folder. Received: {target}.")
    weights.load(model, source, partial=False)
    remove_leftovers(target.parent)
    with atomic_write(target) as temporary:
        if target.name.endswith(".keras"):
            model.save(temporary)
        else:
            model.save_weights(temporary)
