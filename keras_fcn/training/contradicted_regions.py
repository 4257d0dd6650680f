"""Finds the regions of a label map that a model contradicts confidently.

Confident learning: a label is doubtful where the model gives another class at least the probability
that it gives, on average, to pixels that are labelled as that class. Single pixels say little in
segmentation, since boundaries are always off by a few: what counts are whole regions.

References:
    - [Northcutt et al., Confident Learning: Estimating Uncertainty in Dataset Labels, 2021](
      https://arxiv.org/abs/1911.00068)
"""

import dataclasses

import numpy as np

MARGIN = 3
"""Pixels around a contradicted one that must be contradicted alike; removes boundary noise."""


@dataclasses.dataclass(frozen=True, eq=False)
class Region:
    """A connected region with one label, for which a model predicts one other class.

    Args:
        label: Class id in the label map.
        predicted: Class id that the model predicts.
        score: Sum of the probabilities of the predicted class, in pixels.
        probability: Mean probability of the predicted class.
        box: (top, left, bottom, right) in pixels, bottom and right exclusive.
        pixels: Rows and columns of its pixels, (2, pixels).
    """

    label: int
    predicted: int
    score: float
    probability: float
    box: tuple[int, int, int, int]
    pixels: np.ndarray


class ClassThresholds:
    """Mean probability of each class over the pixels that are labelled as it.

    Args:
        num_classes: Number of classes.
        ignore_class: Label of ignored pixels.
    """

    def __init__(self, num_classes: int, ignore_class: int | None = None):
        self._sums = np.zeros((2, num_classes))
        self._ignore_class = ignore_class

    def add(self, label_map: np.ndarray, probabilities: np.ndarray) -> None:
        """Adds an image.

        Args:
            label_map: (height, width).
            probabilities: (height, width, num_classes).
        """
        is_class = label_map != self._ignore_class
        labels = label_map[is_class]
        own = np.take_along_axis(probabilities[is_class], labels[:, None], axis=1)[:, 0]
        num_classes = self._sums.shape[1]
        self._sums[0] += np.bincount(labels, own, minlength=num_classes)
        self._sums[1] += np.bincount(labels, minlength=num_classes)

    def values(self) -> np.ndarray:
        """Returns the thresholds, (num_classes,), float64; 1 for classes without a pixel."""
        sums, counts = self._sums
        return np.where(counts > 0, sums / np.maximum(counts, 1), 1.0)


@dataclasses.dataclass(frozen=True, eq=False)
class Contradictions:
    """The contradicted pixels of an image, in about 8 bytes each.

    Args:
        shape: (height, width) of the image.
        places: Indices of the pixels in the flat image, (pixels,).
        labels: Their labels.
        predicted: The classes that the model predicts for them.
        probabilities: The probabilities of these classes, float16.
    """

    shape: tuple[int, int]
    places: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray

    @classmethod
    def of(
        cls, label_map: np.ndarray, probabilities: np.ndarray, ignore_class: int | None = None
    ) -> "Contradictions":
        """Returns the pixels of an image whose predicted class is not their label.

        Args:
            label_map: (height, width).
            probabilities: (height, width, num_classes).
            ignore_class: Label of ignored pixels, which are never contradicted.
        """
        predicted = probabilities.argmax(axis=-1)
        wrong = (predicted != label_map) & (label_map != ignore_class)
        small = np.min_scalar_type(probabilities.shape[-1])
        return cls(
            label_map.shape,
            np.flatnonzero(wrong).astype("int32"),
            label_map[wrong].astype(small),
            predicted[wrong].astype(small),
            probabilities.max(axis=-1)[wrong].astype("float16"),
        )

    def regions(self, thresholds: np.ndarray, margin: int = MARGIN) -> list[Region]:
        """Returns the regions that are contradicted with at least the thresholds' probabilities.

        A pixel belongs to a region if all pixels within `margin` rows and columns have the same
        label and the same predicted class with enough probability. So regions narrower than
        2 `margin` + 1 pixels, such as boundaries that are drawn a little off, do not count.

        Args:
            thresholds: Least probability of each predicted class, (num_classes,).
            margin: In pixels.

        Returns:
            The regions, highest score first.
        """
        num_classes = len(thresholds)
        # float16 may round a probability below a threshold that it equals.
        confident = self.probabilities >= thresholds[self.predicted] - 1e-3
        places = self.places[confident]
        kinds = np.full(self.shape[0] * self.shape[1], -1, "int64")
        kinds[places] = (
            self.labels[confident].astype("int64") * num_classes + self.predicted[confident]
        )
        kinds = kinds.reshape(self.shape)
        probabilities = np.zeros(self.shape, "float32")
        probabilities.ravel()[places] = self.probabilities[confident]
        core = _core(kinds, margin)
        rows, columns = np.nonzero(core)
        found = []
        for members in _components(core, kinds):
            row, column = rows[members], columns[members]
            values = probabilities[row, column]
            label, predicted = divmod(int(kinds[row[0], column[0]]), num_classes)
            box = (
                max(0, int(row.min()) - margin),
                max(0, int(column.min()) - margin),
                min(self.shape[0], int(row.max()) + margin + 1),
                min(self.shape[1], int(column.max()) + margin + 1),
            )
            score, mean = float(values.sum()), float(values.mean())
            found.append(Region(label, predicted, score, mean, box, np.stack([row, column])))
        return sorted(found, key=lambda region: -region.score)


def _core(kinds, margin):
    """Pixels of a kind of which all neighbours within `margin` are; the image's edge is no end."""
    core = kinds >= 0
    for axis in (0, 1):
        along, values = np.moveaxis(core, axis, 0), np.moveaxis(kinds, axis, 0)
        kept = along.copy()
        for step in range(1, min(margin, len(along) - 1) + 1):
            same = values[step:] == values[:-step]
            kept[:-step] &= along[step:] & same
            kept[step:] &= along[:-step] & same
        core = np.moveaxis(kept, 0, axis)
    return core


def _components(core, kinds):
    """Returns the indices, among the pixels of `core`, of each connected region of one kind."""
    number = np.cumsum(core).reshape(core.shape) - 1
    pairs = []
    for first, second in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        joined = core[first] & core[second] & (kinds[first] == kinds[second])
        pairs.append((number[first][joined], number[second][joined]))
    one, other = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    root = np.arange(int(core.sum()))
    # Each round gives the roots of neighbours the smaller of both, then follows them to the end.
    while len(one):
        ends, starts = root[one], root[other]
        if np.array_equal(ends, starts):
            break
        np.minimum.at(root, np.maximum(ends, starts), np.minimum(ends, starts))
        while not np.array_equal(root, root[root]):
            root = root[root]
    order = np.argsort(root, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(root[order])) + 1) if len(order) else []
