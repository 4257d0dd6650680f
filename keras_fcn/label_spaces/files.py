"""Reads label spaces from TOML and JSON files."""

import json
import os
import tomllib
from typing import Any

from keras_fcn.arguments import as_path
from keras_fcn.label_spaces.label_space import LabelSpace, voc_palette

_LOADERS = {".toml": tomllib.loads, ".json": json.loads}
_KEYS = ("class_names", "palette", "ignore_class", "ignore_colour")


def from_file(path: str | os.PathLike) -> LabelSpace:
    """Reads a label space from a TOML or JSON file.

    The file holds `class_names`, a list of strings, and optionally `palette`, a list of colours
    [red, green, blue], `ignore_class`, an integer, and `ignore_colour`, its colour in label maps:

        class_names = ["road", "car"]
        palette = [[128, 64, 128], [64, 0, 128]]
        ignore_class = 255
        ignore_colour = [0, 0, 0]

    The default palette is PASCAL VOC's. Without `ignore_class` no pixel is ignored.

    Args:
        path: A .toml or .json file, in UTF-8 with or without a byte order mark.

    Returns:
        `LabelSpace`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is neither TOML nor JSON, lacks `class_names`, has unknown keys, or
            holds invalid arguments of `LabelSpace`. The message names the file.
    """
    path = as_path("path", path)
    content = _read(path)
    if unknown := sorted(content.keys() - set(_KEYS)):
        raise ValueError(f"{path} must hold only {', '.join(_KEYS)}. Received: {unknown}.")
    if "class_names" not in content:
        raise ValueError(
            f"{path} must hold `class_names`, a list of strings. Received: {sorted(content)}."
        )
    class_names: Any = content["class_names"]
    palette: Any = content.get("palette")
    if not isinstance(class_names, list):
        raise ValueError(f"{path}: `class_names` must be a list. Received: {class_names!r}.")
    if palette is None:
        palette = voc_palette(len(class_names))
    elif not _is_list_of_lists(palette):
        raise ValueError(
            f"{path}: `palette` must be a list of colours [red, green, blue]. "
            f"Received: {palette!r}."
        )
    ignore_colour: Any = content.get("ignore_colour")
    if not isinstance(ignore_colour, list | None):
        raise ValueError(
            f"{path}: `ignore_colour` must be [red, green, blue]. Received: {ignore_colour!r}."
        )
    try:
        return LabelSpace(class_names, palette, content.get("ignore_class"), ignore_colour)  # type: ignore[arg-type]
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _read(path):
    load = _LOADERS.get(path.suffix.lower())
    if load is None:
        raise ValueError(f"`path` must end in .toml or .json. Received: path={path}.")
    try:
        content = load(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as {path.suffix[1:].upper()}: {error}.") from None
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} must hold an object with `class_names`. Received: a {type(content).__name__}."
        )
    return content


def _is_list_of_lists(value):
    return isinstance(value, list) and all(isinstance(item, list) for item in value)
