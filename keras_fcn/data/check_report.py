"""What the check of a data set finds: its statistics and its problems."""

import dataclasses
from typing import Any

import numpy as np

from keras_fcn.data.class_weights import median_frequency, warn_of_absent_classes
from keras_fcn.label_spaces import LabelSpace
from keras_fcn.spelling import counted


@dataclasses.dataclass(frozen=True)
class Problem:
    """A problem of one or more files, or of a class.

    Args:
        kind: `"unmatched"`, `"unreadable"`, `"size"`, `"label"`, `"duplicate"`, `"class"` for a
            class that never occurs or occurs in one split only, `"ignored"` if more than half of
            all pixels are ignored, `"near-duplicate"` for images of two splits that are nearly the
            same, `"alignment"` for label maps that seem shifted or flipped, `"dark"` for images of
            16 bits with small values, `"pages"` for TIFFs of several pages, or `"unlabelled"` for
            label maps of which more than 95 % are ignored.
        files: The files that have the problem.
        message: One sentence, or two with the remedy.
        severity: `"error"`, or `"warning"` for what may be intended, which is shown, but leaves
            the exit code of `keras-fcn data check` at 0.
    """

    kind: str
    files: tuple[str, ...]
    message: str
    severity: str = "error"


@dataclasses.dataclass
class Report:
    """Statistics and problems of a data set.

    Args:
        label_space: `LabelSpace` of the label maps.
        num_pairs: Number of pairs by name of the split.
        sizes: Number of images of each (height, width).
        pixels: Number of pixels of each class.
        pixels_where_present: Number of pixels, of any class, in the images that show each class.
        images: Number of images that show each class.
        ignored_pixels: Number of ignored pixels.
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
        """Fraction of each class among the pixels that are not ignored, (num_classes,)."""
        return self.pixels / max(1, self.pixels.sum())

    @property
    def errors(self) -> list[Problem]:
        """The problems without the warnings."""
        return [problem for problem in self.problems if problem.severity == "error"]

    @property
    def class_weights(self) -> np.ndarray:
        """Returns `median_frequency` weights. Warns of classes that never occur."""
        warn_of_absent_classes(self.pixels, self.label_space.class_names)
        return median_frequency(self.pixels, self.pixels_where_present)

    def as_dict(self) -> dict:
        """Returns everything as JSON values."""
        weights: Any = median_frequency(self.pixels, self.pixels_where_present)
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
        lines = [f"{name}: {counted(count, 'pair')}" for name, count in self.num_pairs.items()]
        sizes = [f"{width}x{height} ({count})" for (height, width), count in self.sizes.items()]
        lines.append(f"sizes, width x height: {', '.join(sizes[:5])}{', ...' * (len(sizes) > 5)}")
        lines.append(f"{'class':<20} {'pixels':>14} {'share':>8} {'images':>7} {'weight':>8}")
        for entry in self.as_dict()["classes"]:
            weight = entry["median_frequency_weight"]
            lines.append(
                f"{entry['name']:<20} {entry['pixels']:>14,} {entry['share']:>8.2%} "
                f"{entry['images']:>7} {'-' if weight is None else f'{weight:.3f}':>8}"
            )
        lines.append(f"{'ignored':<20} {self.ignored_pixels:>14,}")
        for problem in self.problems:
            kind = problem.kind if problem.severity == "error" else f"warning, {problem.kind}"
            lines.append(f"{kind}: {problem.message}")
        num_errors, num_warnings = len(self.errors), len(self.problems) - len(self.errors)
        last = _number_of(num_errors, "problem")
        lines.append(last if not num_warnings else f"{last}, {_number_of(num_warnings, 'warning')}")
        return "\n".join(lines)


def _number_of(count, noun):
    return counted(count, noun) if count else f"no {noun}s"
