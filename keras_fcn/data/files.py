"""Finds pairs of an image file and a label map file in folders and lists of files."""

import dataclasses
import heapq
import os
import shlex
import unicodedata
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from keras_fcn.arguments import as_path, as_tuple, boolean
from keras_fcn.spelling import counted

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
# Lossless formats only: JPEG compression changes class ids.
LABEL_MAP_SUFFIXES = (".png", ".tif", ".tiff", ".bmp")
# Of image files that are not searched for.
_OTHER_SUFFIXES = (".avif", ".dng", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jpe", ".jxl")

# Folders of images and of label maps in the folder of a data set.
_LAYOUTS = (
    ("{split}", "{split}annot"),
    ("images/{split}", "labels/{split}"),
    ("{split}/images", "{split}/labels"),
)
_LAYOUT_WITHOUT_SPLIT = ("images", "labels")


@dataclasses.dataclass(frozen=True)
class Pair:
    """The file of an image and the file of its label map."""

    image: Path
    label_map: Path

    @classmethod
    def of(cls, paths: Any) -> "Pair":
        """Returns the pair of two paths, such as those in a tuple.

        Raises:
            ValueError: If `paths` are not two paths.
        """
        if isinstance(paths, cls):
            return paths
        try:
            image, label_map = as_tuple("paths", paths)
            return cls(Path(image), Path(label_map))
        except (TypeError, ValueError):
            raise ValueError(
                "A pair must be the path of an image and the path of its label map. "
                f"Received: {paths!r}."
            ) from None


def find_pairs(
    images: str | os.PathLike,
    labels: str | os.PathLike,
    *,
    recursive: bool = False,
    without: Sequence[str | os.PathLike] = (),
) -> list[Pair]:
    """Pairs every image of one folder with the label map of the same name in another.

    Names are compared without suffix: `images/street.jpg` and `labels/street.png` are a pair.
    Letters with accents are equal in Unicode's composed and decomposed form. Hidden files and files
    that are no images are skipped, images of other formats with a warning. Symbolic links are
    followed; a folder or pair that several links lead to counts once. Every image needs a label
    map. Label maps without an image, such as those of other splits, are left out with a warning.

    Args:
        images: Folder of PNG, JPEG, WebP, TIFF or BMP files.
        labels: Folder of PNG, TIFF or BMP files.
        recursive: Whether to search subfolders, which are then part of the name:
            `images/oslo/street.jpg` and `labels/oslo/street.png` are a pair. Hidden folders are
            skipped, and so is `labels` if it lies in `images`, and the other way round.
        without: Subfolders that are not searched, such as those of another split.

    Returns:
        The pairs, sorted by name.

    Raises:
        FileNotFoundError: If one of the folders does not exist.
        ValueError: If the two are the same folder, a name occurs twice in a folder, no names match,
            or an image has no label map.
    """
    images, labels = as_path("images", images), as_path("labels", labels)
    without = [as_path("without", folder) for folder in as_tuple("without", without)]
    recursive = boolean("recursive", recursive)
    for argument, folder in (("images", images), ("labels", labels)):
        if not folder.is_dir():
            raise FileNotFoundError(
                f"`{argument}` (--{argument}) must be a folder. Received: {folder}."
            )
    if images.samefile(labels):
        raise ValueError(
            "`images` and `labels` (--images, --labels) must be two folders. Received: "
            f"{images} for both."
        )
    image_files = one_file_per_name(
        "images", images, IMAGE_SUFFIXES, recursive=recursive, without=[labels, *without]
    )
    label_files = one_file_per_name(
        "labels", labels, LABEL_MAP_SUFFIXES, recursive=recursive, without=[images, *without]
    )
    if not image_files.keys() & label_files.keys():
        raise ValueError(
            "Each label map must have the name of its image, but no two names match: "
            f"{_count(image_files, images, 'image')} in {images}, "
            f"{_count(label_files, labels, 'label map')} in {labels}."
        )
    if lonely := sorted(image_files.keys() - label_files.keys()):
        count = counted(len(image_files), "image")
        raise ValueError(
            f"{len(lonely)} of {count} in {images} have no label map in "
            f"{labels}: {first_few(name_in(images, image_files[name]) for name in lonely)}. Add "
            "the label maps or move these images elsewhere."
        )
    if lonely := sorted(label_files.keys() - image_files.keys()):
        left_out = first_few(name_in(labels, label_files[name]) for name in lonely)
        count = counted(len(label_files), "label map")
        warnings.warn(
            f"{len(lonely)} of {count} in {labels} have no image in "
            f"{images} and are left out: {left_out}.",
            stacklevel=2,
        )
    return unlinked(Pair(image_files[name], label_files[name]) for name in sorted(image_files))


def files_of(pairs: Iterable[Pair]) -> list[Path]:
    """Returns the files of some pairs, each image before its label map."""
    return [path for pair in pairs for path in (pair.image, pair.label_map)]


def layouts(split: str | None) -> list[tuple[str, str]]:
    """Returns the known places of images and label maps, as paths in the folder of a data set.

    Args:
        split: Name of the split; `None` for a data set without splits.
    """
    if split is None:
        return [_LAYOUT_WITHOUT_SPLIT]
    return [(images.format(split=split), labels.format(split=split)) for images, labels in _LAYOUTS]


def split_folders(folder: Path, split: str | None) -> tuple[Path, Path] | None:
    """Returns the folders of images and of label maps in the first layout that fits, or `None`.

    Args:
        folder: Folder of a data set.
        split: See `layouts`.
    """
    for images, labels in layouts(split):
        if (folder / images).is_dir() and (folder / labels).is_dir():
            return folder / images, folder / labels
    return None


def unlinked(pairs: Iterable[Pair]) -> list[Pair]:
    """Returns the pairs without those that symbolic links repeat under another name."""
    first: dict[tuple[str, str], Pair] = {}
    for pair in pairs:
        first.setdefault((os.path.realpath(pair.image), os.path.realpath(pair.label_map)), pair)
    return list(first.values())


def read_pairs_file(path: str | os.PathLike) -> list[Pair]:
    """Reads pairs from a text file: each line names an image and its label map.

    The two names are separated by a tab or, in a line without tabs, by spaces; names with spaces
    then need quotes. Blank lines and lines that begin with # are skipped. Paths are relative to the
    folder of the text file. The files themselves are not opened.

    Args:
        path: Text file, UTF-8.

    Returns:
        The pairs in the order of the lines.

    Raises:
        FileNotFoundError: If the text file, or a file that it names, does not exist.
        ValueError: If a line does not hold two names, repeats an image of an earlier line, or if
            there is no pair.
    """
    path = as_path("path", path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be a text file in UTF-8. Received: {error}.") from None
    pairs: list[Pair] = []
    line_of: dict = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        place = f"{path}, line {number}"
        names = _names(line, place)
        pair = Pair(*(_existing(path.parent, name, place) for name in names))
        if pair.image in line_of:
            raise ValueError(f"{place}: line {line_of[pair.image]} names {pair.image} already.")
        line_of[pair.image] = number
        pairs.append(pair)
    if not pairs:
        raise ValueError(f"{path} must name at least one image and its label map.")
    return pairs


def find_file(folder: Path, name: str) -> Path | None:
    """Returns the file of a path in a folder, also if the disk spells it in another Unicode form.

    Args:
        folder: The folder.
        name: Path of the file, relative to `folder`.

    Returns:
        The path as the disk spells it; `None` if there is no such file.
    """
    path = folder
    for part in Path(name).parts:
        forms = (part, *(unicodedata.normalize(form, part) for form in ("NFC", "NFD")))
        path = next((path / form for form in forms if (path / form).exists()), path / part)
    return path if path.is_file() else None


def _existing(folder, name, place):
    if (file := find_file(folder, name)) is None:
        raise FileNotFoundError(f"{place}: there is no file {folder / name}.")
    return file


def _names(line, place):
    names = [name.strip() for name in line.split("\t")]
    if len(names) == 1:
        words = shlex.shlex(line, posix=True)
        words.whitespace_split, words.commenters = True, ""
        words.escape = ""  # Windows's separator of folders.
        try:
            names = list(words)
        except ValueError as error:
            raise ValueError(f"{place}: {error}. Received: {line.strip()}") from None
    if len(names) != 2 or not all(names):
        raise ValueError(
            f"{place}: must hold an image and its label map, with a tab between them. "
            f"Received: {line.strip()}"
        )
    return names


def files_by_name(
    folder: Path,
    suffixes: Sequence[str],
    *,
    recursive: bool = True,
    without: Sequence[str | os.PathLike] = (),
) -> dict[str, list[Path]]:
    """Returns the files of a folder by their relative path, without suffix and in Unicode's NFC.

    Images of other formats are left out with a warning.

    Args:
        folder: The folder.
        suffixes: Suffixes of the files to return, in lower case.
        recursive: Whether to search subfolders.
        without: Subfolders that are not searched.
    """
    found: dict[str, list[Path]] = {}
    others = []
    for path in visible_files(folder, recursive=recursive, without=without):
        if path.suffix.lower() in suffixes:
            name = name_in(folder, path.with_name(path.stem))
            found.setdefault(unicodedata.normalize("NFC", name), []).append(path)
        elif path.suffix.lower() in _OTHER_SUFFIXES:
            others.append(name_in(folder, path))
    if others:
        warnings.warn(
            f"{counted(len(others), 'image')} in {folder} left out: {first_few(others)}. Formats "
            f"must be {', '.join(suffixes)}: save the images as PNG.",
            stacklevel=2,
        )
    return found


def visible_files(
    folder: Path, *, recursive: bool = True, without: Sequence[str | os.PathLike] = ()
) -> list[Path]:
    """Returns the files in a folder, sorted, without hidden files and folders.

    Symbolic links are followed; one that leads nowhere counts as a file, so that reading it raises
    an error. Every folder is searched once: under its own name if it lies in `folder`, otherwise
    under the name of the first link.
    """
    # Links come last, when all folders inside `folder` are known by their own names.
    found, waiting = [], [(False, Path(folder))]
    seen = set(map(os.path.realpath, without)) - {os.path.realpath(folder)}
    while waiting:
        _, parent = heapq.heappop(waiting)
        if (real := os.path.realpath(parent)) in seen:
            continue
        seen.add(real)
        for path in parent.iterdir():
            if path.name.startswith("."):
                continue
            if path.is_file() or (path.is_symlink() and not path.exists()):
                found.append(path)
            elif recursive and path.is_dir():
                heapq.heappush(waiting, (path.is_symlink(), path))
    return sorted(found)


def name_in(folder: str | os.PathLike, path: Path) -> str:
    """Returns the path of a file below a folder that it lies in, with slashes on every system."""
    return path.relative_to(folder).as_posix()


def one_file_per_name(
    argument: str,
    folder: Path,
    suffixes: Sequence[str],
    *,
    recursive: bool = True,
    without: Sequence[str | os.PathLike] = (),
) -> dict[str, Path]:
    """Returns the files of a folder by their relative path, see `files_by_name`.

    Raises:
        ValueError: If two files differ in their suffix alone, or there is none; the message names
            the `argument`.
    """
    where: Any = {"recursive": recursive, "without": without}
    files: dict[str, Path] = {}
    for name, paths in files_by_name(folder, suffixes, **where).items():
        if len(paths) > 1:
            first, second = (name_in(folder, path) for path in paths[:2])
            raise ValueError(
                f"{folder} must hold one file per name. Received: {first} and {second}."
            )
        files[name] = paths[0]
    if not files:
        names = [name_in(folder, path) for path in visible_files(folder, **where)]
        found = f"{counted(len(names), 'other file')}: {first_few(names)}" if names else "no files"
        hint = (
            "" if recursive or not _has_folders(folder) else " Pass recursive=True to search them."
        )
        raise ValueError(
            f"`{argument}` must be a folder of {', '.join(suffixes)} files. Received: {folder} "
            f"with {found}{' and subfolders' if hint else ''}.{hint}"
        )
    return files


def _has_folders(folder):
    return any(path.is_dir() and not path.name.startswith(".") for path in folder.iterdir())


def _count(files, folder, noun):
    example = name_in(folder, next(iter(files.values())))
    return f"{counted(len(files), noun)} such as {example}"


def first_few(names: Iterable[str], most: int = 3) -> str:
    """Returns the first names, followed by dots if there are more."""
    names = list(names)
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
