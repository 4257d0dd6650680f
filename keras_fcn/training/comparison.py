"""Puts runs side by side: settings that differ, scores, curves and classes."""

import dataclasses
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from keras_fcn.io.atomic import atomic_write
from keras_fcn.training.final_report import evaluate_images
from keras_fcn.training.html_page import (
    class_cell,
    plot,
    score_cell,
    setting_cell,
    table,
    write_page,
)
from keras_fcn.training.image_scores import Difference, ImageScores, paired_bootstrap
from keras_fcn.training.recipe import SETTINGS
from keras_fcn.training.run import Run
from keras_fcn.training.trained import open_run
from keras_fcn.visualization import plot_histories


@dataclasses.dataclass(frozen=True)
class Compared:
    """A run with its scores.

    Args:
        name: Path of the run as it was given.
        run: The run.
        scores: Scores of each validation image, `None` without a validation split.
        difference: Difference in mean IoU to the first run; `None` for the first, and for runs that
            were validated on other images.
    """

    name: str
    run: Run
    scores: ImageScores | None
    difference: Difference | None

    @property
    def best_epoch(self) -> int | None:
        """The epoch of the best model, `None` without validation."""
        validated = [row for row in self.run.history() if "val_mean_iou" in row]
        return max(validated, key=lambda row: row["val_mean_iou"])["epoch"] if validated else None


class Comparison:
    """Runs side by side; differences are those to the first run.

    Runs that ended before they were finished, or with an earlier version, are evaluated on their
    validation split.

    Args:
        paths: Run folders. A staged run counts as its last stage.

    Raises:
        FileNotFoundError: If there is no run, or it has no model yet.
        ValueError: If there are fewer than two, or the data of one that must be evaluated are gone.
    """

    def __init__(self, paths: Sequence[str | os.PathLike]):
        if len(paths) < 2:
            raise ValueError(f"RUN must be given at least twice. Received: {len(paths)}.")
        opened = [open_run(path) for path in paths]
        scores = [_scores_of(run) for run in opened]
        self.runs = [
            Compared(os.fspath(path), run, own, _difference(own, scores[0]) if number else None)
            for number, (path, run, own) in enumerate(zip(paths, opened, scores, strict=True))
        ]

    def settings(self) -> dict[str, list[Any]]:
        """Returns the settings that differ: the value of each run by the setting's name."""
        recipes = [compared.run.recipe()[1] for compared in self.runs]
        values = {name: [getattr(recipe, name) for recipe in recipes] for name in SETTINGS}
        return {name: each for name, each in values.items() if any(v != each[0] for v in each)}

    def class_names(self) -> tuple[str, ...] | None:
        """Returns the names of the classes, `None` if the runs have different ones."""
        names = {compared.run.label_space().class_names for compared in self.runs}
        return names.pop() if len(names) == 1 else None

    def remarks(self) -> list[str]:
        """Returns one sentence for each run that has no scores, or no difference to the first."""
        first, *others = self.runs
        found = [f"{c.name} has no validation scores." for c in self.runs if c.scores is None]
        found += [
            f"{c.name} was validated on other images or label maps than {first.name}, so there is "
            "no difference of their scores."
            for c in others
            if first.scores is not None and c.scores is not None and c.difference is None
        ]
        return found

    def as_dict(self) -> dict[str, Any]:
        """Returns everything as JSON values."""
        return {
            "runs": [
                {
                    "run": compared.name,
                    "best_epoch": compared.best_epoch,
                    **({} if compared.scores is None else _as_json(compared)),
                    "difference": compared.difference and dataclasses.asdict(compared.difference),
                }
                for compared in self.runs
            ],
            "settings": self.settings(),
            "remarks": self.remarks(),
        }

    def as_text(self) -> str:
        """Returns everything as tables of plain text."""
        names = [compared.name for compared in self.runs]
        lines = _columns(["run", *_SCORES], [[c.name, *_score_row(c)] for c in self.runs])
        if settings := self.settings():
            rows = [[name, *map(_plain, values)] for name, values in settings.items()]
            lines += ["", *_columns(["settings that differ", *names], rows)]
        else:
            lines += ["", "All settings are equal."]
        if (classes := self.class_names()) is not None:
            columns = [_class_column(compared, len(classes)) for compared in self.runs]
            rows = [
                [name, *(score_cell(float(column[number])) for column in columns)]
                for number, name in enumerate(classes)
            ]
            lines += ["", *_columns(["IoU", *names], rows)]
        else:
            lines += ["", _DIFFERENT_CLASSES]
        if remarks := self.remarks():
            lines += ["", *remarks]
        return "\n".join(lines)

    def write_html(self, path: str | os.PathLike) -> None:
        """Writes everything, with curves, as one self-contained HTML file."""
        names = [escape(compared.name) for compared in self.runs]
        rows: Any = ([escape(c.name), *map(escape, _score_row(c))] for c in self.runs)
        remarks = "".join(f"<p>{escape(sentence)}</p>" for sentence in self.remarks())
        sections = {
            "Scores": table(("run", *_SCORES), rows, name="numbers") + _BOOTSTRAP + remarks,
            "Curves": plot(
                "Training loss and validation mean IoU of each run over its epochs",
                lambda file: plot_histories({c.name: c.run.history() for c in self.runs}, file),
            ),
            "Settings that differ": self._settings_html(names),
            "IoU of each class": self._classes_html(names),
        }
        with atomic_write(Path(path)) as temporary:
            write_page(temporary, "Comparison of " + ", ".join(c.name for c in self.runs), sections)

    def _settings_html(self, names):
        rows = (
            [escape(name), *map(setting_cell, values)] for name, values in self.settings().items()
        )
        return table(("setting", *names), rows) if self.settings() else "<p>None.</p>"

    def _classes_html(self, names):
        classes = self.class_names()
        if classes is None:
            return f"<p>{_DIFFERENT_CLASSES}</p>"
        space = self.runs[0].run.label_space()
        columns = [_class_column(compared, len(classes)) for compared in self.runs]
        rows = (
            [class_cell(space, number), *(score_cell(float(column[number])) for column in columns)]
            for number in range(len(classes))
        )
        return table(("class", *names), rows, name="numbers")


_SCORES = ("best epoch", "mean IoU", "pixel accuracy", "difference", "95 % interval", "better in")
_DIFFERENT_CLASSES = "The runs have different classes."
_BOOTSTRAP = (
    "<p>The difference is that of the mean IoU to the first run. Interval: paired bootstrap over "
    "the validation images, 10,000 resamples; better in: share of the resamples in which the run "
    "is better than the first. Both say how much the scores depend on the images, not on the seed "
    "of the training.</p>"
)


def _scores_of(run):
    if (scores := run.image_scores()) is not None:
        return scores
    if not any("val_mean_iou" in row for row in run.history()):
        return None
    return evaluate_images(run)


def _difference(scores, baseline):
    if scores is None or baseline is None or not scores.has_images_of(baseline):
        return None
    return paired_bootstrap(scores, baseline)


def _as_json(compared):
    iou = zip(compared.run.label_space().class_names, compared.scores.class_iou, strict=True)
    return {
        "images": len(compared.scores.names),
        "scores": {
            "pixel_accuracy": compared.scores.pixel_accuracy,
            "mean_iou": compared.scores.mean_iou,
        },
        "class_iou": {name: None if np.isnan(value) else float(value) for name, value in iou},
    }


def _score_row(compared):
    if compared.scores is None:
        return ["–"] * len(_SCORES)
    row = [str(compared.best_epoch), score_cell(compared.scores.mean_iou)]
    row.append(score_cell(compared.scores.pixel_accuracy))
    if (difference := compared.difference) is None:
        return [*row, "–", "–", "–"]
    row += [f"{difference.value:+.4f}", f"{difference.low:+.4f} to {difference.high:+.4f}"]
    return [*row, f"{100 * difference.better:.1f} %"]


def _class_column(compared, num_classes):
    return np.full(num_classes, np.nan) if compared.scores is None else compared.scores.class_iou


def _plain(value):
    return "–" if value is None else str(list(value) if isinstance(value, tuple) else value)


def _columns(headings, rows):
    """Returns lines of text, the first column to the left and the others to the right."""
    cells = [headings, *rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if number == 0 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
