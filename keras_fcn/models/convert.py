"""Converts a weight file of any supported format to a Keras file."""

import os
from pathlib import Path

import keras

from keras_fcn import weights
from keras_fcn.io.atomic import atomic_write, remove_leftovers


def convert(source: str | os.PathLike, target: str | os.PathLike, model: keras.Model) -> None:
    """Loads a complete weight file into a model and saves the model, written atomically.

    Args:
        source: As in `keras_fcn.weights.load`. The file must set every variable of `model`.
        target: Path of a new `.weights.h5` or `.keras` file.
        model: The FCN to load the weights into.

    Raises:
        FileExistsError: If `target` exists.
        FileNotFoundError: If `source`, or the folder of `target`, does not exist.
        ValueError: If `source` is damaged or does not fit `model`, or `target` has another suffix.
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
