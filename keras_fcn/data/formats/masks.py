"""Masks in an arrangement of their own: values, colours, or a binary file for each class."""

import collections
import functools
import os
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_fcn.data.files import IMAGE_SUFFIXES, LABEL_MAP_SUFFIXES, one_file_per_name
from keras_fcn.data.formats.classes import Classes, class_names, label_space
from keras_fcn.data.formats.pixels import read_binary, read_colours, read_values
from keras_fcn.data.formats.source import (
    Item,
    Source,
    as_folder,
    ignore_class_for,
    is_background,
    with_background,
)

_IGNORED = "ignore"
_PIXEL = r"\d+(,\d+,\d+)?"


def masks(
    source: str | os.PathLike,
    *,
    images: str | os.PathLike | None = None,
    mapping: Mapping[Any, str | int] | None = None,
    classes: Classes = None,
) -> Source:
    """Reads masks whose values, colours, folders or suffixes stand for classes.

    Args:
        source: Folder of the masks, with or without subfolders.
        images: Folder of the images, of the same names.
        mapping: Dictionary from what a mask holds to a class. Keys are values (255), colours
            (128, 0, 0), or names: those of subfolders with a binary mask for each image, or
            suffixes of file names (`"_cat"` of `1_cat.png`). Values are class ids, names of
            classes, or `"ignore"`. Class 0 is the background, and so are the value 0 and black
            unless they are keys. Binary masks hold 0 and one other value; where several overlap,
            the last of `mapping` is on top. By default, subfolders are classes in alphabetical
            order; without any, `{255: 1}`.
        classes: Names of the classes 0, 1, ..., see `class_names`.

    Raises:
        FileNotFoundError: If a folder is missing.
        ValueError: If `mapping` is not as described, or a folder has no such files, or no mask has
            the name of an image.
    """
    folder = as_folder(source)
    if images is None:
        raise ValueError("The folder of the images must be given (--images). Received: none.")
    image_files = one_file_per_name("images", as_folder(images, "images"), IMAGE_SUFFIXES)
    mask_files = one_file_per_name("source", folder, LABEL_MAP_SUFFIXES)
    given = mapping or _default(folder, image_files, mask_files)
    keys = {_as_text(key): str(target) for key, target in given.items()}
    names, class_ids, ignore_class = _classes(keys, class_names(classes))
    lengths = {len(key.split(",")) if re.fullmatch(_PIXEL, key) else 0 for key in keys}
    if len(lengths) > 1:
        raise ValueError(
            "`mapping` (--map) must have keys of one kind: values, colours or names. Received: "
            f"{', '.join(keys)}."
        )
    if lengths == {0}:
        parts_of = _parts(folder, class_ids, mask_files)
        draw = _draw_binary
    else:
        parts_of = {name: [path] for name, path in mask_files.items()}
        draw = functools.partial(_draw_pixels, _by_pixel(class_ids))
    matched = sorted(image_files.keys() & parts_of.keys())
    used = [part for name in matched for part in parts_of[name]]
    left_out = collections.Counter(
        {
            "images without a mask": len(image_files) - len(matched),
            "masks without an image": len(mask_files) - len(used),
        }
    )
    if not matched:
        raise ValueError(
            "Masks must have the names of their images. Received: masks such as "
            f"{min(parts_of or mask_files)}, images such as {min(image_files)}."
        )
    items = []
    for name in matched:
        image, parts = image_files[name], parts_of[name]
        items.append(Item(name, image, functools.partial(draw, parts), f"The mask of {image}"))
    files = [part if isinstance(part, Path) else part[1] for part in used]
    return Source(label_space(names, ignore_class), items, left_out, files)


def _as_text(key):
    """Returns a key as text; a name in Unicode's form of the names in `one_file_per_name`."""
    text = ",".join(map(str, key)) if isinstance(key, tuple) else str(key)
    return unicodedata.normalize("NFC", text)


def _default(folder, image_files, mask_files):
    names = sorted(
        unicodedata.normalize("NFC", path.name)
        for path in folder.iterdir()
        if path.is_dir() and path.name[0] != "."
    )
    if names and not image_files.keys() & mask_files.keys():
        return {name: name for name in names}
    return {"255": "1"}


def _classes(keys, given):
    """Returns the names of the classes, the class id of each key and that of ignored pixels."""
    targets = [target for target in keys.values() if target != _IGNORED]
    numbers = [bool(re.fullmatch(r"\d{1,5}", target)) for target in targets]
    if any(numbers) and not all(numbers):
        raise ValueError(f"`mapping` must hold class ids or names, not both. Received: {targets}.")
    if any(numbers):
        largest = max(map(int, targets))
        names = given or ["background", *(f"class {n}" for n in range(1, max(largest, 1) + 1))]
        if largest >= len(names):
            raise ValueError(
                f"`classes` (--classes) must name the class {largest}. "
                f"Received: {', '.join(names)}."
            )
        ids = {target: int(target) for target in targets}
    else:
        names = given or with_background(list(dict.fromkeys(targets)))
        known = [target for target in targets if target in names or is_background(target)]
        if wrong := [target for target in targets if target not in known]:
            raise ValueError(
                f"`mapping` must hold names of `classes` (--classes), {', '.join(names)}. "
                f"Received: {wrong[0]}."
            )
        ids = {target: names.index(target) if target in names else 0 for target in targets}
    ignore_class = ignore_class_for(len(names)) if _IGNORED in keys.values() else None
    return names, {key: ids.get(target, ignore_class) for key, target in keys.items()}, ignore_class


def _by_pixel(class_ids):
    """Returns the class ids of integers, or of colours."""
    keys = {tuple(map(int, key.split(","))): class_id for key, class_id in class_ids.items()}
    if len(next(iter(keys))) == 3:
        return {(0, 0, 0): 0, **keys}
    return {0: 0, **{value: class_id for (value,), class_id in keys.items()}}


def _draw_pixels(class_ids, parts, size):
    by_colour = isinstance(list(class_ids)[-1], tuple)
    return (read_colours if by_colour else read_values)(parts[0], class_ids)


def _parts(folder, class_ids, mask_files):
    """Returns the class id and file of each binary mask by name, in the order of the keys."""
    parts_of = collections.defaultdict(list)
    for key, class_id in class_ids.items():
        is_folder = any(file_name.startswith(f"{key}/") for file_name in mask_files)
        found = False
        for file_name, path in mask_files.items():
            name = file_name.removeprefix(f"{key}/") if is_folder else file_name.removesuffix(key)
            # Of the suffixes _cat and _big_cat, the longer one counts.
            longest = max(class_ids, key=lambda k: len(k) if file_name.endswith(k) else 0)
            if name != file_name and (is_folder or longest == key):
                parts_of[name].append((class_id, path))
                found = True
        if not found:
            raise ValueError(
                f"`mapping` (--map) must name subfolders of {folder} or ends of the names of its "
                f"files. Received: {key}, of which there is none."
            )
    return parts_of


def _draw_binary(parts, size):
    label_map = None
    for class_id, path in parts:
        region = read_binary(path)
        if label_map is None:
            label_map = np.zeros(region.shape, "int32")
        if region.shape != label_map.shape:
            raise ValueError(
                f"{path} must have the size of the other masks of its image, "
                f"{label_map.shape[1]}x{label_map.shape[0]} (width x height). "
                f"Received: {region.shape[1]}x{region.shape[0]}."
            )
        label_map[region] = class_id
    return label_map
