"""Kaggle's CSV files of run lengths, and a folder of images."""

import collections
import csv
import functools
import os
import re
import unicodedata
from pathlib import Path

import numpy as np

from keras_fcn.data.files import IMAGE_SUFFIXES, visible_files
from keras_fcn.data.formats.classes import Classes, class_names, label_space
from keras_fcn.data.formats.source import (
    Item,
    Source,
    as_folder,
    is_background,
    stem,
    with_background,
)
from keras_fcn.spelling import counted

# Names of columns in Kaggle's competitions, in lower case without "_".
_IMAGE_COLUMNS = (
    "imageid",
    "image",
    "id",
    "img",
    "imagename",
    "filename",
    "imageidclassid",
    "imagelabel",
)
_RLE_COLUMNS = (
    "encodedpixels",
    "rle",
    "rlemask",
    "encoding",
    "segmentation",
    "annotation",
    "pixels",
)
_CLASS_COLUMNS = ("classid", "class", "label", "category", "categoryid")
_LONGEST_FIELD = 2**31 - 1


def rle_csv(
    source: str | os.PathLike,
    *,
    images: str | os.PathLike | None = None,
    classes: Classes = None,
    image_column: str | None = None,
    rle_column: str | None = None,
    class_column: str | None = None,
    unlisted: bool = False,
) -> Source:
    """Reads run lengths as Kaggle's competitions have them.

    A row holds an image and pairs of the first pixel and the length of runs. Pixels are counted
    from 1, down the columns. An image may have several rows, of which the last is on top. Rows
    without run lengths, or with -1, show nothing.

    Args:
        source: The CSV file, with a header.
        images: Folder of the images, by default that of the CSV file.
        classes: Names of the classes 1, 2, ..., or of 0, 1, ... if the first is the background; see
            `class_names`.
        image_column: Column of the name of the image, with or without suffix. By default found by
            its name. `ImageId_ClassId` and `Image_Label` hold both, as in `0002cc93b.jpg_1`.
        rle_column: Column of the run lengths, by default found by its name.
        class_column: Column of the class, by default found by its name. Without one, there is one
            class. Integers from 1 are class ids; if there is a 0, class ids are one more.
        unlisted: Whether images without a row are imported, as all background.

    Raises:
        FileNotFoundError: If there is no CSV file, or an image is missing.
        ValueError: If a column is not found or a row is not as described.
    """
    path = Path(source)
    rows = _rows(path, image_column, rle_column, class_column)
    folder = as_folder(images if images is not None else path.parent, "images")
    files: dict[str, list[Path]] = {}
    for file in visible_files(folder):
        if file.suffix.lower() in IMAGE_SUFFIXES:
            name = unicodedata.normalize("NFC", file.relative_to(folder).as_posix())
            for key in {name, stem(name)}:
                files.setdefault(key, []).append(file)
    class_ids, names = _class_ids({label for _, label, _ in rows}, class_names(classes), path)
    runs_of: dict[Path, list] = {}
    for number, (image, label, runs) in enumerate(rows, start=2):
        found = files.get(unicodedata.normalize("NFC", image), [])
        if len(found) != 1:
            count = counted(len(found), "file") if found else "no file"
            raise FileNotFoundError(
                f"{path}, row {number} names the image {image!r}, for which there is {count} in "
                f"{folder}. Pass the folder of the images (--images)."
            )
        runs_of.setdefault(found[0], [])
        if runs not in ("", "-1"):
            runs_of[found[0]].append((class_ids[label], runs, f"{path}, row {number}"))
    left_out: collections.Counter = collections.Counter()
    for file in sorted({file for found in files.values() for file in found} - runs_of.keys()):
        if unlisted:
            runs_of[file] = []
        else:
            left_out["images without a row"] += 1
    items = [
        Item(
            stem(file.relative_to(folder).as_posix()),
            file,
            functools.partial(_draw, runs),
            f"{path}, image {file.name}",
        )
        for file, runs in runs_of.items()
    ]
    return Source(label_space(names, None), items, left_out, [path])


def _rows(path, image_column, rle_column, class_column):
    """Returns (image, class or `None`, run lengths) of each row."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    longest = csv.field_size_limit(_LONGEST_FIELD)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            header = [name for name in reader.fieldnames or () if name is not None]
            image = _column(path, header, image_column, _IMAGE_COLUMNS, "image")
            runs = _column(path, header, rle_column, _RLE_COLUMNS, "rle")
            label = _column(path, header, class_column, _CLASS_COLUMNS, "class")
            return list(_entries(reader, image, runs, label, path))
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as CSV: {error}.") from None
    finally:
        csv.field_size_limit(longest)


def _column(path, header, given, known, kind):
    found = [name for name in header if name.lower().replace("_", "") in known]
    if given is not None:
        found = [name for name in header if name == given]
    if len(found) == 1:
        return found[0]
    if kind == "class" and not found and given is None:
        return None
    raise ValueError(
        f"{path} must have one column of the {kind}. Received: the columns {', '.join(header)}. "
        f"Name it (--{kind}-column)."
    )


def _entries(reader, image_column, rle_column, class_column, path):
    has_both = image_column.lower().replace("_", "") in _IMAGE_COLUMNS[-2:]
    for number, row in enumerate(reader, start=2):
        image, runs = (row[image_column] or "").strip(), (row[rle_column] or "").strip()
        label = None if class_column is None else (row[class_column] or "").strip()
        if has_both and class_column is None:
            image, _, label = image.rpartition("_")
        if not image or (label == "" and runs not in ("", "-1")):
            raise ValueError(
                f"{path}, row {number} must hold an image"
                f"{' and a class' if label is not None else ''}. Received: {image!r}, {label!r}."
            )
        yield image, label, runs


def _class_ids(labels, given, path):
    """Returns the class id of each label, and the names of the classes."""
    labels = labels - {""}
    if labels <= {None}:
        return {None: 1, "": 0}, with_background(given or ["foreground"])
    numbers = all(re.fullmatch(r"\d{1,5}", label) for label in labels)
    if numbers:
        shift = 0 if min(map(int, labels)) else 1
        largest = max(map(int, labels)) + shift
        names = with_background(given or [f"class {n - shift}" for n in range(1, largest + 1)])
        class_ids = {label: int(label) + shift for label in labels}
    else:
        names = with_background(given or sorted(labels))
        class_ids = {name: class_id for class_id, name in enumerate(names)}
        class_ids |= {label: 0 for label in labels if is_background(label)}
    if wrong := sorted(label for label in labels if class_ids.get(label, len(names)) >= len(names)):
        raise ValueError(
            f"{path} must hold classes of `classes` (--classes), {', '.join(names)}. "
            f"Received: {wrong[0]!r}."
        )
    return {**class_ids, "": 0}, names


def _draw(rows, size):
    height, width = size
    # Pixels are counted down the columns.
    columns = np.zeros(height * width, "int32")
    for class_id, text, origin in rows:
        parts = text.split()
        if len(parts) % 2 or not all(re.fullmatch(r"\d{1,18}", part) for part in parts):
            raise ValueError(
                f"{origin} must hold pairs of a first pixel and a length. Received: {text[:40]}."
            )
        runs = np.array(parts, "int64").reshape(-1, 2)
        for first, length in runs.tolist():
            if first < 1 or length < 1 or first + length - 1 > height * width:
                raise ValueError(
                    f"{origin} must hold runs within the {height * width} pixels of its image, "
                    f"counted from 1. Received: {length} pixels from {first}."
                )
            columns[first - 1 : first - 1 + length] = class_id
    return columns.reshape(width, height).T
