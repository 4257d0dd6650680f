"""Reads the names and colours of classes from an option or a file."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from keras_fcn.label_spaces import LabelSpace, from_file, voc_palette
from keras_fcn.label_spaces.label_space import Colour

Classes = str | os.PathLike | Sequence[str] | None
"""Names, text with commas between names, or a file, see `class_names`."""


_MOST_CLASSES = 65535  # Of PNG's 16 bits, the last value is left to ignored pixels.


def class_names(classes: Classes) -> list[str] | None:
    """Returns names of classes, `None` for `None`.

    Args:
        classes: The names in order, as a sequence or as text with commas between them; or a file: a
            .txt file with one name per line, CVAT's labelmap.txt, a .toml or .json label space, or
            a .json file with a list of names or a dictionary from class id to name, such as
            id2label.json.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a name is missing or there twice.
    """
    if classes is None:
        return None
    if not isinstance(classes, str | os.PathLike):
        return _checked(list(classes), classes)
    path = Path(classes)
    if path.suffix.lower() not in (".txt", ".toml", ".json"):
        return _checked([name.strip() for name in str(classes).split(",")], classes)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path} of classes (--classes).")
    return _checked(_from_file(path), path)


def label_space(names: Sequence[str], ignore_class: int | None) -> LabelSpace:
    """Returns a label space in PASCAL VOC's colours."""
    if len(names) < 2:
        raise ValueError(
            f"There must be at least 2 classes. Received: {', '.join(names) or 'none'}. Name the "
            "classes (--classes)."
        )
    if len(names) > _MOST_CLASSES:
        raise ValueError(
            f"There must be at most {_MOST_CLASSES} classes, as label maps have 16 bits. Received: "
            f"{len(names)}. If the largest values are no class ids, map or remove them."
        )
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise ValueError(
                f"Names of classes must be Unicode text. Received: {name!r}. If it is the name of "
                "a folder, rename it."
            ) from None
    return LabelSpace(tuple(names), voc_palette(len(names)), ignore_class)


def read_label_colours(path: Path) -> dict[str, Colour]:
    """Reads CVAT's labelmap.txt: lines of `name:red,green,blue:parts:actions`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a line has no colour, or a name or colour is there twice.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}, which holds the names and colours.")
    colours: dict[str, Colour] = {}
    for number, line in enumerate(read_lines(path), start=1):
        if not line or line.startswith("#"):
            continue
        name, *rest = line.split(":")
        values = rest[0].split(",") if rest else []
        if len(values) != 3 or not all(value.strip().isdecimal() for value in values):
            raise ValueError(
                f"{path}, line {number}: must be name:red,green,blue:parts:actions. "
                f"Received: {line}"
            )
        colour = tuple(map(int, values))
        if name in colours or colour in colours.values() or max(colour) > 255:
            raise ValueError(
                f"{path}, line {number}: each name must have one colour of its own, of values up "
                f"to 255. Received: {line}"
            )
        colours[name] = colour  # type: ignore[assignment]
    return colours


def is_label_colours(classes: Classes) -> bool:
    """Returns whether `classes` is a file in the format of CVAT's labelmap.txt."""
    if not isinstance(classes, str | os.PathLike) or not str(classes).endswith(".txt"):
        return False
    lines = read_lines(Path(classes)) if Path(classes).is_file() else []
    lines = [line for line in lines if line and not line.startswith("#")]
    return bool(lines) and all(line.count(":") == 3 for line in lines)


def read_lines(path: Path) -> list[str]:
    """Returns the lines of a text file, without the white space around them.

    Raises:
        ValueError: If the file is not in UTF-8; the message names it.
    """
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be a text file in UTF-8. Received: {error}.") from None


def _from_file(path):
    if is_label_colours(path):
        return list(read_label_colours(path))
    if path.suffix.lower() == ".txt":
        return [line for line in read_lines(path) if line]
    if path.suffix.lower() == ".json":
        try:
            content = json.loads(path.read_text(encoding="utf-8-sig"))
        except ValueError as error:
            raise ValueError(f"{path} cannot be read as JSON: {error}.") from None
        if isinstance(content, list):
            return content
        if isinstance(content, Mapping) and all(key.isdecimal() for key in content):
            by_id = {int(key): name for key, name in content.items()}
            return [by_id.get(class_id, f"class {class_id}") for class_id in range(max(by_id) + 1)]
    return list(from_file(path).class_names)


def _checked(names, classes):
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"`classes` must hold names without gaps. Received: {classes!s}.")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"`classes` must hold no name twice. Received twice: {twice}.")
    return names
