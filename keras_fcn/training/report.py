"""Writes the report of a training run: one self-contained HTML file, readable offline.

Pictures are embedded as `data:` URIs, and nothing in the file refers to another file.
"""

import base64
import dataclasses
import io
import math
import os
import string
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from keras_fcn.label_spaces import LabelSpace
from keras_fcn.training.evaluate import Scores, score_title
from keras_fcn.visualization import as_rgb, overlay, plot_confusion_matrix, plot_curves

_PANEL_SIZE = 480
_PLOT_PIXELS_PER_CSS_PIXEL = 1.3
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
) -> None:
    """Writes the report of a run as one HTML file.

    Args:
        path: The file. It is not written atomically: `Run.write_report` passes a temporary path.
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
    """
    sections = {
        "Scores": _headline(history, scores, view_scores),
        "Notes": "".join(f"<p>{escape(note)}</p>" for note in notes),
        "Curves": _curves(history),
        "Classes": _classes(scores, view_scores, label_space),
        "Confusion matrix": _confusion(scores, label_space),
        "Images": _images(scores, label_space, {"Best": best, "Worst": worst}),
        "Settings": _table(
            ("setting", "value"), ((escape(name), _setting(settings[name])) for name in settings)
        ),
        "Environment": _table(
            ("part", "value"), ((escape(name), escape(environment[name])) for name in environment)
        ),
    }
    body = "".join(
        f"<section>\n<h2>{heading}</h2>\n{content}\n</section>\n"
        for heading, content in sections.items()
        if content
    )
    page = _PAGE.substitute(title=escape(title), body=body)
    # File names may not be valid text in the encoding of the system.
    Path(path).write_text(page, encoding="utf-8", errors="backslashreplace")


def _headline(history, scores, view_scores):
    page = ""
    if history:
        last = history[-1]
        page = f"<p>Last epoch: {last['epoch']:.0f}, training loss {_score(last['loss'])}.</p>\n"
    if validated := [row for row in history if "val_mean_iou" in row]:
        top = max(validated, key=lambda row: row["val_mean_iou"])
        mean_iou = _score(top["val_mean_iou"])
        page += f"<p>Best epoch: {top['epoch']:.0f}, validation mean IoU {mean_iou}"
        page += (
            f", validation loss {_score(top['val_loss'])}.</p>\n"
            if "val_loss" in top
            else ".</p>\n"
        )
    if scores is None:
        return page + _NO_VALIDATION
    columns = {
        "validation": scores,
        "test-time augmentation": view_scores,
        "near boundaries": scores.trimap,
    }
    columns = {title: column.as_dict() for title, column in columns.items() if column is not None}
    rows = (
        (score_title(name), *(_score(column[name]) for column in columns.values()))
        for name in scores.as_dict()
    )
    page += _table(("score", *columns), rows, name="headline numbers")
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
    return _plot(f"{alt} over the epochs", lambda file: plot_curves(history, file))


def _classes(scores, view_scores, label_space):
    if scores is None:
        return _NO_VALIDATION
    truth = scores.matrix.sum(axis=1)
    columns = {
        "class": [_class_name(label_space, index) for index in range(label_space.num_classes)],
        "IoU": map(_score, scores.class_iou),
        "IoU, test-time augmentation": None
        if view_scores is None
        else map(_score, view_scores.class_iou),
        "accuracy": map(_score, _ratio(np.diagonal(scores.matrix), truth)),
        "share of pixels": map(_percent, _ratio(truth, truth.sum())),
    }
    columns = {title: column for title, column in columns.items() if column is not None}
    return _table(columns, zip(*columns.values(), strict=True), name="numbers") + (
        "<p>Accuracy is the fraction of the pixels of a class that are predicted correctly "
        "(recall).</p>"
    )


def _confusion(scores, label_space):
    if scores is None:
        return _NO_VALIDATION
    return _plot(
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
        f"<li>{_class_name(label_space, class_id)}</li>"
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
        f"<div>{_embedded(_jpeg(panel), f'{name}: {what}')}<span>{what}</span></div>"
        for what, panel in panels.items()
    )
    return (
        f"<figure>\n<figcaption><b>{name}</b> mean IoU {_score(example.mean_iou)}, "
        f'pixel accuracy {_score(example.pixel_accuracy)}</figcaption>\n<div class="panels">'
        f"{cells}</div>\n</figure>\n"
    )


def _table(headings: Iterable[str], rows: Iterable[Iterable[str]], name: str = "") -> str:
    """Returns a table in a scrollable box. All texts must be HTML."""
    head = "".join(f'<th scope="col">{heading}</th>' for heading in headings)
    body = "".join(
        f'<tr><th scope="row">{title}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>\n'
        for title, *cells in rows
    )
    return (
        f'<div class="scroll" tabindex="0"><table class="{name}">\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n"
    )


def _setting(value):
    """Returns a value as in TOML, but strings without quotation marks and `None` as a dash."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_setting, value))}]"
    return escape(str(value))


def _score(value):
    return "–" if math.isnan(value) else f"{value:.4f}"


def _percent(share):
    return "–" if math.isnan(share) else f"{100 * share:.2f} %"


def _ratio(part, whole):
    """Returns `part / whole`, NaN where `whole` is 0."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def _class_name(label_space, class_id):
    red, green, blue = label_space.palette[class_id]
    swatch = f'<span class="swatch" style="background:rgb({red},{green},{blue})"></span>'
    return swatch + escape(label_space.class_names[class_id])


def _plot(alt: str, draw: Callable[[io.BytesIO], None]) -> str:
    """Returns a plot in a scrollable box."""
    file = io.BytesIO()
    draw(file)
    image = _embedded(file.getvalue(), escape(alt), _PLOT_PIXELS_PER_CSS_PIXEL)
    return f'<div class="scroll plot" tabindex="0">{image}</div>\n'


def _jpeg(rgb):
    image = Image.fromarray(rgb)
    image.thumbnail((_PANEL_SIZE, _PANEL_SIZE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    return file.getvalue()


def _embedded(encoded, alt, pixels_per_css_pixel=1.0):
    with Image.open(io.BytesIO(encoded)) as image:
        width, height = (round(side / pixels_per_css_pixel) for side in image.size)
        kind = Image.MIME[image.format]
    data = base64.b64encode(encoded).decode("ascii")
    return f'<img src="data:{kind};base64,{data}" alt="{alt}" width="{width}" height="{height}">'


_PAGE = string.Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>
:root { --paper: #fff; --ink: #1c2024; --faint: #60646c; --line: #d9dce1; --band: #f5f6f8; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #16181b; --ink: #e6e8eb; --faint: #a0a5ad; --line: #363a40; --band: #1f2226; }
}
* { box-sizing: border-box; }
body { max-width: 1080px; margin: 0 auto; padding: 24px 16px 64px; overflow-wrap: anywhere;
  background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; }
h2 { margin: 40px 0 12px; border-top: 1px solid var(--line); padding-top: 12px;
  font-size: 1.25rem; }
h3 { margin: 24px 0 8px; font-size: 1.05rem; }
p { margin: 8px 0; }
.scroll { max-width: 100%; overflow: auto; }
.plot { width: fit-content; max-height: 1200px; background: #fff; border-radius: 6px; }
.plot img { display: block; }
table { border-collapse: collapse; font-size: .92rem; }
th, td { padding: 4px 16px 4px 8px; border-bottom: 1px solid var(--line); text-align: left; }
thead th { color: var(--faint); }
tbody th { font-weight: normal; white-space: nowrap; }
tbody tr:nth-child(even) { background: var(--band); }
.numbers td, .numbers th:not(:first-child) { text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
.headline td { font-size: 1.2rem; font-weight: 600; }
.swatch { display: inline-block; width: .9em; height: .9em; margin-right: .5em;
  border: 1px solid var(--faint); vertical-align: -.08em; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 20px; padding: 0; list-style: none; }
figure { margin: 0 0 24px; }
figcaption { margin-bottom: 4px; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(240px, 1fr)); gap: 8px; }
.panels img { display: block; width: 100%; height: auto; }
.panels span { color: var(--faint); font-size: .85rem; }
</style>
</head>
<body>
<main>
<h1>$title</h1>
$body</main>
</body>
</html>
""")
