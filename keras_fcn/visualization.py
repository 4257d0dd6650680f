"""Pictures of label maps, curves, confusion matrices and legends."""

import math
import os
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageDraw

from keras_fcn.alignment import FeatureMap
from keras_fcn.label_spaces import LabelSpace

# At 130 pixels per inch, a square of 27 million pixels.
_MOST_INCHES = 40
_MOST_BARS_WITH_NUMBERS = 160


def colorize(label_map: np.ndarray, label_space: LabelSpace) -> np.ndarray:
    """Returns the label map in the colours of its classes; other pixels are white.

    Args:
        label_map: Class ids, (height, width).
        label_space: The `LabelSpace` with the palette.

    Returns:
        RGB, (height, width, 3), uint8.
    """
    label_map = np.asarray(label_map)
    palette = np.array([*label_space.palette, (255, 255, 255)], "uint8")
    is_class = (label_map >= 0) & (label_map < label_space.num_classes)
    return palette[np.where(is_class, label_map, label_space.num_classes)]


def as_rgb(image: np.ndarray) -> np.ndarray:
    """Returns what is shown of an image of any number of channels.

    Args:
        image: (height, width, channels), in [0, 255].

    Returns:
        (height, width, 3), uint8: the first three channels; the first one as grey of two or one.
    """
    image = np.asarray(image)
    shown = image[..., :3] if image.shape[-1] >= 3 else np.repeat(image[..., :1], 3, axis=-1)
    return np.clip(shown, 0, 255).astype("uint8", copy=False)


def overlay(
    image: np.ndarray, label_map: np.ndarray, label_space: LabelSpace, opacity: float = 0.5
) -> np.ndarray:
    """Returns the image blended with the colours of the classes; other pixels stay unchanged.

    Args:
        image: (height, width, channels), uint8, shown by `as_rgb`.
        label_map: Class ids, (height, width).
        label_space: The `LabelSpace` with the palette.
        opacity: Opacity of the colours, from 0 to 1.

    Returns:
        RGB, (height, width, 3), uint8.
    """
    label_map = np.asarray(label_map)
    is_class = (label_map >= 0) & (label_map < label_space.num_classes)
    alpha = np.where(is_class, opacity, 0.0)[..., None]
    blended = (1 - alpha) * as_rgb(image) + alpha * colorize(label_map, label_space)
    return np.rint(blended).astype("uint8")


def outline(
    image: np.ndarray, label_map: np.ndarray, label_space: LabelSpace, thickness: int = 2
) -> np.ndarray:
    """Returns the image with the outlines of the regions in the colours of their classes.

    Args:
        image: (height, width, channels), uint8, shown by `as_rgb`.
        label_map: Class ids, (height, width).
        label_space: The `LabelSpace` with the palette.
        thickness: Width of an outline in pixels on each side of a boundary.

    Returns:
        RGB, (height, width, 3), uint8.
    """
    label_map = np.asarray(label_map)
    is_class = (label_map >= 0) & (label_map < label_space.num_classes)
    near = np.zeros(label_map.shape, bool)
    for axis in (0, 1):
        for shift in range(1, thickness + 1):
            if shift >= label_map.shape[axis]:
                continue
            first = [slice(None)] * 2
            second = [slice(None)] * 2
            first[axis], second[axis] = slice(None, -shift), slice(shift, None)
            differs = label_map[tuple(first)] != label_map[tuple(second)]
            near[tuple(first)] |= differs
            near[tuple(second)] |= differs
    shown = (near & is_class)[..., None]
    return np.where(shown, colorize(label_map, label_space), as_rgb(image))


def save_label_map(
    path: str | os.PathLike | BinaryIO, label_map: np.ndarray, label_space: LabelSpace
) -> None:
    """Writes a palette PNG whose indices are class ids, shown in the colours of the classes.

    More than 256 classes do not fit a palette and are written as a 16-bit grey PNG.

    Args:
        path: File to write, or one open for writing.
        label_map: Class ids, (height, width).
        label_space: The `LabelSpace` with the palette.
    """
    # An open file has no suffix that names the format.
    image_format = None if isinstance(path, str | os.PathLike) else "PNG"
    if label_space.num_classes > 256:
        Image.fromarray(np.asarray(label_map).astype("uint16")).save(path, image_format)
        return
    image = Image.fromarray(np.asarray(label_map).astype("uint8"))
    palette = np.zeros((256, 3), "uint8")
    palette[: label_space.num_classes] = label_space.palette
    palette[label_space.num_classes :] = 255
    image.putpalette(palette.ravel().tolist())
    image.save(path, image_format)


def overlay_picture(
    image: np.ndarray,
    label_map: np.ndarray,
    label_space: LabelSpace,
    *,
    outlines: bool = False,
    legend_classes: Sequence[int] | None = None,
) -> Image.Image:
    """Returns the overlay of an image and a label map, with a legend of its classes below.

    Args:
        image: As in `overlay`.
        label_map: As in `overlay`.
        label_space: As in `overlay`.
        outlines: Whether to draw the outlines of the regions instead of their areas.
        legend_classes: Class ids in the legend; `None` for those of the label map, and an empty
            sequence for no legend.
    """
    draw = outline if outlines else overlay
    picture = Image.fromarray(draw(image, label_map, label_space))
    if legend_classes is None:
        ids = np.unique(label_map)
        legend_classes = [int(label) for label in ids if 0 <= label < label_space.num_classes]
    if not legend_classes:
        return picture
    return stack_pictures([picture, legend(label_space, max(picture.width, 150), legend_classes)])


def picture_row(panels: dict[str, np.ndarray], height: int | None = None) -> Image.Image:
    """Returns one picture of captioned panels side by side.

    Args:
        panels: Dictionary from caption to RGB (height, width, 3), uint8, all of one size.
        height: Height of a panel in pixels; `None` for the original height.

    Returns:
        `PIL.Image.Image`.
    """
    margin, caption_height = 6, 18
    images = [Image.fromarray(panel) for panel in panels.values()]
    if height is not None:
        scale = height / images[0].height
        size = (round(images[0].width * scale), height)
        resampling = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
        images = [image.resize(size, resampling) for image in images]
    width = images[0].width
    picture = Image.new(
        "RGB",
        (margin + len(images) * (width + margin), caption_height + images[0].height + margin),
        "white",
    )
    draw = ImageDraw.Draw(picture)
    for column, (caption, image) in enumerate(zip(panels, images, strict=True)):
        left = margin + column * (width + margin)
        draw.text((left, 3), caption, fill="black")
        picture.paste(image, (left, caption_height))
    return picture


def stack_pictures(pictures: list[Image.Image]) -> Image.Image:
    """Returns one picture of several, stacked vertically."""
    size = max(picture.width for picture in pictures), sum(picture.height for picture in pictures)
    stacked = Image.new("RGB", size, "white")
    top = 0
    for picture in pictures:
        stacked.paste(picture, (0, top))
        top += picture.height
    return stacked


def contact_sheet(
    examples: dict[str, dict[str, np.ndarray]], label_space: LabelSpace, height: int = 180
) -> Image.Image:
    """Returns one picture of examples, two per row, each as image and overlay, with a legend.

    Args:
        examples: Dictionary from a caption to `"image"` and `"label_map"`, of any sizes.
        label_space: The `LabelSpace` of the label maps.
        height: Height of an image on the sheet, in pixels.
    """
    rows = []
    for caption, example in examples.items():
        blended = overlay(example["image"], example["label_map"], label_space)
        rows.append(picture_row({caption: as_rgb(example["image"]), "overlay": blended}, height))
    columns = [stack_pictures(rows[start::2]) for start in range(min(2, len(rows)))]
    sheet = Image.new(
        "RGB",
        (sum(column.width for column in columns), max(column.height for column in columns)),
        "white",
    )
    left = 0
    for column in columns:
        sheet.paste(column, (left, 0))
        left += column.width
    return stack_pictures([sheet, legend(label_space, sheet.width)])


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
    figure.savefig(path, dpi=130)


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
            axis.plot(*points, marker="o", ms=3, label=name)
    axes[0].set(title="training loss", xlabel="epoch", ylim=(0, None))
    axes[1].set(title="validation mean IoU", xlabel="epoch", ylim=(0, 1))
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", frameon=False)
    figure.savefig(path, dpi=130)


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
    figure.savefig(path, dpi=130)


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
        label = f"{name}: stride {float(stride):g}, {found.height.receptive_field:g} pixels"
        axis.add_patch(
            Rectangle((corner[0], corner[1]), *lengths, fill=False, ec=colour, lw=2.2, label=label)
        )
    axis.set(xticks=(), yticks=())
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(path, dpi=130)


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
    axes.set_yticks(places, [label_space.class_names[place] for place in places])
    axes.invert_yaxis()
    axes.set(xlabel="pixels that are not ignored, %", xlim=(0, 1.15 * max(percent.max(), 1e-9)))
    axes.tick_params(axis="y", labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(path, dpi=130)


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
    percent = 100 * matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = min(2.2 + 0.42 * len(matrix), _MOST_INCHES)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(percent, cmap="Blues", vmin=0, vmax=100)
    # Only as many names as fit.
    places = range(0, len(matrix), math.ceil(len(matrix) * 0.16 / side))
    names = [label_space.class_names[place] for place in places]
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
    figure.savefig(path, dpi=130)


def legend(
    label_space: LabelSpace, width: int, class_ids: Sequence[int] | None = None
) -> Image.Image:
    """Returns a picture of the colours and names of classes.

    Args:
        label_space: The `LabelSpace` of the classes.
        width: Width in pixels.
        class_ids: The classes to show; `None` for all.
    """
    class_ids = range(label_space.num_classes) if class_ids is None else class_ids
    box, line, margin = 12, 18, 6
    columns = max(1, width // 150)
    rows = -(-len(class_ids) // columns)
    picture = Image.new("RGB", (width, rows * line + margin), "white")
    draw = ImageDraw.Draw(picture)
    for index, class_id in enumerate(class_ids):
        name, colour = label_space.class_names[class_id], label_space.palette[class_id]
        left, top = margin + index % columns * 150, index // columns * line + 2
        draw.rectangle((left, top, left + box, top + box), fill=colour, outline="black")
        draw.text((left + box + 5, top), name, fill="black")
    return picture
