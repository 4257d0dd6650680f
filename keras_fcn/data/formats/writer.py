"""Writes the folders of images and label maps, one pair at a time; a second run continues."""

import dataclasses
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from PIL import Image

from keras_fcn.data.files import IMAGE_SUFFIXES
from keras_fcn.data.formats.orientation import draw_upright, read_geometry
from keras_fcn.data.formats.source import Item, Source, one_per_name
from keras_fcn.io.atomic import atomic_write, remove_leftovers
from keras_fcn.io.links import check_links
from keras_fcn.label_spaces import LabelSpace
from keras_fcn.spelling import counted

_DESCRIPTION, CLASSES = "import.json", "classes.toml"
_SHOWN_AS = {
    "class_names": "other classes",
    "ignore_class": "other classes",
    "labels": "other labels",
    "image_files": "other images",
}
_LONGEST_WRITE = 60  # Seconds after which a temporary file belongs to a killed process.


@dataclasses.dataclass(frozen=True)
class ImportReport:
    """What was imported.

    Args:
        out: The folder.
        label_space: `LabelSpace` of the label maps, that of `classes.toml`.
        num_pairs: Number of pairs by name of the split; the name is "" without splits.
        written: Number of pairs that this run wrote; the others were complete.
        left_out: What has no place in a label map, with its number.
    """

    out: Path
    label_space: LabelSpace
    num_pairs: dict[str, int]
    written: int
    left_out: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """Returns everything as JSON values."""
        return {
            "out": str(self.out),
            "pairs": {name or self.out.name: count for name, count in self.num_pairs.items()},
            "classes": list(self.label_space.class_names),
            "ignore_class": self.label_space.ignore_class,
            "written": self.written,
            "left_out": self.left_out,
        }

    def as_text(self) -> str:
        """Returns everything as lines."""
        lines = [
            f"{name}: {counted(count, 'pair')}" if name else counted(count, "pair")
            for name, count in self.num_pairs.items()
        ]
        if complete := sum(self.num_pairs.values()) - self.written:
            lines.append(f"{complete} of them were complete already")
        space = self.label_space
        ignored = "" if space.ignore_class is None else f"; {space.ignore_class} is ignored"
        names = [f"{class_id} {name}" for class_id, name in enumerate(space.class_names)]
        shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
        lines.append(f"{counted(len(names), 'class')}: {shown}{ignored}")
        lines += [f"left out: {_counted(what, count)}" for what, count in self.left_out.items()]
        return "\n".join([*lines, f"label space: {self.out / CLASSES}"])


def write(
    source: Source,
    out: str | os.PathLike,
    description: Mapping[str, Any],
    *,
    link: bool = False,
    progress: Callable[[], None] | None = None,
) -> ImportReport:
    """Writes `images/`, `labels/` and, at the end, `classes.toml`.

    Every file is written atomically: temporary file, then rename. Of a pair, the label map comes
    first. So a run that stopped leaves whole files only, and the next one skips the pairs that have
    both.

    Args:
        source: What to write.
        out: Folder, which is made if need be.
        description: Format, source and options, as JSON values. `out` must be empty or of the same
            description.
        link: Whether images become hard links where the file system allows it, not copies.
        progress: Called after every pair.

    Returns:
        `ImportReport`.

    Raises:
        OSError: If an image is missing or a file cannot be written.
        ValueError: If `out` holds something else, or a label map cannot be drawn.
    """
    out, items = Path(out), one_per_name(source.items)
    if not items:
        reasons = ", ".join(_counted(what, count) for what, count in source.left_out.items())
        raise ValueError(
            f"The source must hold at least one image with labels. Received: {reasons or 'none'}."
        )
    space = source.label_space
    classes = {"class_names": list(space.class_names), "ignore_class": space.ignore_class}
    files = {
        "labels": _fingerprint(source.files),
        "image_files": _fingerprint(i.image for i in items if isinstance(i.image, Path)),
    }
    _begin(out, {**description, **classes, **files})
    num_pairs: dict[str, int] = {}
    written = 0
    folders = set()
    for item in items:
        folders |= set(_folders(out, item))
        written += _write_pair(item, out, space, link)
        num_pairs[item.split or ""] = num_pairs.get(item.split or "", 0) + 1
        if progress is not None:
            progress()
    for folder in folders:
        remove_leftovers(folder, _LONGEST_WRITE)
    _write_label_space(out / CLASSES, space)
    left_out = {what: count for what, count in source.left_out.items() if count}
    return ImportReport(out, space, num_pairs, written, left_out)


def _counted(what, count):
    """Returns a count and what it counts, the first plural word in the singular after 1."""
    name = re.sub(r"s\b", "", what, count=1) if count == 1 else what
    return f"{count} {name}"


def _begin(out, description):
    path, text = out / _DESCRIPTION, json.dumps(description, indent=2, sort_keys=True)
    if path.is_file():
        if path.read_text(encoding="utf-8") != text:
            raise ValueError(
                f"{out} holds the import of another source, other options, or labels or images "
                f"that changed since. Received: {_differences(path, description)}. Use another "
                "folder, or remove this one."
            )
        return
    check_links(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} must be an empty folder or one of an earlier import.")
    out.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _differences(path, description):
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
        names = [
            name
            for name in sorted(earlier.keys() | description.keys())
            if earlier.get(name) != description.get(name)
        ]
    except (ValueError, AttributeError):
        return f"a damaged {path}"
    return ", ".join(
        dict.fromkeys(_SHOWN_AS.get(name, f"{name}={description.get(name)}") for name in names)
    )


def _fingerprint(files):
    """Returns a checksum of the names, sizes and times of files."""
    checksum = hashlib.sha256()
    for path in sorted(map(os.path.realpath, files)):
        status = os.stat(path)
        checksum.update(os.fsencode(path))
        checksum.update(f"\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return checksum.hexdigest()


def _folders(out, item):
    places = [out / kind / (item.split or "") / item.name for kind in ("labels", "images")]
    return [place.parent for place in places]


def _write_pair(item: Item, out: Path, space: LabelSpace, link: bool) -> bool:
    """Writes what is missing of a pair, and returns whether that was something."""
    labels, images = _folders(out, item)
    base = item.name.rpartition("/")[2]
    label_path = labels / f"{base}.png"
    if isinstance(item.image, Path):
        image_path = images / f"{base}{item.image.suffix}"
    else:
        # Only the bytes tell the suffix.
        image_path = next(
            (p for s in IMAGE_SUFFIXES if (p := images / f"{base}{s}").exists()), images
        )
    if label_path.exists() and image_path.is_file():
        return False
    content = item.image if isinstance(item.image, Path) else item.image()
    where = str(item.image) if isinstance(item.image, Path) else f"The image in {item.origin}"
    stored, orientation, suffix = read_geometry(content, where)
    if isinstance(item.image, Path):
        suffix = item.image.suffix
    if suffix.lower() not in IMAGE_SUFFIXES:
        raise ValueError(f"{where} must be one of {', '.join(IMAGE_SUFFIXES)}. Received: {suffix}.")
    labels.mkdir(parents=True, exist_ok=True)
    images.mkdir(parents=True, exist_ok=True)
    label_map = draw_upright(item, stored, orientation)
    _check_values(item.origin, label_map, space)
    with atomic_write(label_path) as temporary:
        _save_label_map(temporary, label_map, space)
    _write_image(images / f"{base}{suffix}", content, link)
    return True


def _check_values(origin, label_map, space):
    wrong = (label_map < 0) | (label_map >= space.num_classes)
    if space.ignore_class is not None:
        wrong &= label_map != space.ignore_class
    if not wrong.any():
        return
    row, column = (int(index) for index in np.argwhere(wrong)[0])
    ignored = "" if space.ignore_class is None else f" and {space.ignore_class}, which is ignored"
    raise ValueError(
        f"{origin} must hold the class ids 0 to {space.num_classes - 1}{ignored}. Received: "
        f"{int(label_map[row, column])} at row {row}, column {column}. "
        "Name all classes (--classes)."
    )


def _write_image(path, content, link):
    if isinstance(content, Path) and link:
        try:
            # A link has no content to flush, and its file may be read-only.
            with atomic_write(path, sync=False) as temporary:
                os.link(os.path.realpath(content), temporary)
            return
        except OSError:
            pass  # Another file system, or one without hard links.
    with atomic_write(path) as temporary:
        if isinstance(content, Path):
            shutil.copyfile(content, temporary)
        else:
            temporary.write_bytes(content)


def _save_label_map(path, label_map, space):
    if max(space.num_classes - 1, space.ignore_class or 0) > 255:
        Image.fromarray(label_map.astype("uint16")).save(path)
        return
    image = Image.fromarray(label_map.astype("uint8"))
    colours = np.full((256, 3), 255, "uint8")
    colours[: space.num_classes] = space.palette
    image.putpalette(colours.ravel().tolist())
    image.save(path)


def _write_label_space(path, space):
    content = {"class_names": list(space.class_names), "palette": [list(c) for c in space.palette]}
    if space.ignore_class is not None:
        content["ignore_class"] = space.ignore_class
    with atomic_write(path) as temporary:
        temporary.write_bytes(tomli_w.dumps(content).encode())
