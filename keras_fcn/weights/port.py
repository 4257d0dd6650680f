"""Sets a model's variables from named arrays: all or none."""

import collections
from collections.abc import Collection, Iterable, Iterator

import keras
import numpy as np

from keras_fcn.weights.entries import Entries

# Enough for every layer of an FCN; more problems mean a file of another network.
_MAX_PROBLEMS = 100


def variables_of(
    model: keras.Model, prefix: str = ""
) -> Iterator[tuple[tuple[str, str], keras.Variable]]:
    """Yields the variables of a model with the names that they have in `Entries`.

    A layer of a model inside, such as a backbone, has the name "model/layer", and its variables are
    numbered: batch normalization has others than `"kernel"` and `"bias"`.
    """
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from variables_of(layer, f"{prefix}{layer.name}/")
            continue
        for index, variable in enumerate(layer.weights):
            yield (prefix + layer.name, numbered(index) if prefix else variable.name), variable


def numbered(index: int) -> str:
    """Returns the name of a variable that is known by its place in the layer only."""
    return f"variable {index}"


def with_names_of(model: keras.Model, entries: Entries) -> Entries:
    """Returns entries under the names of the model's layers if only Keras's numbers differ.

    Keras counts unnamed layers over the whole process: a backbone that is built a second time has
    layers "conv2d_2" and "conv2d_3" where the first one has "conv2d" and "conv2d_1".

    Args:
        model: The model.
        entries: Arrays of another one; those outside models inside keep their names.
    """
    own = _ranked({layer for (layer, _), _ in variables_of(model) if "/" in layer})
    others = _ranked({layer for layer, _ in entries if "/" in layer})
    if own.keys() == others.keys() or set(own.values()) != set(others.values()):
        return entries
    names = {rank: layer for layer, rank in own.items()}
    return {
        (names[others[layer]] if layer in others else layer, variable): entry
        for (layer, variable), entry in entries.items()
    }


def _ranked(layers: Iterable[str]) -> dict[str, tuple[tuple[str, int], ...]]:
    """Returns each name with the rank of its number among its siblings in place of the number."""
    paths = {layer: layer.split("/") for layer in layers}
    numbers = collections.defaultdict(set)
    for path in paths.values():
        for depth, part in enumerate(path):
            stem, number = _stem_and_number(part)
            numbers[*path[:depth], stem].add(number)
    ranks = {key: sorted(found) for key, found in numbers.items()}
    return {
        layer: tuple(
            (stem, ranks[*path[:depth], stem].index(number))
            for depth, (stem, number) in enumerate(map(_stem_and_number, path))
        )
        for layer, path in paths.items()
    }


def _stem_and_number(name):
    stem, _, digits = name.rpartition("_")
    return (stem, int(digits)) if stem and digits.isdecimal() else (name, 0)


def port(model: keras.Model, entries: Entries, *, source: str, kept: Collection[str] = ()) -> None:
    """Validates all arrays, names and shapes first, and assigns each to the variable of its name.

    Args:
        model: A built `keras.Model`.
        entries: Dictionary from (layer name, variable name) to an `Entry`.
        source: Name of the source, for the error.
        kept: Names of the layers whose variables keep their values.

    Raises:
        ValueError: If a variable has no array, an array has no variable, shapes differ, or an array
            cannot be read or holds NaN or infinity. The message lists all problems, and the model
            is unchanged.
    """
    variables = {
        key: variable
        for key, variable in variables_of(model)
        if key[0] not in kept and not key[0].startswith("drop")
    }
    problems = []
    for (layer, name), variable in variables.items():
        if (layer, name) not in entries:
            problems.append(f"{layer}/{name} {tuple(variable.shape)}: missing in the file")
        elif entries[layer, name].shape != tuple(variable.shape):
            problems.append(
                f"{layer}/{name} {tuple(variable.shape)}: has shape {entries[layer, name].shape} "
                "in the file"
            )
        elif (dtype := entries[layer, name].dtype).kind not in "fiu" or dtype.itemsize > 8:
            problems.append(f"{layer}/{name}: holds {dtype} in the file, not numbers")
    for layer, name in entries.keys() - variables.keys():
        problems.append(
            f"{layer}/{name} {entries[layer, name].shape} of the file: not in the model"
        )
    if problems:
        problems.sort()
        more = len(problems) - _MAX_PROBLEMS
        problems[_MAX_PROBLEMS:] = [f"and {more} more"] if more > 0 else []
        raise ValueError(f"{source} must fit model {model.name!r}: {'; '.join(problems)}.")
    # Damage may be found only when values are read. Reading them twice takes less memory than
    # holding all of them.
    for key in variables:
        _check_finite(_read(entries[key], key, source), key, source)
    for key, variable in variables.items():
        variable.assign(_read(entries[key], key, source))


def _read(entry, key, source):
    try:
        array = entry.read()
        if array.shape != entry.shape:
            raise ValueError(f"it holds an array of shape {array.shape}")
    except Exception as error:  # Readers raise errors of any class for damaged files.
        raise ValueError(
            f"{source} must be whole. Received: {'/'.join(key)} is damaged ({error})."
        ) from error
    with np.errstate(over="ignore"):  # Becomes infinite.
        return array.astype("float32", copy=False)


def _check_finite(array, key, source):
    # Smallest and largest value need no memory, unlike `np.isfinite` of the whole array.
    if array.size == 0 or (np.isfinite(array.min()) and np.isfinite(array.max())):
        return
    count = array.size - np.count_nonzero(np.isfinite(array))
    raise ValueError(
        f"{source} must hold finite weights. Received: {'/'.join(key)}, in which {count} of "
        f"{array.size} values are NaN or infinite in float32."
    )
