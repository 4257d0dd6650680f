"""Divides a data set into parts with similar classes, such as folds of a cross-validation."""

import concurrent.futures
import re
from collections.abc import Callable, Sequence

import numpy as np

from keras_fcn.data.files import Pair
from keras_fcn.data.label_map_files import Palette, check_label_map, read_label_map
from keras_fcn.label_spaces import LabelSpace

# Shares are integers, so that every machine adds and compares them alike.
_WHOLE = 1 << 20


def partition(
    counts: np.ndarray, groups: Sequence[str], shares: Sequence[float]
) -> list[list[int]]:
    """Divides images into parts, so that each part gets its share of every class and of the images.

    A group stays in one part. Groups are assigned one after the other, those first that hold the
    largest fraction of a class, each to the part that then deviates least from its shares (squared
    deviation, summed over the classes); but the last groups with a class go to parts without it, so
    that every part can hold every class. The result depends only on the arguments, and not on the
    order of the images.

    Args:
        counts: Number of pixels of each class in each image, (images, num_classes).
        groups: Name of the group of each image.
        shares: Fraction of the data set that each part shall hold; their sum is 1.

    Returns:
        For each part, the indices of its images in ascending order.

    Raises:
        ValueError: If there are fewer groups than parts.

    References:
        - [Sechidis et al., On the Stratification of Multi-label Data, 2011](
          https://doi.org/10.1007/978-3-642-23808-6_10)

    Examples:
        >>> counts = np.array([[90, 10], [100, 0], [100, 0], [90, 10]])
        >>> partition(counts, ["a", "b", "c", "d"], [0.5, 0.5])
        [[0, 1], [2, 3]]
    """
    names = sorted(set(groups))
    if len(names) < len(shares):
        raise ValueError(
            f"At least {len(shares)} groups of images are needed for {len(shares)} parts. "
            f"Received: {len(names)}, {', '.join(names)}."
        )
    place = {name: number for number, name in enumerate(names)}
    sums = np.zeros((len(names), counts.shape[1] + 1), "int64")
    for name, count in zip(groups, counts, strict=True):
        sums[place[name]] += [*count, 1]
    fractions = sums * _WHOLE // np.maximum(1, sums.sum(0))
    # Part of each class that is still missing.
    missing = np.outer(np.round(np.array(shares) * _WHOLE).astype("int64"), sums.any(0))
    held = np.zeros((len(shares), sums.shape[1]), bool)
    left = (sums > 0).sum(0)  # Groups that are not assigned yet, by class.
    part_of: dict[str, int] = {}
    for group in sorted(range(len(names)), key=lambda g: (-fractions[g].max(), g)):
        shown, added = sums[group] > 0, fractions[group]
        # Classes whose remaining groups suffice only if each goes to a part without the class.
        scarce = shown & (left <= (~held).sum(0))
        # By how much the sum of the squared deviations grows.
        growth = (added * (added - 2 * missing)).sum(1)
        order = np.lexsort((-missing[:, -1], growth, -(scarce & ~held).sum(1)))
        part = int(order[0])
        held[part] |= shown
        left -= shown
        missing[part] -= added
        part_of[names[group]] = part
    return [
        [number for number, name in enumerate(groups) if part_of[name] == part]
        for part in range(len(shares))
    ]


def groups_of(names: Sequence[str], pattern: str | None) -> list[str]:
    """Returns the group of each image, which no split may divide: that of the frames of a video.

    Args:
        names: Names of the images, without suffix.
        pattern: Regular expression that is searched in a name. What its first group matches, or all
            of it without a group, is the image's group. `None` makes each image a group.

    Raises:
        ValueError: If the pattern is no regular expression, or does not match a name.

    Examples:
        >>> groups_of(["0016E5_07959", "0016E5_07961", "Seq05VD_f00000"], "^(.+)_")
        ['0016E5', '0016E5', 'Seq05VD']
    """
    if pattern is None:
        return list(names)
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ValueError(
            f"`group_by` must be a regular expression. Received: {pattern!r}, {error}."
        ) from error
    groups = []
    for name in names:
        match = expression.search(name)
        if match is None:
            raise ValueError(
                f"`group_by` must match the name of every image. Received: {pattern!r}, which does "
                f"not match {name}."
            )
        groups.append(match[1 if expression.groups else 0] or "")
    return groups


def series_of(names: Sequence[str]) -> tuple[str, str] | None:
    """Returns two names that differ only in their last number, if many names do, else `None`.

    Such images are often frames of one video. Names of a single series, such as `image0001` and
    `image0002`, are taken for plain numbers.

    Args:
        names: Names of the images, without suffix.

    Examples:
        >>> series_of(["a_1", "a_2", "a_3", "b_1", "b_2"])
        ('a_1', 'a_2')
        >>> series_of(["a_1", "a_2", "a_3"])
    """
    series: dict[str, list[str]] = {}
    for name in names:
        series.setdefault(re.sub(r"\d+\D*$", "", name), []).append(name)
    members = max(series.values(), key=len, default=[])
    if len(series) < 2 or 2 * len(series) > len(names) or len(members) < 2:
        return None
    return members[0], members[1]


def count_pixels(
    pairs: Sequence[Pair],
    label_space: LabelSpace,
    palette: Palette | None = None,
    progress: Callable[[], None] | None = None,
) -> np.ndarray:
    """Returns the number of pixels of each class in each label map, (pairs, num_classes).

    Args:
        pairs: Pairs of files.
        label_space: Label space of the label maps.
        palette: Colours of true-colour label maps, see `read_label_map`.
        progress: Called after every label map.

    Raises:
        ValueError: If a label map cannot be used.
    """
    num_classes, ignore_class = label_space.num_classes, label_space.ignore_class

    def count(pair):
        label_map = read_label_map(pair.label_map, palette)
        check_label_map(pair.label_map, label_map, num_classes, ignore_class)
        is_class = label_map != ignore_class if ignore_class is not None else slice(None)
        return np.bincount(label_map[is_class].ravel(), minlength=num_classes)

    counts = []
    with concurrent.futures.ThreadPoolExecutor() as threads:
        for counted in threads.map(count, pairs):
            counts.append(counted)
            if progress is not None:
                progress()
    return np.array(counts, "int64").reshape(len(pairs), num_classes)
