"""Writes the report of a training run: one self-contained HTML file, readable offline."""

import dataclasses
import io
import math
import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from keras_fcn.label_spaces import LabelSpace
from keras_fcn.training.evaluate import Scores, score_title
from keras_fcn.training.html_page import (
    class_cell,
    embedded,
    plot,
    score_cell,
    setting_cell,
    table,
    write_page,
)
from keras_fcn.visualization import as_rgb, overlay, plot_confusion_matrix, plot_curves

_PANEL_SIZE = 480
_NO_VALIDATION = "<p>Nothing to show: the run had no validation set.</p>"


@dataclasses.dataclass(frozen=True)
class ReportImage:
    """An image of the validation set with its ground truth and its prediction.

    Args:
        name: Name of the image, such as its file name.
        pixel_accuracy: Pixel accuracy of this image.
        mean_iou: Mean IoU of this image.
        image: (height, width, channels), uint8.
        label_map: True class ids, (height, width).
        prediction: Predicted class ids, (height, width).
    """

    name: str
    pixel_accuracy: float
    mean_iou: float
    image: np.ndarray
    label_map: np.ndarray
    prediction: np.ndarray


def write_report(
    path: str | os.PathLike,
    *,
    title: str,
    settings: dict,
    history: list[dict],
    scores: Scores | None,
    view_scores: Scores | None,
    label_space: LabelSpace,
    best: Sequence[ReportImage],
    worst: Sequence[ReportImage],
    environment: dict[str, str],
    notes: Sequence[str] = (),
    other_scores: Mapping[str, Scores] | None = None,
) -> None:
    """Writes the report of a run as one HTML file.

    Args:
        path: The file. It is not written atomically: `RunWriter.write_report` passes a temporary
            path.
        title: Heading of the page.
        settings: Flat dictionary of TOML values and `None`.
        history: As from `keras_fcn.training.train`; the rows of epochs without validation
            lack the keys that start with `val_`.
        scores: `Scores` of the validation set, `None` if there is none.
        view_scores: `Scores` with test-time augmentation, `None` without.
        label_space: The `LabelSpace` of the classes.
        best: Images with the best predictions, in the order to show.
        worst: Images with the worst predictions, in the order to show.
        environment: As from `keras_fcn.training.environment.environment`.
        notes: Paragraphs for the reader.
        other_scores: `Scores` of the validation set for further tasks, by their names.
    """
    sections = {
        "Scores": _headline(history, scores, view_scores, other_scores or {}),
        "Notes": "".join(f"<p>{escape(note)}</p>" for note in notes),
        "Curves": _curves(history),
        "Classes": _classes(scores, view_scores, label_space),
        "Confusion matrix": _confusion(scores, label_space),
        "Images": _images(scores, label_space, {"Best": best, "Worst": worst}),
        "Settings": table(
            ("setting", "value"),
            ((escape(name), setting_cell(settings[name])) for name in settings),
        ),
        "Environment": table(
            ("part", "value"), ((escape(name), escape(environment[name])) for name in environment)
        ),
    }
    write_page(Path(path), title, sections)


def _headline(history, scores, view_scores, other_scores):
    page = ""
    if history:
        last = history[-1]
        page = (
            f"<p>Last epoch: {last['epoch']:.0f}, training loss {score_cell(last['loss'])}.</p>\n"
        )
    if validated := [row for row in history if "val_mean_iou" in row]:
        top = max(validated, key=lambda row: row["val_mean_iou"])
        mean_iou = score_cell(top["val_mean_iou"])
        page += f"<p>Best epoch: {top['epoch']:.0f}, validation mean IoU {mean_iou}"
        page += (
            f", validation loss {score_cell(top['val_loss'])}.</p>\n"
            if "val_loss" in top
            else ".</p>\n"
        )
    if scores is None:
        return page + _NO_VALIDATION
    columns = {
        "validation": scores,
        "test-time augmentation": view_scores,
        "near boundaries": scores.trimap,
        **other_scores,
    }
    columns = {title: column.as_dict() for title, column in columns.items() if column is not None}
    rows = (
        (score_title(name), *(score_cell(column[name]) for column in columns.values()))
        for name in scores.as_dict()
    )
    page += table(("score", *columns), rows, name="headline numbers")
    if view_scores is not None:
        page += "<p>Test-time augmentation: predictions averaged over several scales or flips.</p>"
    return page


def _curves(history):
    if not history:
        return "<p>Nothing to show: no epoch has ended.</p>"
    validated = any("val_mean_iou" in row for row in history)
    alt = "Training loss" + (
        ", validation loss, mean IoU and pixel accuracy, and learning rate" if validated else ""
    )
    return plot(f"{alt} over the epochs", lambda file: plot_curves(history, file))


def _classes(scores, view_scores, label_space):
    if scores is None:
        return _NO_VALIDATION
    truth = scores.matrix.sum(axis=1)
    columns = {
        "class": [class_cell(label_space, index) for index in range(label_space.num_classes)],
        "IoU": map(score_cell, scores.class_iou),
        "IoU, test-time augmentation": None
        if view_scores is None
        else map(score_cell, view_scores.class_iou),
        "accuracy": map(score_cell, _ratio(np.diagonal(scores.matrix), truth)),
        "share of pixels": map(_percent, _ratio(truth, truth.sum())),
    }
    columns = {title: column for title, column in columns.items() if column is not None}
    return table(columns, zip(*columns.values(), strict=True), name="numbers") + (
        "<p>Accuracy is the fraction of the pixels of a class that are predicted correctly "
        "(recall).</p>"
    )


def _confusion(scores, label_space):
    if scores is None:
        return _NO_VALIDATION
    return plot(
        f"Confusion matrix of {label_space.num_classes} classes; rows are the ground truth, "
        "columns the prediction",
        lambda file: plot_confusion_matrix(scores.matrix, label_space, file),
    )


def _images(scores, label_space, groups):
    if scores is None:
        return _NO_VALIDATION
    examples = [example for group in groups.values() for example in group]
    if not examples:
        return "<p>Nothing to show: no images were kept.</p>"
    maps = [labels for example in examples for labels in (example.label_map, example.prediction)]
    present = np.unique(np.concatenate([np.unique(labels) for labels in maps]))
    legend = "".join(
        f"<li>{class_cell(label_space, class_id)}</li>"
        for class_id in range(label_space.num_classes)
        if class_id in present
    )
    shown = "".join(
        f"<h3>{heading}</h3>\n" + "".join(_example(example, label_space) for example in group)
        for heading, group in groups.items()
        if group
    )
    return f'<ul class="legend">{legend}</ul>\n{shown}'


def _example(example, label_space):
    panels = {
        "image": as_rgb(example.image),
        "truth": overlay(example.image, example.label_map, label_space),
        "prediction": overlay(example.image, example.prediction, label_space),
    }
    name = escape(example.name)
    cells = "".join(
        f"<div>{embedded(_jpeg(panel), f'{name}: {what}')}<span>{what}</span></div>"
        for what, panel in panels.items()
    )
    return (
        f"<figure>\n<figcaption><b>{name}</b> mean IoU {score_cell(example.mean_iou)}, "
        f'pixel accuracy {score_cell(example.pixel_accuracy)}</figcaption>\n<div class="panels">'
        f"{cells}</div>\n</figure>\n"
    )


def _percent(share):
    return "–" if math.isnan(share) else f"{100 * share:.2f} %"


def _ratio(part, whole):
    """Returns `part / whole`, NaN where `whole` is 0."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def _jpeg(rgb):
    image = Image.fromarray(rgb)
    image.thumbnail((_PANEL_SIZE, _PANEL_SIZE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    return file.getvalue()
