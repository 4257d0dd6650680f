"""Hugging Face: a data set with a column of images and one of label maps."""

import collections
import functools
import io
import os
from pathlib import Path
from typing import Any

import numpy as np

from keras_fcn.data.formats.classes import Classes, class_names, label_space
from keras_fcn.data.formats.source import Item, Source, ignore_class_for
from keras_fcn.data.image_files import decode
from keras_fcn.data.label_map_files import is_colour, read_label_map
from keras_fcn.io.extras import check_installed

_IMAGE_COLUMNS = ("image", "pixel_values", "img")
_DIGITS = 6


def hugging_face(
    source: str | os.PathLike,
    *,
    image_column: str | None = None,
    label_column: str | None = None,
    classes: Classes = None,
) -> Source:
    """Reads a data set of Hugging Face, with its splits.

    Label maps are images of class ids; 255 is ignored. The images are written as they are stored,
    named by their number in the split.

    Args:
        source: Folder of `save_to_disk`, folder of Parquet files or of images, Parquet file, or the
            name of a data set, which is downloaded.
        image_column: Column of the images, by default `image` or the first of images.
        label_column: Column of the label maps, by default the only other column of images.
        classes: Names of the classes 0, 1, ..., or a file such as id2label.json, see `class_names`.
            Without them the classes are numbered. Without them, or with two, every label map is
            read twice.

    Raises:
        FileNotFoundError: If there is no such data set.
        ImportError: If datasets is not installed.
        ValueError: If a column is not found, or all label maps are masks of 0 and 255.
    """
    check_installed("hf", ("datasets",), "for data sets of Hugging Face")
    given, splits = class_names(classes), _splits(source)
    items = []
    for split, data in splits.items():
        image, label = _columns(source, data, image_column, label_column)
        data = _undecoded(data.select_columns([image, label]))
        for index in range(len(data)):
            origin = f"{source}{f', split {split}' if split else ''}, row {index}"
            read = functools.partial(_content, data, index)
            draw = functools.partial(_draw, read, label, f"The {label} of {origin}")
            items.append(
                Item(
                    f"{index:0{_DIGITS}}",
                    functools.partial(read, image, origin),
                    draw,
                    origin,
                    None,
                    split,
                )
            )
    names, ignore_class = given, ignore_class_for(len(given or ()))
    if names is None or len(names) == 2:
        values = _values(items)
        _check_not_binary(source, values)
        if names is None:
            names, ignore_class = _numbered(values)
    space = label_space(names, ignore_class)
    path = Path(source)
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return Source(space, items, collections.Counter(), files)


def _splits(source):
    import datasets

    path = Path(source)
    try:
        if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
            data = datasets.load_from_disk(str(path))
        elif path.is_file():
            data = datasets.load_dataset("parquet", data_files=str(path), split="train")
        else:
            data = datasets.load_dataset(str(source))
    # datasets raises an IndexError for a stored data set without rows.
    except (OSError, ValueError, RuntimeError, IndexError) as error:
        kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
        raise kind(
            f"`source` must be a data set of Hugging Face: a folder, a Parquet file or a name. "
            f"Received: source={source}: {error}"
        ) from None
    return dict(data) if isinstance(data, dict) else {None: data}


def _columns(source, data, image_column, label_column):
    import datasets

    kinds = data.features.items()
    columns = [name for name, kind in kinds if isinstance(kind, datasets.Image)]
    known = [name for name in _IMAGE_COLUMNS if name in columns]
    image = image_column or next(iter(known + columns), None)
    others = [name for name in columns if name != image]
    label = label_column or (others[0] if len(others) == 1 else None)
    for name, kind in ((image, "image"), (label, "label")):
        if name not in columns:
            raise ValueError(
                f"{source} must have a column of images and one of label maps, both of images. "
                f"Received: {name or 'no choice'} among {', '.join(columns) or 'none'}. "
                f"Name it as `{kind}_column` (--{kind}-column)."
            )
    if image == label:
        raise ValueError(
            "`image_column` and `label_column` (--image-column, --label-column) must be two "
            f"columns. Received: {image} for both."
        )
    return image, label


def _undecoded(data):
    """Returns the data set with images as the bytes of their files."""
    import datasets

    for name in data.column_names:
        data = data.cast_column(name, datasets.Image(decode=False))
    return data


class _File(io.BytesIO):
    """Bytes with a name, for the messages of `read_label_map`."""

    def __init__(self, content, name):
        super().__init__(content)
        self._name = name

    def __str__(self):
        return self._name


def _content(data, index, column, origin):
    cell: Any = data[index][column]
    if cell is None:
        raise ValueError(f"{origin} must have an image and a label map. Received: no {column}.")
    if cell["bytes"] is not None:
        return cell["bytes"]
    return Path(cell["path"]).read_bytes()


def _draw(read, column, origin, size):
    file = _File(read(column, origin), origin)
    if is_colour(image := decode(file, pixels=False)[0]):
        # `read_label_map` would advise a palette, for which this import has no option.
        raise ValueError(
            f"{origin} must hold one class id per pixel. Received: a colour image (Pillow's mode "
            f"{image.mode}). Save the images and label maps as files, and import them by their "
            "colours: keras-fcn data import masks."
        )
    file.seek(0)
    return read_label_map(file)


def _values(items):
    """Returns the values of all label maps, each once."""
    values = np.zeros(0, "int32")
    for item in items:
        values = np.union1d(values, item.draw((0, 0)))
    return values


def _check_not_binary(source, values):
    if values.tolist() == [0, 255]:
        raise ValueError(
            f"{source} must hold label maps of class ids. Received: 0 and 255 alone, as in masks "
            "of one class, and 255 would be ignored. Save 1 instead of 255; or save images and "
            "masks as files, and import those with keras-fcn data import masks (--map 255=1)."
        )


def _numbered(values):
    """Returns numbered classes and the ignored class for the values of label maps."""
    # Where there are larger class ids, 255 is a class.
    largest = int(max((value for value in values if value not in (255, 65535)), default=0))
    ignore_class = ignore_class_for(largest + 1)
    if ignore_class not in values:
        ignore_class = None
    return [f"class {class_id}" for class_id in range(max(largest, 1) + 1)], ignore_class
