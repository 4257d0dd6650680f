"""Finds label maps that are shifted or flipped against their images.

Boundaries of label maps lie on edges of their images. If they do so better after a flip or a shift,
the label maps were probably written with another origin, padding or crop than the images.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from keras_fcn.data.check_report import Problem
from keras_fcn.data.near_duplicates import grey_image
from keras_fcn.spelling import counted

_STEPS = (-16, -8, 0, 8, 16)
_SHIFTS = tuple((down, right) for down in _STEPS for right in _STEPS if (down, right) != (0, 0))

CHANGES: tuple[str, ...] = (
    "as they are",
    "flipped horizontally",
    "flipped vertically",
    "rotated by 180 degrees",
    *(
        "shifted by "
        + " and ".join(
            f"{counted(abs(pixels), 'pixel')} {names[pixels > 0]}"
            for pixels, names in ((down, ("up", "down")), (right, ("left", "right")))
            if pixels
        )
        for down, right in _SHIFTS
    ),
)
"""What may be done to a label map, in the order of the values of `boundary_fits`."""

# Thresholds, from the 468 pairs of SegNet's CamVid (480x360); see `misalignments`.
_MIN_PAIRS = 20
_MIN_SHARE = 0.8
_MIN_GAIN = 0.1
_MIN_GAIN_OF_ONE = 0.4

_MIN_SIDE = 64
_MIN_BOUNDARY = 300
_MAX_BOUNDARY = 5000
_NUM_SHOWN = 5


def boundary_fits(
    image: np.ndarray, label_map: np.ndarray, ignore_class: int | None
) -> np.ndarray | None:
    """Returns how well the boundaries of a label map lie on the edges of its image.

    A fit is the mean strength of the image's edges at the boundaries, in standard deviations above
    the mean of the image: 0 for boundaries anywhere. Edges are the gradient of the grey image by
    central differences, without the strongest 5 %, averaged over 3x3 pixels.

    Args:
        image: (height, width, channels), uint8.
        label_map: (height, width). Boundaries of ignored regions do not count.
        ignore_class: Label of ignored pixels.

    Returns:
        The fit of each of `CHANGES`, (28,), float32; `None` for images with a side below 64 pixels,
        with fewer than 300 pixels along boundaries, or without edges.
    """
    if min(label_map.shape) < _MIN_SIDE:
        return None
    rows, columns = _boundary(label_map, ignore_class)
    if len(rows) < _MIN_BOUNDARY:
        return None
    if len(rows) > _MAX_BOUNDARY:
        chosen = np.linspace(0, len(rows) - 1, _MAX_BOUNDARY).astype("int64")
        rows, columns = rows[chosen], columns[chosen]
    edges = _edges(image)
    deviation = edges.std()
    if deviation < 1e-3:
        return None
    edges = (edges - edges.mean()) / deviation
    height, width = edges.shape
    places = [
        (rows, columns),
        (rows, width - 1 - columns),
        (height - 1 - rows, columns),
        (height - 1 - rows, width - 1 - columns),
    ]
    for down, right in _SHIFTS:
        row, column = rows + down, columns + right
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        places.append((row[inside], column[inside]))
    return np.array([edges[place].mean() if len(place[0]) else 0.0 for place in places], "float32")


def misalignments(
    splits: Mapping[str, Sequence[tuple[str, np.ndarray | None]]],
) -> Iterator[Problem]:
    """Yields a warning for each split, or for pairs, whose label maps fit better after a change.

    A split is reported if, of at least 20 pairs, 80 % fit better after the same change and the mean
    fit grows by 0.1; else pairs whose fit grows by 0.4, together. On the 468 pairs of CamVid, no
    change makes more than 1.1 % of the pairs fit better, the mean fit falls by at least 0.37 (from
    1.04), and the fit of a single pair grows by at most 0.20. With all label maps flipped or
    rotated, 98.9 % or more fit better changed back, by 0.8 on average; shifted by 8 or 16 pixels,
    98.9 % or more, by 0.37 or more; shifted by 6 to 24 pixels along one or both axes, 91 % or more,
    by 0.17 or more. Shifts by 4 pixels are not found. Of single flipped label maps, 93 % are found,
    of those shifted by 8 pixels along an axis 33 to 84 %.

    Args:
        splits: For each split, the label map's file and `boundary_fits` of each of its pairs.
    """
    for split, pairs in splits.items():
        known = [(path, fits) for path, fits in pairs if fits is not None]
        if not known:
            continue
        fits = np.array([fit for _, fit in known])
        mean = fits.mean(axis=0)
        best = 1 + int(mean[1:].argmax())
        better = int((fits[:, best] > fits[:, 0]).sum())
        gain = mean[best] - mean[0]
        enough = len(known) >= _MIN_PAIRS and better >= _MIN_SHARE * len(known)
        if enough and gain >= _MIN_GAIN:
            yield Problem(
                "alignment",
                (),
                f"The label maps of {split} fit their images better {CHANGES[best]}: "
                f"{better} of {len(known)} do. Image edges are then {mean[best]:.2f} instead of "
                f"{mean[0]:.2f} standard deviations stronger at label boundaries than elsewhere. "
                "Look at keras-fcn data preview.",
                severity="warning",
            )
        else:
            yield from _single(split, [path for path, _ in known], fits)


def _single(split, paths, fits):
    gains = fits[:, 1:].max(axis=1) - fits[:, 0]
    places = np.argsort(-gains, kind="stable")
    places = places[gains[places] >= _MIN_GAIN_OF_ONE]
    if not len(places):
        return
    shown = ", ".join(
        f"{paths[place]} {CHANGES[1 + int(fits[place, 1:].argmax())]}"
        for place in places[:_NUM_SHOWN]
    )
    more = ", ..." * (len(places) > _NUM_SHOWN)
    count = f"{len(places)} label map{'s' * (len(places) > 1)}"
    yield Problem(
        "alignment",
        tuple(paths[place] for place in places),
        f"{count} of {split} would fit better flipped or shifted: {shown}{more}. Look at them.",
        severity="warning",
    )


def _edges(image):
    grey = np.asarray(grey_image(image), "float32")
    edges = np.zeros_like(grey)
    edges[:, 1:-1] += np.abs(grey[:, 2:] - grey[:, :-2])
    edges[1:-1] += np.abs(grey[2:] - grey[:-2])
    # Few strong edges, such as against the sky, would outweigh all others.
    edges = np.minimum(edges, np.quantile(edges[::4, ::4], 0.95))
    return _mean_of_3x3(edges)


def _mean_of_3x3(values):
    padded = np.pad(values, 1, mode="edge")
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    return (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / 9


def _boundary(label_map, ignore_class):
    """Returns rows and columns of the pixels whose left or upper neighbour has another class."""
    is_boundary = np.zeros(label_map.shape, bool)
    for first, second in (
        (np.s_[:, :-1], np.s_[:, 1:]),
        (np.s_[:-1], np.s_[1:]),
    ):
        one, other = label_map[first], label_map[second]
        differs = one != other
        if ignore_class is not None:
            differs &= (one != ignore_class) & (other != ignore_class)
        is_boundary[second] |= differs
    return np.nonzero(is_boundary)
