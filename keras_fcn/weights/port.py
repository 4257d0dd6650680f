"""Sets a model's variables from named arrays, all of them or none."""

from collections.abc import Collection

import keras
import numpy as np


def port(
    model: keras.Model,
    arrays: dict[tuple[str, str], np.ndarray],
    *,
    source: str,
    kept: Collection[str] = (),
) -> None:
    """Assigns each array to the variable of its name.

    Args:
        model: A built `keras.Model`.
        arrays: Dictionary from (layer name, variable name) to an array.
        source: What the arrays come from, for the error.
        kept: Names of the layers whose variables deliberately keep their values.

    Raises:
        ValueError: If a variable has no array, an array no variable, or their shapes differ; it
            lists all of them. The model is untouched then.
    """
    variables = {
        (layer.name, variable.name): variable
        for layer in model.layers
        for variable in layer.weights
        if layer.name not in kept and not layer.name.startswith("drop")
    }
    problems = []
    for (layer, name), variable in variables.items():
        if (layer, name) not in arrays:
            problems.append(f"{layer}/{name} {tuple(variable.shape)}: missing in the file")
        elif tuple(arrays[layer, name].shape) != tuple(variable.shape):
            problems.append(
                f"{layer}/{name} {tuple(variable.shape)}: has shape "
                f"{tuple(arrays[layer, name].shape)} in the file"
            )
    for layer, name in arrays.keys() - variables.keys():
        problems.append(
            f"{layer}/{name} {tuple(arrays[layer, name].shape)} of the file: not in the model"
        )
    if problems:
        raise ValueError(f"{source} must fit model {model.name!r}: " + "; ".join(sorted(problems)))
    for key, variable in variables.items():
        variable.assign(arrays[key])
