"""Imports what labelling tools write: pairs of images and label maps, and a label space."""

import inspect
import os
from collections.abc import Callable, Mapping
from typing import Any

from keras_fcn.data.formats.coco import coco
from keras_fcn.data.formats.hugging_face import hugging_face
from keras_fcn.data.formats.label_studio import label_studio
from keras_fcn.data.formats.labelme import labelme
from keras_fcn.data.formats.masks import masks
from keras_fcn.data.formats.rle_csv import rle_csv
from keras_fcn.data.formats.source import Item, Source
from keras_fcn.data.formats.voc import cvat, voc
from keras_fcn.data.formats.writer import ImportReport, write

__all__ = [
    "FORMATS",
    "ImportReport",
    "Item",
    "Source",
    "coco",
    "cvat",
    "hugging_face",
    "import_data",
    "label_studio",
    "labelme",
    "masks",
    "rle_csv",
    "voc",
]

FORMATS: dict[str, Callable[..., Source]] = {
    "coco": coco,
    "labelme": labelme,
    "cvat": cvat,
    "voc": voc,
    "label-studio": label_studio,
    "rle-csv": rle_csv,
    "hf": hugging_face,
    "masks": masks,
}
"""The function that reads each format."""


def import_data(
    format: str,
    source: str | os.PathLike,
    out: str | os.PathLike,
    *,
    link: bool = False,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> ImportReport:
    """Imports what a labelling tool has written as index PNG label maps.

    `out` gets `images/` and `labels/`, with a folder for each split if there are splits, and
    `classes.toml`, the label space. `keras_fcn.data.load` and `keras-fcn data check` read them.
    Images are copied byte for byte. Label maps have the orientation in which `read_image` returns
    the image, EXIF included. One image at a time is in memory. Every file is written atomically: a
    run that stopped is continued by the same call.

    Args:
        format: One of `FORMATS`.
        source: File or folder that the tool has written, see the function of the format.
        out: Folder to write, which must not exist, be empty, or be of the same import.
        link: Whether images become hard links, where the file system allows it. A change of the
            image then changes both.
        progress: Called after every pair with the number of pairs done and in total.
        **options: Those of the function of the format, such as `images` and `classes`.

    Returns:
        `ImportReport`: the pairs, the classes, and what was left out.

    Raises:
        ImportError: If the format needs a package that is not installed.
        OSError: If a file is missing or cannot be written.
        ValueError: If `format` is unknown, the source or an option is not as described, or `out`
            holds something else.
    """
    if format not in FORMATS:
        raise ValueError(f"`format` must be one of {', '.join(FORMATS)}. Received: {format=}.")
    _check_apart(source, out)
    given = inspect.signature(FORMATS[format]).bind(source, **options)
    # The command line passes every option, also those that have their default.
    given.apply_defaults()
    found = FORMATS[format](source, **options)
    done, total = 0, len(found.items)

    def advance():
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    description = {
        "format": format,
        **{name: _as_json(value) for name, value in given.arguments.items()},
    }
    return write(found, out, description, link=link, progress=advance)


def _check_apart(source, out):
    if not os.path.isdir(source):
        return
    inner, outer = os.path.realpath(out), os.path.realpath(source)
    if os.path.commonpath([inner, outer]) == outer:
        raise ValueError(f"`out` must not lie in the source. Received: {out} in {source}.")


def _as_json(value):
    """Returns an option as JSON; a path as the same text wherever the import is run."""
    if isinstance(value, Mapping):
        return [[str(key), str(target)] for key, target in value.items()]
    if isinstance(value, str | os.PathLike):
        return os.path.realpath(value) if os.path.exists(value) else str(value)
    return value
