"""Checks of the files that a command is to write, before its work begins."""

import functools
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from keras_fcn.io.links import check_links


def check_file(option: str, path: str | os.PathLike, inputs: Iterable[Path] = ()) -> None:
    """Raises an error unless a file can be written.

    Args:
        option: Name of the option that selects the file.
        path: The file, which may exist.
        inputs: Files to read, see `check_inputs_are_kept`.

    Raises:
        FileNotFoundError: If the folder of the file does not exist.
        ValueError: If the file is a folder, its folder cannot be written, or it is an input.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{option} must lie in an existing folder. Received: {path}.")
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise ValueError(f"{option} must be a file that can be written. Received: {path}.")
    check_inputs_are_kept([path], inputs, option)


def check_folder(option: str, path: str | os.PathLike) -> None:
    """Raises an error unless files can be written in a folder, which need not exist yet.

    Raises:
        FileNotFoundError: As `check_links`.
        ValueError: If it cannot.
    """
    check_links(path)
    if Path(path).exists() and not Path(path).is_dir():
        raise ValueError(f"{option} must be a folder. Received: {path}, a file.")
    parent = next(place for place in (Path(path), *Path(path).absolute().parents) if place.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise ValueError(f"{option} must be a folder that can be written. Received: {path}.")


def check_plot(option: str, path: str | os.PathLike, inputs: Iterable[Path] = ()) -> None:
    """Raises an error unless Matplotlib can write a plot to a file, see `check_file`.

    Raises:
        ValueError: Also if Matplotlib has no format of this suffix.
    """
    from matplotlib.figure import Figure

    _check_suffix(option, path, [f".{name}" for name in Figure().canvas.get_supported_filetypes()])
    check_file(option, path, inputs)


def check_picture(option: str, path: str | os.PathLike, inputs: Iterable[Path] = ()) -> None:
    """Raises an error unless Pillow can write a picture to a file, see `check_file`.

    Raises:
        ValueError: Also if Pillow has no format of this suffix.
    """
    from PIL import Image

    formats = Image.registered_extensions()
    _check_suffix(option, path, [suffix for suffix in formats if formats[suffix] in Image.SAVE])
    check_file(option, path, inputs)


def _check_suffix(option, path, suffixes):
    if Path(path).suffix.lower() not in suffixes:
        raise ValueError(f"{option} must end in a picture's suffix, .png. Received: {path}.")


def check_inputs_are_kept(
    outputs: Iterable[Path], inputs: Iterable[Path], option: str = "--out"
) -> None:
    """Raises a ValueError if a file to write is one of the files to read, also through a link.

    Args:
        outputs: Files to write.
        inputs: Files to read.
        option: Name of the option that selects the files to write.
    """
    read = {_identity(path) for path in inputs if path.exists()}
    for path in outputs:
        if path.exists() and _identity(path) in read:
            raise ValueError(f"{option} must be elsewhere: {path} would be overwritten.")


def check_outputs_differ(outputs: Mapping[Path, Iterable[Path]], folder: Path) -> None:
    """Raises a ValueError if two inputs would write the same file, or one below another's file.

    Args:
        outputs: Dictionary from each input to the files and folders to write.
        folder: Folder of all of them, which need not exist yet. On a disk that ignores case, as
            those of Windows and macOS do, names that differ in case alone are one file.
    """
    owners: dict[Path, Path] = {}
    in_lower_case: dict[str, Path] = {}
    ignores_case = functools.cache(_ignores_case)

    def check(path, source):
        if path in owners and owners[path] != source:
            raise _same_outputs(owners[path], source)
        other = in_lower_case.get(str(path).casefold(), path)
        if other != path and owners[other] != source and ignores_case(folder):
            raise _same_outputs(
                owners[other], source, f" On the disk of {folder}, case is ignored."
            )

    for source, paths in outputs.items():
        for path in paths:
            check(path, source)
            owners[path] = source
            in_lower_case.setdefault(str(path).casefold(), path)
    for path, source in owners.items():
        for parent in path.relative_to(folder).parents:
            check(folder / parent, source)


def _same_outputs(first, second, reason=""):
    return ValueError(
        "Inputs must differ in their names without folder and suffix, which name the outputs."
        f"{reason} Received: {first} and {second}."
    )


def _ignores_case(folder):
    """Returns whether names in a folder, or in the one in which it is to be made, ignore case."""
    while not folder.is_dir():
        folder = folder.parent
    try:
        with tempfile.NamedTemporaryFile(prefix="a", dir=folder) as file:
            return os.path.exists(os.path.join(folder, os.path.basename(file.name).swapcase()))
    except OSError:  # It cannot be written, which the first output shows.
        return False


def _identity(path):
    """Returns what is equal for two names of one file."""
    found = path.stat()
    return found.st_dev, found.st_ino
