"""Checkpoints of a training run: everything that the next step depends on, in one file."""

import contextlib
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

_FACTS = "facts.json"

Variables = Mapping[str, Sequence[keras.Variable]]
"""Lists of variables in a fixed order, by the name of the group."""


class NotFiniteError(ValueError):
    """A value of a checkpoint is infinite or NaN."""


def save_state(path: str | os.PathLike, variables: Variables, facts: dict[str, Any]) -> None:
    """Writes variables and metadata.

    Args:
        path: The file, which is not written atomically: pass a path of `io.atomic.atomic_write`.
        variables: Groups of Keras variables, such as those of the model, by the group's name.
        facts: Metadata as JSON values.

    Raises:
        NotFiniteError: If a value is not finite.
        OSError: If the file cannot be written.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        archive.writestr(_FACTS, json.dumps(facts))
        for name, variable in _named(variables):
            value = keras.ops.convert_to_numpy(variable)
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise NotFiniteError(f"{value.ravel()[~np.isfinite(value.ravel())][0]}")
            with archive.open(name, "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asarray(value, order="C"), allow_pickle=False)


def read_facts(path: str | os.PathLike) -> dict[str, Any]:
    """Returns the metadata of a checkpoint.

    Raises:
        ValueError: If the file is damaged.
    """
    with _opened(path) as archive:
        return json.loads(archive.read(_FACTS))


def restore_state(path: str | os.PathLike, variables: Variables) -> None:
    """Sets variables from a file.

    Args:
        path: The file.
        variables: As in `save_state`, with the same groups and shapes.

    Raises:
        ValueError: If the file is damaged, or belongs to another model or optimizer.
    """
    named = dict(_named(variables))
    with _opened(path) as archive:
        names = set(archive.namelist()) - {_FACTS}
        if names != named.keys():
            different = sorted(names ^ named.keys())
            raise _other_model(
                path,
                f"{len(names)} variables for {len(named)}; {different[0]} is only in one of them",
            )
        for name, variable in named.items():
            with archive.open(name) as entry:
                value = np.lib.format.read_array(entry, allow_pickle=False)
                # zipfile checks the checksum only at the end of the entry.
                entry.read()
            if value.shape != tuple(variable.shape):
                shapes = f"shape {value.shape} for {tuple(variable.shape)}"
                raise _other_model(path, f"{name} of {shapes}")
            variable.assign(value)


def _other_model(path, received):
    return ValueError(
        f"{path} must be the state of this model and optimizer. Received: {received}."
    )


@contextlib.contextmanager
def _opened(path):
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, EOFError, KeyError) as error:
        raise ValueError(f"{path} is damaged: {error}.") from error


def _named(variables):
    for group, members in variables.items():
        for place, variable in enumerate(members):
            yield f"{group}/{place:03d}.npy", variable
