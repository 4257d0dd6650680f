"""Reads every file of a data set once and reports all that is wrong with it."""

import collections
import concurrent.futures
import dataclasses
import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from keras_fcn.data.examples import Palette, check_label_map, read_image, read_label_map
from keras_fcn.data.files import (
    IMAGE_SUFFIXES,
    LABEL_MAP_SUFFIXES,
    Pair,
    files_by_name,
    unlinked,
)
from keras_fcn.label_spaces import LabelSpace


@dataclasses.dataclass(frozen=True)
class Problem:
    """What is wrong with which files.

    Args:
        kind: `"unmatched"`, `"unreadable"`, `"size"`, `"label"`, `"duplicate"`, `"class"` for a
            class that never occurs or occurs in one split only, or `"ignored"` if more than half
            of all pixels are ignored.
        files: The files it is about.
        message: One sentence.
    """

    kind: str
    files: tuple[str, ...]
    message: str


@dataclasses.dataclass
class Report:
    """What a data set holds, and what is wrong with it.

    Args:
        label_space: `LabelSpace` of the label maps.
        num_pairs: Number of pairs of each split, by its name.
        sizes: Number of images of each (height, width).
        pixels: Number of pixels of each class.
        pixels_where_present: Number of pixels, of any class, in the images that show each class.
        images: Number of images that show each class.
        ignored_pixels: Number of pixels that are left out.
        problems: `Problem`s in the order in which they were found.
    """

    label_space: LabelSpace
    num_pairs: dict[str, int]
    sizes: dict[tuple[int, int], int]
    pixels: np.ndarray
    pixels_where_present: np.ndarray
    images: np.ndarray
    ignored_pixels: int
    problems: list[Problem]

    @property
    def shares(self) -> np.ndarray:
        """Share of each class in the pixels that count, (num_classes,)."""
        return self.pixels / max(1, self.pixels.sum())

    @property
    def class_weights(self) -> np.ndarray:
        """See `median_frequency`. Warns of classes that never occur."""
        warn_of_absent_classes(self.pixels, self.label_space.class_names)
        return median_frequency(self.pixels, self.pixels_where_present)

    def as_dict(self) -> dict:
        """Returns everything as JSON values."""
        weights = median_frequency(self.pixels, self.pixels_where_present)
        weights = [
            float(weight) if pixels else None
            for weight, pixels in zip(weights, self.pixels, strict=True)
        ]
        columns = zip(
            self.label_space.class_names,
            self.pixels,
            self.shares,
            self.images,
            weights,
            strict=True,
        )
        return {
            "pairs": self.num_pairs,
            "sizes": [
                {"height": height, "width": width, "images": count}
                for (height, width), count in self.sizes.items()
            ],
            "classes": [
                {
                    "name": name,
                    "pixels": int(pixels),
                    "share": float(share),
                    "images": int(images),
                    "median_frequency_weight": weight,
                }
                for name, pixels, share, images, weight in columns
            ],
            "ignored_pixels": self.ignored_pixels,
            "problems": [dataclasses.asdict(problem) for problem in self.problems],
        }

    def as_text(self) -> str:
        """Returns everything as a table, the problems last."""
        lines = [f"{name}: {count} pairs" for name, count in self.num_pairs.items()]
        sizes = [f"{width}x{height} ({count})" for (height, width), count in self.sizes.items()]
        lines.append(f"sizes, width x height: {', '.join(sizes[:5])}{', ...' * (len(sizes) > 5)}")
        lines.append(f"{'class':<20} {'pixels':>14} {'share':>8} {'images':>7} {'weight':>8}")
        for entry in self.as_dict()["classes"]:
            weight = entry["median_frequency_weight"]
            lines.append(
                f"{entry['name']:<20} {entry['pixels']:>14,} {entry['share']:>8.2%} "
                f"{entry['images']:>7} {'-' if weight is None else f'{weight:.3f}':>8}"
            )
        lines.append(f"{'left out':<20} {self.ignored_pixels:>14,}")
        lines += [f"{problem.kind}: {problem.message}" for problem in self.problems]
        lines.append(f"{len(self.problems)} problems" if self.problems else "no problems")
        return "\n".join(lines)


def median_frequency(pixels: np.ndarray, pixels_where_present: np.ndarray) -> np.ndarray:
    """Returns weights of the classes, (num_classes,); 0 for a class that never occurs.

    The frequency of a class is its share in the images that show it; its weight is the median of
    all frequencies divided by its own (Eigen & Fergus, arXiv 1411.4734).

    Args:
        pixels: Number of pixels of each class.
        pixels_where_present: Number of pixels, of any class, in the images that show each class.

    Examples:
        >>> median_frequency(np.array([8, 1, 1]), np.array([10, 10, 4])).round(3).tolist()
        [0.312, 2.5, 1.0]
        >>> median_frequency(np.array([8, 0, 2]), np.array([10, 0, 10])).tolist()
        [0.625, 0.0, 2.5]
    """
    weights, occurs = np.zeros(len(pixels)), np.asarray(pixels) > 0
    if occurs.any():
        frequency = pixels[occurs] / pixels_where_present[occurs]
        weights[occurs] = np.median(frequency) / frequency
    return weights


def warn_of_absent_classes(pixels: np.ndarray, class_names: Sequence[str]) -> None:
    """Warns of classes that never occur, whose weights by median frequency are 0.

    Args:
        pixels: Number of pixels of each class.
        class_names: Name of each class.
    """
    absent = [name for name, count in zip(class_names, pixels, strict=True) if not count]
    if absent:
        warnings.warn(
            f"No pixel shows {', '.join(absent)}: the weight by median frequency of a class that "
            "never occurs is 0, and a loss with these weights does not count its pixels.",
            stacklevel=3,
        )


def check_data(
    splits: Mapping[str, Sequence[Pair]],
    label_space: LabelSpace,
    palette: Palette | None = None,
    progress: Callable[[], None] | None = None,
) -> Report:
    """Reads every pair once and goes on after each problem.

    Images are compared by their pixels, so that a copy in another file format is found as well.

    Args:
        splits: Dictionary from the name of a split to its pairs.
        label_space: `LabelSpace` of the label maps.
        palette: Colours of true-colour label maps, see `read_label_map`.
        progress: Called after every pair.

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
    sizes, owners = collections.Counter(), collections.defaultdict(list)
    pixels_of = {name: np.zeros(label_space.num_classes, "int64") for name in splits}
    complete = True
    jobs = [(split, pair) for split, pairs in splits.items() for pair in map(Pair.of, pairs)]
    with concurrent.futures.ThreadPoolExecutor() as threads:
        facts = threads.map(lambda job: _read(job[1], label_space, palette), jobs)
        for (split, pair), fact in zip(jobs, facts, strict=True):
            report.problems.extend(fact.problems)
            if fact.size is not None:
                sizes[fact.size] += 1
                owners[fact.digest].append((split, pair.image))
            complete &= fact.counts is not None
            if fact.counts is not None:
                _count(report, fact.counts)
                pixels_of[split] += fact.counts[:-1]
            if progress is not None:
                progress()
    report.sizes = dict(sizes.most_common())
    report.problems.extend(_duplicates(owners))
    if complete:
        report.problems.extend(_lost_classes(pixels_of, label_space.class_names))
    report.problems.extend(_mostly_ignored(report))
    return report


@dataclasses.dataclass
class _Facts:
    """What one pair contributes; `None` for what could not be read."""

    problems: list[Problem]
    size: tuple[int, int] | None = None
    digest: bytes | None = None
    counts: np.ndarray | None = None


def _read(pair, label_space, palette):
    facts = _Facts([])

    def attempt(kind, files, function, *arguments):
        try:
            return function(*arguments)
        except (OSError, ValueError) as error:
            facts.problems.append(
                Problem(kind, tuple(map(str, files)), " ".join(str(error).split()))
            )
            return None

    image = attempt("unreadable", [pair.image], read_image, pair.image)
    label_map = attempt("unreadable", [pair.label_map], read_label_map, pair.label_map, palette)
    if image is not None:
        facts.size = image.shape[:2]
        facts.digest = hashlib.sha256(image.tobytes() + str(image.shape).encode()).digest()
    if label_map is None:
        return facts
    if image is not None and image.shape[:2] != label_map.shape:
        (height, width), (label_height, label_width) = image.shape[:2], label_map.shape
        message = (
            "An image and its label map must have the same size. Received (width x height): "
            f"{pair.image} {width}x{height}, {pair.label_map} {label_width}x{label_height}."
        )
        facts.problems.append(Problem("size", (str(pair.image), str(pair.label_map)), message))
    num_classes, ignore_class = label_space.num_classes, label_space.ignore_class
    known = len(facts.problems)
    attempt(
        "label",
        [pair.label_map],
        check_label_map,
        *(pair.label_map, label_map, num_classes, ignore_class),
    )
    if len(facts.problems) == known:
        is_class = label_map != ignore_class if ignore_class is not None else slice(None)
        counts = np.bincount(label_map[is_class].ravel(), minlength=num_classes)
        facts.counts = np.append(counts, label_map.size - counts.sum())
    return facts


def _count(report, counts):
    """Adds the pixels of one label map; the last of `counts` is those left out."""
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


def _lost_classes(pixels_of, class_names):
    """Yields a problem for each class without a training pixel or with pixels in one split only."""
    learnt = [split for split in pixels_of if Path(split).name.startswith("train")]
    to_learn = sum(pixels_of[split] for split in learnt or pixels_of)
    where = f" in {' and '.join(learnt)}" if learnt else ""
    for class_id, name in enumerate(class_names):
        holders = [split for split, pixels in pixels_of.items() if pixels[class_id]]
        if not to_learn[class_id]:
            message = f"No pixel{where} shows class {class_id}, {name}: a model cannot learn it."
        elif len(holders) == 1 < len(pixels_of):
            others = " and ".join(split for split in pixels_of if split not in holders)
            message = (
                f"Class {class_id}, {name}, occurs in {holders[0]} only: {others} cannot score it."
            )
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
            " If this is the second class, save it as 1, or describe both by a palette (--palette)."
        )
    yield Problem("ignored", (), message)


def match_pairs(images: Path, labels: Path) -> tuple[list[Pair], list[Problem]]:
    """Pairs images with label maps by their path without suffix, and goes on where one is missing.

    Args:
        images: Folder of images, with folders in it or without.
        labels: Folder of label maps, likewise.

    Returns:
        The pairs in the order of their names, and a `Problem` for every file that has no partner.
    """
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
            files = tuple(map(str, (*image_files[name], *label_files[name])))
            message = f"One name must stand for one image and one label map: {', '.join(files)}."
            problems.append(Problem("unmatched", files, message))
    return unlinked(pairs), problems


def find_splits(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Returns the folders of images and of label maps of each split in a folder.

    Four layouts are known: `images/` and `labels/`; the same with a folder for each split in both,
    or in a folder for each split; and CamVid's, `train/` and `trainannot/`, for any name of a
    split. Whatever a folder holds of them is returned.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it has none of these layouts.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"DIR must be a folder. Received: {folder}.")
    splits = {}
    images, labels = folder / "images", folder / "labels"
    if images.is_dir() and labels.is_dir():
        names = sorted(path.name for path in images.iterdir() if (labels / path.name).is_dir())
        splits = {name: (images / name, labels / name) for name in names}
        splits = splits or {folder.resolve().name: (images, labels)}
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    for name in names:
        if f"{name}annot" in names:
            splits[name] = (folder / name, folder / f"{name}annot")
        elif (folder / name / "images").is_dir() and (folder / name / "labels").is_dir():
            splits[name] = (folder / name / "images", folder / name / "labels")
    if not splits:
        raise ValueError(
            f"DIR must hold images/ and labels/, with or without a folder for each split in both, "
            f"or NAME/images and NAME/labels, or NAME and NAMEannot, for each split. Received: "
            f"{folder} with {', '.join(names) or 'no folders'}."
        )
    return splits
