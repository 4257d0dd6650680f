"""PASCAL VOC's folders of images, label maps and lists of splits; CVAT's with colours."""

import collections
import functools
import os
import re
import unicodedata
from pathlib import Path

from keras_fcn.data.files import IMAGE_SUFFIXES, one_file_per_name
from keras_fcn.data.formats.classes import (
    Classes,
    class_names,
    is_label_colours,
    label_space,
    read_label_colours,
    read_lines,
)
from keras_fcn.data.formats.pixels import read_colours
from keras_fcn.data.formats.source import (
    Item,
    Source,
    as_folder,
    ignore_class_for,
    relative_path,
)
from keras_fcn.data.label_map_files import read_label_map
from keras_fcn.label_spaces import PASCAL_VOC, LabelSpace

_BORDER = (224, 224, 192)
_IMAGES, _LABELS, _LISTS = "JPEGImages", "SegmentationClass", "ImageSets/Segmentation"


def voc(
    source: str | os.PathLike, *, images: str | os.PathLike | None = None, classes: Classes = None
) -> Source:
    """Reads PASCAL VOC's folders `SegmentationClass`, `JPEGImages` and `ImageSets/Segmentation`.

    Label maps hold class ids or colours; 255, or the colour of the border, is ignored. The splits
    are those of `ImageSets/Segmentation/*.txt`; `trainval` is left out next to `train` and `val`.

    Args:
        source: Folder such as `VOCdevkit/VOC2012`.
        images: Folder of the images, by default `JPEGImages`.
        classes: Names of the classes 0, 1, ..., or a labelmap.txt with their colours, see
            `class_names`. By default VOC's 21.

    Raises:
        FileNotFoundError: If a folder or an image is missing.
        ValueError: If `classes` is not as described.
    """
    if classes is not None and is_label_colours(classes):
        space, colours = _of_colours(read_label_colours(Path(classes)))  # type: ignore[arg-type]
    else:
        names = class_names(classes)
        space = PASCAL_VOC if names is None else label_space(names, ignore_class_for(len(names)))
        colours = {colour: class_id for class_id, colour in enumerate(space.palette)}
        colours.setdefault(_BORDER, space.ignore_class or 0)
    read = functools.partial(read_label_map, palette=colours)
    return _source(source, images, space, read)


def cvat(source: str | os.PathLike, *, images: str | os.PathLike | None = None) -> Source:
    """Reads CVAT's "Segmentation mask 1.1": label maps in the colours of `labelmap.txt`.

    The classes have the order of `labelmap.txt`, but for the background, which comes first.

    Args:
        source: The extracted folder.
        images: Folder of the images, by default `JPEGImages`.

    Raises:
        FileNotFoundError: If a folder, an image or `labelmap.txt` is missing.
        ValueError: If `labelmap.txt` is not as described.
    """
    folder = as_folder(source)
    space, colours = _of_colours(read_label_colours(folder / "labelmap.txt"))
    result = _source(folder, images, space, functools.partial(read_colours, colours=colours))
    result.files.append(folder / "labelmap.txt")
    return result


def _of_colours(colour_of):
    """Returns the label space of a dictionary of names to colours, and the class id of each."""
    names = sorted(colour_of, key=lambda name: name.lower() != "background")
    palette = [colour_of[name] for name in names]
    ignore_class = ignore_class_for(len(names))
    colours = {colour: class_id for class_id, colour in enumerate(palette)}
    colours.setdefault(_BORDER, ignore_class)
    label_space(names, None)  # Checks that there are two.
    return LabelSpace(tuple(names), tuple(palette), ignore_class), colours


def _source(source, images, space, read):
    folder = as_folder(source)
    labels = one_file_per_name("source", as_folder(folder / _LABELS), (".png",))
    images = as_folder(images or folder / _IMAGES, "images")
    image_files = one_file_per_name("images", images, IMAGE_SUFFIXES)
    left_out: collections.Counter = collections.Counter()
    items, used = [], set()
    for split, names in _splits(folder, labels).items():
        for name in names:
            if name not in labels:
                place = f" in {split}" if split is not None else ""
                left_out[f"names{place} without a label map"] += 1
                continue
            if name not in image_files:
                raise FileNotFoundError(
                    f"{labels[name]} has no image in {images}. Pass the folder of the images "
                    "(--images)."
                )
            used.add(name)
            path = labels[name]
            draw = functools.partial(_draw, read, path)
            items.append(Item(name, image_files[name], draw, str(path), None, split))
    left_out["label maps in no split"] = len(labels.keys() - used)
    return Source(space, items, left_out, [labels[name] for name in used])


def _draw(read, path, size):
    """Reads a label map, of whatever size it is."""
    return read(path)


def _splits(folder, labels):
    files = {path.stem: path for path in sorted((folder / _LISTS).glob("*.txt"))}
    if not files:
        return {None: sorted(labels)}
    if {"train", "val"} <= files.keys():
        files.pop("trainval", None)
    splits = {split: _names(path) for split, path in files.items()}
    # CVAT exports everything as the split "default".
    return {None: splits["default"]} if list(splits) == ["default"] else splits


def _names(path):
    # CVAT quotes a name that holds a space; any other quote is part of the name.
    lines = [re.sub(r'^"(.*)"$', r"\1", line) for line in read_lines(path)]
    # As the names of the files in `one_file_per_name`.
    names = [unicodedata.normalize("NFC", relative_path(line, str(path))) for line in lines if line]
    return list(dict.fromkeys(names))
