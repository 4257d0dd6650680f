"""Plots: curves, receptive fields, class shares and confusion matrices."""

import math
import os
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import BinaryIO

import numpy as np

from keras_fcn.alignment import FeatureMap
from keras_fcn.io.atomic import atomic_write
from keras_fcn.label_spaces import LabelSpace

_DOTS_PER_INCH = 130
_MOST_INCHES = 40  # A square of 27 million pixels.
_MOST_BARS_WITH_NUMBERS = 160


def plot_curves(history: list[dict], path: str | os.PathLike | BinaryIO) -> None:
    """Plots the losses, the validation scores and the learning rate over the epochs.

    Args:
        history: One dictionary per epoch, with `epoch`, `loss`, optionally `learning_rate` and,
            after a validation, `val_mean_iou` and `val_pixel_accuracy` in [0, 1] and optionally
            `val_loss`.
        path: PNG or SVG file to write, or a binary file object for a PNG.
    """
    from matplotlib.figure import Figure

    validated = [row for row in history if "val_mean_iou" in row]
    rates = [row for row in history if "learning_rate" in row]
    count = 1 + bool(validated) + bool(rates)
    figure = Figure(figsize=(4.5 * count, 3.4), layout="constrained")
    axes = figure.subplots(1, count, squeeze=False, sharex=True)[0]

    def draw(axis, rows, name, label, colour):
        points = [row["epoch"] for row in rows], [row[name] for row in rows]
        axis.plot(*points, marker="o", label=label, c=colour)

    draw(axes[0], history, "loss", "training", "#c44e52")
    if with_loss := [row for row in history if "val_loss" in row]:
        draw(axes[0], with_loss, "val_loss", "validation", "#dd8452")
        axes[0].legend(loc="upper right")
    axes[0].set(title="loss", xlabel="epoch", ylim=(0, None))
    if rates:
        draw(axes[-1], rates, "learning_rate", "learning rate", "#8172b3")
        axes[-1].set(title="learning rate", xlabel="epoch", ylim=(0, None))
    if validated:
        for name, label, colour in (
            ("val_mean_iou", "mean IoU", "#4c72b0"),
            ("val_pixel_accuracy", "pixel accuracy", "#55a868"),
        ):
            draw(axes[1], validated, name, label, colour)
        axes[1].set(title="validation", xlabel="epoch", ylim=(0, 1))
        axes[1].legend(loc="lower right")
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.xaxis.get_major_locator().set_params(integer=True)
    _save(figure, path)


def plot_histories(histories: Mapping[str, list[dict]], path: str | os.PathLike | BinaryIO) -> None:
    """Plots the training loss and the validation mean IoU of several runs over their epochs.

    Args:
        histories: The history of each run by its name, as in `plot_curves`.
        path: PNG or SVG file to write, or a binary file object for a PNG.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    axes = figure.subplots(1, 2, sharex=True)
    for name, history in histories.items():
        for axis, column in zip(axes, ("loss", "val_mean_iou"), strict=True):
            rows = [row for row in history if column in row]
            points = [row["epoch"] for row in rows], [row[column] for row in rows]
            axis.plot(*points, marker="o", ms=3, label=_literal(name))
    axes[0].set(title="training loss", xlabel="epoch", ylim=(0, None))
    axes[1].set(title="validation mean IoU", xlabel="epoch", ylim=(0, 1))
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", frameon=False)
    _save(figure, path)


def plot_rate_search(
    rates: Sequence[float],
    losses: Sequence[float],
    smoothed: Sequence[float],
    path: str | os.PathLike | BinaryIO,
    suggestion: float | None = None,
) -> None:
    """Plots the losses of a learning-rate range test over the logarithm of the rate.

    Args:
        rates: The learning rate of each step.
        losses: The loss of each step.
        smoothed: The smoothed loss of each step.
        path: PNG or SVG file to write, or a binary file object for a PNG.
        suggestion: A rate to mark, or `None`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.8), layout="constrained")
    axes = figure.subplots()
    axes.plot(rates, losses, ".", ms=3, c="#999999", label="loss")
    axes.plot(rates, smoothed, c="#4c72b0", label="smoothed")
    if suggestion is not None:
        axes.axvline(suggestion, c="#c44e52", ls="--", label=f"steepest: {suggestion:.2g}")
    finite = np.asarray(smoothed)[np.isfinite(smoothed)]
    # A loss that diverges would flatten the rest of the curve.
    low, high = finite.min(), min(finite.max(), 2 * finite[0])
    margin = 0.15 * (high - low) or 0.1
    axes.set(
        xscale="log", xlabel="learning rate", ylabel="loss", ylim=(low - margin, high + margin)
    )
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    _save(figure, path)


def plot_receptive_fields(
    maps: dict[str, FeatureMap],
    image_size: tuple[int, int],
    path: str | os.PathLike,
    image: np.ndarray | None = None,
) -> None:
    """Draws the receptive fields around the centre of the image: of the last layer of each stride.

    Args:
        maps: As from `keras_fcn.alignment.coordinate_maps`, in the order of the layers.
        image_size: (height, width) in pixels.
        path: PNG or SVG file to write.
        image: (height, width, 3), uint8, to draw them on; `None` for an empty one.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    last_of_stride = {found.height.stride: (name, found) for name, found in maps.items()}
    height, width = image_size
    figure = Figure(figsize=(7, 7 * height / width + 0.6), layout="constrained")
    axis = figure.subplots()
    axis.imshow(np.full((height, width, 3), 235, "uint8") if image is None else image)
    colours = [f"C{number % 10}" for number in range(len(last_of_stride))]
    for colour, (stride, (name, found)) in zip(colours, last_of_stride.items(), strict=True):
        corner, lengths = [], []
        for path_map, length in ((found.width, width), (found.height, height)):
            place = round(float((Fraction(length - 1, 2) - path_map.offset) / path_map.stride))
            first = max(-0.5, float(path_map.stride * place + path_map.first) - 0.5)
            end = min(length - 0.5, float(path_map.stride * place + path_map.last) + 0.5)
            corner.append(first)
            lengths.append(end - first)
        size = f"stride {float(stride):g}, {found.height.receptive_field:g} pixels"
        label = f"{_literal(name)}: {size}"
        axis.add_patch(
            Rectangle((corner[0], corner[1]), *lengths, fill=False, ec=colour, lw=2.2, label=label)
        )
    axis.set(xticks=(), yticks=())
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    _save(figure, path)


def plot_class_shares(shares: np.ndarray, label_space: LabelSpace, path: str | os.PathLike) -> None:
    """Plots the fraction of each class in a data set (class imbalance) as a bar in its colour.

    Args:
        shares: Fractions, (num_classes,).
        label_space: The `LabelSpace` of the classes.
        path: PNG or SVG file to write.
    """
    from matplotlib.figure import Figure

    percent = 100 * np.asarray(shares)
    figure = Figure(figsize=(7, min(0.8 + 0.24 * len(percent), _MOST_INCHES)), layout="constrained")
    axes = figure.subplots()
    colours = np.array(label_space.palette) / 255
    bars = axes.barh(range(len(percent)), percent, color=colours, edgecolor="black", lw=0.4)
    if len(percent) <= _MOST_BARS_WITH_NUMBERS:
        axes.bar_label(bars, fmt="%.2f %%", padding=3, fontsize=8)
    places = range(0, len(percent), math.ceil(len(percent) / _MOST_BARS_WITH_NUMBERS))
    axes.set_yticks(places, [_literal(label_space.class_names[place]) for place in places])
    axes.invert_yaxis()
    axes.set(xlabel="pixels that are not ignored, %", xlim=(0, 1.15 * max(percent.max(), 1e-9)))
    axes.tick_params(axis="y", labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    _save(figure, path)


def plot_confusion_matrix(
    matrix: np.ndarray, label_space: LabelSpace, path: str | os.PathLike | BinaryIO
) -> None:
    """Plots a confusion matrix in percent of the pixels of each true class.

    Args:
        matrix: Confusion matrix, (num_classes, num_classes); rows are the ground truth.
        label_space: The `LabelSpace` of the classes.
        path: PNG or SVG file to write, or a binary file object for a PNG.
    """
    from matplotlib.figure import Figure

    matrix = np.asarray(matrix)
    pixels = matrix.sum(axis=1, keepdims=True)
    percent = 100 * matrix / np.where(pixels == 0, 1, pixels)
    side = min(2.2 + 0.42 * len(matrix), _MOST_INCHES)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(percent, cmap="Blues", vmin=0, vmax=100)
    # Only as many names as fit.
    places = range(0, len(matrix), math.ceil(len(matrix) * 0.16 / side))
    names = [_literal(label_space.class_names[place]) for place in places]
    axes.set_xticks(places, names, rotation=90, fontsize=8)
    axes.set_yticks(places, names, fontsize=8)
    axes.set(xlabel="predicted", ylabel="truth", title="pixels of each class, %")
    if len(matrix) <= 40:  # More numbers do not fit into the cells.
        for row, column in np.ndindex(matrix.shape):
            axes.text(
                column,
                row,
                f"{percent[row, column]:.0f}",
                ha="center",
                va="center",
                fontsize=7,
                color="white" if percent[row, column] > 55 else "black",
            )
    _save(figure, path)


def _literal(name):
    """Returns a name as Matplotlib shows it: text between dollar signs would be a formula, and a
    legend leaves out what begins with an underscore.
    """
    name = name.replace("$", r"\$")
    return f" {name}" if name.startswith("_") else name


def _save(figure, path):
    if not isinstance(path, str | os.PathLike):
        figure.savefig(path, dpi=_DOTS_PER_INCH)
        return
    with atomic_write(path, sync=False) as temporary:
        figure.savefig(temporary, dpi=_DOTS_PER_INCH)
