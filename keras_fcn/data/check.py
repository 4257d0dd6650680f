"""Reads every file of a data set once and reports all problems."""

import collections
import concurrent.futures
import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from keras_fcn.data.check_report import Problem, Report
from keras_fcn.data.examples import check_same_size
from keras_fcn.data.files import (
    IMAGE_SUFFIXES,
    LABEL_MAP_SUFFIXES,
    Pair,
    files_by_name,
    layouts,
    split_folders,
    unlinked,
)
from keras_fcn.data.image_files import count_pages, holds_16_bits, read_image
from keras_fcn.data.label_alignment import boundary_fits, misalignments
from keras_fcn.data.label_map_files import Palette, check_label_map, read_label_map
from keras_fcn.data.near_duplicates import HashedImage, difference_hash, near_duplicates
from keras_fcn.label_spaces import LabelSpace
from keras_fcn.spelling import counted

_NEARLY_UNLABELLED = 0.95
_DARK = 64  # Of 255; 16-bit images have it if their values have 14 bits or less.
_NUM_SHOWN = 5


def check_data(
    splits: Mapping[str, Sequence[Pair]],
    label_space: LabelSpace,
    palette: Palette | None = None,
    progress: Callable[[], None] | None = None,
    channels: int = 3,
) -> Report:
    """Reads every pair once and continues after each problem.

    Images are compared by their pixels, so that copies in other file formats are found, too; those
    of different splits also by `near_duplicates`. Label maps are compared with the edges of their
    images, see `misalignments`. Images of 16 bits with small values are dark, since 65535 becomes
    255.

    Args:
        splits: Dictionary from the name of a split to its pairs.
        label_space: `LabelSpace` of the label maps.
        palette: Colours of true-colour label maps, see `read_label_map`.
        progress: Called after every pair.
        channels: Number of image channels, see `read_image`.

    Returns:
        `Report`.
    """
    report = Report(
        label_space=label_space,
        num_pairs={name: len(pairs) for name, pairs in splits.items()},
        sizes={},
        pixels=np.zeros(label_space.num_classes, "int64"),
        pixels_where_present=np.zeros(label_space.num_classes, "int64"),
        images=np.zeros(label_space.num_classes, "int64"),
        ignored_pixels=0,
        problems=[],
    )
    sizes: collections.Counter = collections.Counter()
    owners: collections.defaultdict = collections.defaultdict(list)
    hashed: dict[str, list[HashedImage]] = {name: [] for name in splits}
    fits: dict[str, list] = {name: [] for name in splits}
    unlabelled: list[tuple[Path, float]] = []
    of_pages: list[tuple[Path, int]] = []
    of_16_bits: dict[str, list] = {name: [] for name in splits}
    pixels_of = {name: np.zeros(label_space.num_classes, "int64") for name in splits}
    complete = True
    jobs = [(split, pair) for split, pairs in splits.items() for pair in map(Pair.of, pairs)]
    with concurrent.futures.ThreadPoolExecutor() as threads:
        results = threads.map(lambda job: _read(job[1], label_space, palette, channels), jobs)
        for (split, pair), result in zip(jobs, results, strict=True):
            report.problems.extend(result.problems)
            of_pages += result.pages
            if result.size is not None:
                sizes[result.size] += 1
                owners[result.digest].append((split, pair.image))
                hashed[split].append(HashedImage(str(pair.image), result.digest, result.hash))
            if result.largest_of_16_bits is not None:
                of_16_bits[split].append((pair.image, result.largest_of_16_bits))
            complete &= result.counts is not None
            if result.counts is not None:
                _count(report, result.counts)
                pixels_of[split] += result.counts[:-1]
                fits[split].append((str(pair.label_map), result.fits))
                ignored = result.counts[-1] / result.counts.sum()
                if ignored > _NEARLY_UNLABELLED:
                    unlabelled.append((pair.label_map, ignored))
            if progress is not None:
                progress()
    report.sizes = dict(sizes.most_common())
    report.problems.extend(_duplicates(owners))
    report.problems.extend(near_duplicates(hashed))
    report.problems.extend(misalignments(fits))
    report.problems.extend(_dark(of_16_bits))
    report.problems.extend(_further_pages(of_pages))
    if complete:
        report.problems.extend(_absent_classes(pixels_of, label_space.class_names))
    report.problems.extend(_mostly_ignored(report))
    report.problems.extend(_nearly_unlabelled(unlabelled))
    return report


@dataclasses.dataclass
class _PairResult:
    """Statistics and problems of one pair; `None` for what could not be read."""

    problems: list[Problem]
    pages: list[tuple[Path, int]]
    size: tuple[int, int] | None = None
    digest: bytes = b""
    hash: np.ndarray | None = None
    largest_of_16_bits: int | None = None
    fits: np.ndarray | None = None
    counts: np.ndarray | None = None


def _read(pair, label_space, palette, channels):
    pages = [(path, count_pages(path)) for path in (pair.image, pair.label_map)]
    result = _PairResult([], [(path, count) for path, count in pages if count > 1])

    def attempt(kind, files, function, *arguments):
        try:
            return function(*arguments)
        except (OSError, ValueError) as error:
            result.problems.append(
                Problem(kind, tuple(map(str, files)), " ".join(str(error).split()))
            )
            return None

    image = attempt("unreadable", [pair.image], read_image, pair.image, channels)
    label_map = attempt("unreadable", [pair.label_map], read_label_map, pair.label_map, palette)
    if image is not None:
        result.size = image.shape[:2]
        result.digest = hashlib.sha256(image.tobytes() + str(image.shape).encode()).digest()
        result.hash = difference_hash(image)
        if holds_16_bits(pair.image):
            result.largest_of_16_bits = int(image.max())
    if label_map is None:
        return result
    if image is not None:
        attempt(
            "size",
            [pair.image, pair.label_map],
            check_same_size,
            *(pair.image, image.shape[:2], pair.label_map, label_map.shape),
        )
    num_classes, ignore_class = label_space.num_classes, label_space.ignore_class
    num_problems = len(result.problems)
    attempt(
        "label",
        [pair.label_map],
        check_label_map,
        *(pair.label_map, label_map, num_classes, ignore_class),
    )
    if len(result.problems) == num_problems:
        is_class = label_map != ignore_class if ignore_class is not None else slice(None)
        counts = np.bincount(label_map[is_class].ravel(), minlength=num_classes)
        result.counts = np.append(counts, label_map.size - counts.sum())
        if image is not None and image.shape[:2] == label_map.shape:
            result.fits = boundary_fits(image, label_map, ignore_class)
    return result


def _count(report, counts):
    """Adds the pixels of one label map; the last of `counts` are the ignored ones."""
    classes = counts[:-1]
    report.pixels += classes
    report.images += classes > 0
    report.pixels_where_present += np.where(classes > 0, classes.sum(), 0)
    report.ignored_pixels += int(counts[-1])


def _duplicates(owners):
    for copies in owners.values():
        if len(copies) < 2:
            continue
        splits = sorted({split for split, _ in copies})
        where = f"in {' and '.join(splits)}" if len(splits) > 1 else f"twice in {splits[0]}"
        files = tuple(str(path) for _, path in copies)
        yield Problem("duplicate", files, f"The same image is {where}: {', '.join(files)}.")


def _absent_classes(pixels_of, class_names):
    """Yields a problem for each class without a training pixel or with pixels in one split only."""
    learnt = [split for split in pixels_of if Path(split).name.startswith("train")]
    to_learn = sum(pixels_of[split] for split in learnt or pixels_of)
    where = f" in {' and '.join(learnt)}" if learnt else ""
    for class_id, name in enumerate(class_names):
        holders = [split for split, pixels in pixels_of.items() if pixels[class_id]]
        named = "" if name == f"class {class_id}" else f", {name}"
        if not to_learn[class_id]:
            message = f"No pixel{where} shows class {class_id}{named}: a model cannot learn it."
            if holders:
                message += f" {' and '.join(holders)} will score it as 0."
        elif len(holders) == 1 < len(pixels_of):
            others = " and ".join(split for split in pixels_of if split not in holders)
            place = f"{named and named + ','} occurs in {holders[0]} only"
            message = f"Class {class_id}{place}: {others} cannot score it."
        else:
            continue
        yield Problem("class", (), message)


def _mostly_ignored(report):
    num_pixels = report.ignored_pixels + int(report.pixels.sum())
    if 2 * report.ignored_pixels <= num_pixels:
        return
    message = (
        f"{report.ignored_pixels / num_pixels:.1%} of all pixels have the label "
        f"{report.label_space.ignore_class} (`ignore_class`) and are ignored."
    )
    if report.label_space.num_classes == 2 and not report.pixels[1]:
        message += (
            " If this is the second class, save it as 1, or pass a palette of both (--palette)."
        )
    yield Problem("ignored", (), message)


def _nearly_unlabelled(label_maps):
    if not label_maps:
        return
    shown = ", ".join(f"{path} ({share:.1%})" for path, share in label_maps[:_NUM_SHOWN])
    shown += ", ..." * (len(label_maps) > _NUM_SHOWN)
    count = _count_with_verb(label_maps, "label map")
    message = (
        f"{count} more than {_NEARLY_UNLABELLED:.0%} of ignored pixels: {shown}. "
        "Such images teach next to nothing: label them, or leave them out."
    )
    files = tuple(str(path) for path, _ in label_maps)
    yield Problem("unlabelled", files, message, severity="warning")


def _dark(of_16_bits):
    for split, images in of_16_bits.items():
        largest = max((value for _, value in images), default=255)
        if largest > _DARK:
            continue
        message = (
            f"{counted(len(images), 'image')} of 16 bits in {split}, such as {images[0][0]}: 65535 "
            f"becomes 255, so that the largest value read is {largest} of 255. Scale the values to "
            "the range of 16 bits, for example those of 12 bits by 16."
        )
        yield Problem("dark", tuple(str(path) for path, _ in images), message, severity="warning")


def _further_pages(files):
    if not files:
        return
    count = _count_with_verb(files, "file")
    message = (
        f"{count} several pages or frames, such as {files[0][0]} with {files[0][1]}. Only the "
        "first one is read: save each as a file of its own."
    )
    yield Problem("pages", tuple(str(path) for path, _ in files), message, severity="warning")


def _count_with_verb(files, noun):
    return f"{counted(len(files), noun)} {'has' if len(files) == 1 else 'have'}"


def match_pairs(images: Path, labels: Path) -> tuple[list[Pair], list[Problem]]:
    """Pairs images with label maps by their relative path without suffix.

    Args:
        images: Folder of images, with or without subfolders.
        labels: Folder of label maps, with or without subfolders.

    Returns:
        The pairs in the order of their names, and a `Problem` for every file without partner. If
        one of the folders does not exist, one warning stands for all files of the other.
    """
    for folder, other in ((images, labels), (labels, images)):
        if not other.is_dir():
            paths = tuple(map(str, _files(folder)))
            message = (
                f"{other} does not exist: {folder} is not checked. Number of files: {len(paths)}."
            )
            return [], [Problem("unmatched", paths, message, severity="warning")]
    image_files = files_by_name(images, IMAGE_SUFFIXES)
    label_files = files_by_name(labels, LABEL_MAP_SUFFIXES)
    problems = []
    for files, others, missing in (
        (image_files, label_files, f"label map in {labels}"),
        (label_files, image_files, f"image in {images}"),
    ):
        for name in sorted(files.keys() - others.keys()):
            for path in files[name]:
                problems.append(Problem("unmatched", (str(path),), f"{path} has no {missing}."))
    pairs = []
    for name in sorted(image_files.keys() & label_files.keys()):
        if len(image_files[name]) + len(label_files[name]) == 2:
            pairs.append(Pair(image_files[name][0], label_files[name][0]))
        else:
            paths = tuple(map(str, (*image_files[name], *label_files[name])))
            message = f"A name must have one image and one label map. Received: {', '.join(paths)}."
            problems.append(Problem("unmatched", paths, message))
    return unlinked(pairs), problems


def _files(folder, recursive=True):
    """Returns the images and label maps in a folder."""
    suffixes = (*IMAGE_SUFFIXES, *LABEL_MAP_SUFFIXES)
    found = files_by_name(folder, suffixes, recursive=recursive)
    return [path for paths in found.values() for path in paths]


def find_splits(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Returns the folders of images and of label maps of each split in a folder.

    The layouts are those of `keras_fcn.data.load`, for any name of a split. A folder without splits
    counts as one split with the name of the folder; so does one with files beside its subfolders.
    A split may lack one of its two folders, as a test set without label maps does.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it has none of these layouts.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"DIR must be a folder. Received: {folder}.")
    splits = {}
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    in_both = []
    if (whole := split_folders(folder, None)) is not None:
        images, labels = whole
        in_both = sorted(path.name for path in images.iterdir() if (labels / path.name).is_dir())
        if not in_both or any(_files(side, recursive=False) for side in whole):
            in_both = []
            splits[folder.resolve().name] = whole
        else:
            subfolders = {path.name for side in whole for path in side.iterdir() if path.is_dir()}
            for name in sorted(subfolders - set(in_both)):
                if any(_files(side / name) for side in whole if (side / name).is_dir()):
                    splits[name] = images / name, labels / name
    for name in (*in_both, *names):
        if (folders := split_folders(folder, name)) is not None:
            splits[name] = folders
    if not splits:
        known = " or ".join(
            f"{images}/ and {labels}/" for images, labels in (*layouts(None), *layouts("SPLIT"))
        )
        raise ValueError(
            f"DIR must hold {known}. Received: {folder} with {', '.join(names) or 'no folders'}."
        )
    return splits
