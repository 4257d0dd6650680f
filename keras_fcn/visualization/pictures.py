"""Pictures of label maps: colours, overlays, legends and sheets."""

import math
import os
import unicodedata
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from keras_fcn.label_spaces import LabelSpace

_NO_CHARACTER = "\uffff"  # Fonts draw the box for missing letters.


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
        image: (height, width, channels), in [0, 255]. Integers or grey beyond 255, such as depth in
            millimetres, are scaled so that the least value is black and the largest one white.

    Returns:
        (height, width, 3), uint8: the first three channels; the first one as grey of two or one.

    Examples:
        >>> depth = np.array([[[1000], [2000], [5000]]], "uint16")
        >>> as_rgb(depth)[0, :, 0].tolist()
        [0, 64, 255]
    """
    image = np.asarray(image)
    shown = image[..., :3] if image.shape[-1] >= 3 else np.repeat(image[..., :1], 3, axis=-1)
    is_scaled = image.shape[-1] < 3 or image.dtype.kind in "iu"
    if is_scaled and shown.max(initial=0) > 255:
        least, largest = float(shown.min()), float(shown.max())
        shown = np.rint(255 * ((shown - least) / max(largest - least, 1)))
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

    Class ids above 255, `ignore_class` included, do not fit a palette and are written as a 16-bit
    grey PNG.

    Args:
        path: File to write, or one open for writing.
        label_map: Class ids, (height, width).
        label_space: The `LabelSpace` with the palette.

    Raises:
        ValueError: If a label is less than 0 or does not fit the file.
    """
    label_map = np.asarray(label_map)
    # An open file has no suffix that names the format.
    image_format = None if isinstance(path, str | os.PathLike) else "PNG"
    is_wide = max(label_space.num_classes - 1, label_space.ignore_class or 0) > 255
    largest = 65535 if is_wide else 255
    if label_map.size and not 0 <= label_map.min() <= label_map.max() <= largest:
        raise ValueError(
            f"`label_map` must hold labels from 0 to {largest} to be written as a PNG. Received: "
            f"labels from {label_map.min()} to {label_map.max()}."
        )
    if is_wide:
        Image.fromarray(label_map.astype("uint16")).save(path, image_format)
        return
    image = Image.fromarray(label_map.astype("uint8"))
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

    Of a caption that is wider than its panel, the end is shown. Letters that the fonts of Pillow
    and Matplotlib lack, such as Korean ones, are replaced with question marks.

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
        size = (max(1, round(images[0].width * scale)), height)
        resampling = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
        images = [image.resize(size, resampling) for image in images]
    width = images[0].width
    picture = Image.new(
        "RGB",
        (margin + len(images) * (width + margin), caption_height + images[0].height + margin),
        "white",
    )
    draw, font = ImageDraw.Draw(picture), _font_for(panels)
    for column, (caption, image) in enumerate(zip(panels, images, strict=True)):
        left = margin + column * (width + margin)
        draw.text((left, 3), _fitting(caption, width, font), fill="black", font=font)
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


def legend(
    label_space: LabelSpace, width: int, class_ids: Sequence[int] | None = None
) -> Image.Image:
    """Returns a picture of the colours and names of classes.

    A name with letters that the fonts of Pillow and Matplotlib lack, such as Korean ones, is
    replaced with the class id.

    Args:
        label_space: The `LabelSpace` of the classes.
        width: Least width in pixels; the picture is wider if a name does not fit.
        class_ids: The classes to show; `None` for all.
    """
    class_ids = range(label_space.num_classes) if class_ids is None else class_ids
    box, line, margin, gap = 12, 18, 6, 5
    font = _font_for(label_space.class_names[label] for label in class_ids)
    names = [_drawable(label_space.class_names[label], font) or str(label) for label in class_ids]
    longest = max((math.ceil(font.getlength(name)) for name in names), default=0)
    needed = box + gap + longest + 2 * margin
    column_width = max(150, needed)
    columns = max(1, width // column_width)
    rows = -(-len(names) // columns)
    picture = Image.new("RGB", (max(width, needed), rows * line + margin), "white")
    draw = ImageDraw.Draw(picture)
    for index, (class_id, name) in enumerate(zip(class_ids, names, strict=True)):
        left, top = margin + index % columns * column_width, index // columns * line + 2
        colour = label_space.palette[class_id]
        draw.rectangle((left, top, left + box, top + box), fill=colour, outline="black")
        draw.text((left + box + gap, top), name, fill="black", font=font)
    return picture


def _font_for(texts):
    """Returns Pillow's font, or Matplotlib's if Pillow's lacks a letter of one of the texts."""
    font = ImageFont.load_default()
    known = not any(_drawable(text, font) is None for text in texts)
    if known or not isinstance(font, ImageFont.FreeTypeFont):
        return font
    from matplotlib import font_manager

    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), font.size)


def _fitting(caption, width, font):
    """Returns the longest end of a caption that fits into a width, in letters of the font."""
    caption = " ".join(unicodedata.normalize("NFC", caption).split())
    letters = [" " if letter == " " else _drawable(letter, font) or "?" for letter in caption]
    for start in range(len(letters)):
        end = "".join(["..." if start else "", *letters[start:]])
        if font.getlength(end) <= width:
            return end
    return ""


def _drawable(name, font):
    """Returns the name in composed letters, or None if the font lacks one of them."""
    name = " ".join(unicodedata.normalize("NFC", name).split())
    try:
        missing = bytes(font.getmask(_NO_CHARACTER))
        return None if any(bytes(font.getmask(letter)) == missing for letter in name) else name
    except UnicodeEncodeError:  # The font of a Pillow without FreeType has only Latin letters.
        return name if name.isascii() else None
