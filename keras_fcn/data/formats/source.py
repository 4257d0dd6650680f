"""What every format is read into: a label space, and pairs whose label maps are drawn later."""

import collections
import dataclasses
import json
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_fcn.data.files import IMAGE_SUFFIXES, find_file
from keras_fcn.label_spaces import LabelSpace

Draw = Callable[[tuple[int, int]], np.ndarray]
"""Returns the label map of an image of (height, width)."""


@dataclasses.dataclass(frozen=True)
class Item:
    """An image and how its label map is drawn.

    Args:
        name: Name in the folder of the split, without suffix; "/" separates folders.
        image: The file, or a function that returns its bytes.
        draw: Function of the (height, width) that returns class ids of that shape.
        size: (height, width) that the labelling tool states; `None` for that of the image as
            `read_image` returns it.
        split: Name of the split, `None` if there are no splits.
        origin: Where the labels are, for messages.
    """

    name: str
    image: Path | Callable[[], bytes]
    draw: Draw
    origin: str
    size: tuple[int, int] | None = None
    split: str | None = None


@dataclasses.dataclass
class Source:
    """Everything that a labelling tool has written, before a label map is drawn.

    Args:
        label_space: Its classes.
        items: Its pairs.
        left_out: What is not imported, with its number: {"lines": 3}.
        files: The files that the label maps depend on.
    """

    label_space: LabelSpace
    items: list[Item]
    left_out: collections.Counter
    files: list[Path]


def read_json(path: Path) -> Any:
    """Returns the content of a JSON file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no JSON; the message names the file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as JSON: {error}.") from None


def as_folder(folder: str | os.PathLike, argument: str = "source") -> Path:
    """Returns a folder as a path.

    Raises:
        FileNotFoundError: If there is no such folder.
    """
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"`{argument}` must be a folder. Received: {argument}={folder}.")
    return Path(folder)


def relative_path(name: Any, origin: str) -> str:
    """Returns a file name from a foreign file, with "/" between folders.

    Raises:
        ValueError: If it is no text, or leads out of the folder that it is relative to.
    """
    parts = name.replace("\\", "/").split("/") if isinstance(name, str) else []
    leads_out = (
        ".." in parts or parts[:1] == [""] or re.match("[A-Za-z]:", parts[0] if parts else "")
    )
    if leads_out or not any(parts) or "\0" in name:
        raise ValueError(
            f"{origin} must name its files by relative paths without '..'. Received: {name!r}. "
            "Edit the names to begin in the folder of the images."
        )
    return "/".join(part for part in parts if part not in ("", "."))


def find_image(name: str, folders: Iterable[Path], origin: str) -> Path:
    """Returns the file of a relative path in the first folder that has it, see `find_file`.

    Raises:
        FileNotFoundError: If none has it.
    """
    folders = list(dict.fromkeys(folders))
    for folder in folders:
        if (file := find_file(folder, name)) is not None:
            return file
    raise FileNotFoundError(
        f"{origin} names the image {name}, which is not in {' or '.join(map(str, folders))}. Pass "
        "the folder of the images (--images)."
    )


def stem(name: str) -> str:
    """Returns a relative path without the suffix of an image file, if it has one."""
    start, suffix = os.path.splitext(name)
    return start if suffix.lower() in IMAGE_SUFFIXES else name


def ignore_class_for(num_classes: int) -> int:
    """Returns the class id of ignored pixels: 255, or 65535 where 255 is a class."""
    return 255 if num_classes <= 255 else 65535


def with_background(names: Sequence[str]) -> list[str]:
    """Returns class names that begin with "background", under which no other class may be."""
    return ["background", *(name for name in names if not is_background(name))]


def is_background(label: str | None) -> bool:
    """Returns whether a label is the name of class 0, in any case and also as labelme writes it."""
    return label is not None and label.lower() in ("background", "_background_")


def one_per_name(items: Iterable[Item]) -> list[Item]:
    """Returns the pairs, of which no two may have the same name in the same split.

    Raises:
        ValueError: If two have; the message names both origins.
    """
    seen: dict = {}
    for item in items:
        key = item.split, unicodedata.normalize("NFC", item.name)
        if (other := seen.setdefault(key, item)) is not item:
            raise ValueError(
                f"A name must have one image, whatever its suffix. Received: {item.name} twice, in "
                f"{other.origin} and {item.origin}. Rename one of them."
            )
    return list(seen.values())
