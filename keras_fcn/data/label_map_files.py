"""Reads and checks the label maps that files hold, as class ids or as colours."""

import os
import re
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from PIL import Image

from keras_fcn.arguments import MOST_CLASSES, integer, optional_integer, wrong
from keras_fcn.data.files import first_few
from keras_fcn.data.image_files import GREY_16_BIT_MODES, decode
from keras_fcn.label_spaces.label_space import Colour, check_colour

Palette = Sequence[Colour] | Mapping[Colour, int]
"""Colours of the classes 0, 1, ..., or a dictionary from colours to class ids."""

_LABEL_MAP_MODES = ("1", "L", "P", *GREY_16_BIT_MODES)
_COLOUR_MODES = ("RGB", "RGBA")
_GREY_MODES = ("1", "L")
_OTHER_KINDS = {"F": "floating-point values", "LA": "grey with an alpha channel"}
# Pillow stretches grey of 2 and 4 bits to 0..255: class 1 would come out as 85 or 17. TIFF may hold
# the bits of a byte in reverse.
_STRETCHED_BY = {"L;2": 85, "L;2R": 85, "L;4": 17, "L;4R": 17}
# Mode of a TIFF whose zero is white (MinIsWhite): Pillow inverts its values.
_INVERTED = re.compile(r"[1L];\d*I")


def read_label_map(path: str | os.PathLike, palette: Palette | None = None) -> np.ndarray:
    """Reads a label map of class ids (grey values or palette indices) or of colours.

    A true-colour file needs a `palette`, even if red, green and blue are equal. If `palette` holds
    only greys, such as black and white, the values of a grey file of up to 8 bits are colours of
    `palette`, too. Palette indices are class ids whatever their colours, unless the colours in use
    are those of `palette` in another order, as in files of `Image.quantize()` or oxipng: these are
    read by their colours. The EXIF orientation is applied as in images, and an alpha channel is
    dropped.

    Args:
        path: PNG, TIFF or BMP.
        palette: Class ids of the colours of a file: the colours of the classes 0, 1, ..., such as
            `LabelSpace.palette`, or a dictionary from colours to class ids. Several colours may
            have one class id, and void may have its own: `{(0, 0, 0): 255, ...}`.

    Output shape:
        (height, width), int32.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no image, is truncated, is a JPEG, or holds colours that are not
            in `palette`.
    """
    check_palette(palette)
    image, raw_mode = decode(path)
    if image.mode not in _LABEL_MAP_MODES and (palette is None or not is_colour(image)):
        raise ValueError(
            f"{path} must hold one class id per pixel. Received: "
            f"{_OTHER_KINDS.get(image.mode, 'a colour image')} (Pillow's mode {image.mode}). "
            "Save it as a grey or palette PNG whose values are the class ids"
            + (", or pass the `palette` of its colours (--palette)." if is_colour(image) else ".")
        )
    if image.format in ("JPEG", "MPO"):
        raise ValueError(
            f"{path} must be lossless. Received: a JPEG, whose compression changes class ids. Save "
            "the label map as PNG, from its source."
        )
    if _INVERTED.match(raw_mode):
        raise ValueError(
            f"{path} must store black as 0. Received: a TIFF whose zero is white (MinIsWhite), "
            "whose values programs read differently. Save the label map as PNG, from its source."
        )
    if image.mode in _GREY_MODES and palette is not None and is_grey(palette):
        image = image.convert("RGB")
    if image.mode == "P" and palette is not None and _is_reordered(image, palette):
        image.info.pop("transparency", None)
        image = image.convert("RGB")
    if is_colour(image):
        return _class_ids(path, np.asarray(image)[..., :3], *_colour_table(palette))
    return np.array(image, dtype="int32") // _STRETCHED_BY.get(raw_mode, 1)


def is_colour(image: Image.Image) -> bool:
    """Returns whether an image holds colours, not class ids, grey values or palette indices."""
    return image.mode in _COLOUR_MODES


def is_grey(palette: Palette) -> bool:
    """Returns whether all colours of a palette are greys."""
    return all(len(set(colour)) == 1 for colour in palette)


def check_palette(palette: Palette | None) -> None:
    """Raises a ValueError if a palette is none, or holds no colours or no class ids."""
    if palette is None:
        return
    if not isinstance(palette, Collection) or not len(palette):
        raise wrong(
            "palette", "at least one colour, or a dictionary from colours to class ids", palette
        )
    for colour in palette:
        check_colour(colour)
    if isinstance(palette, Mapping):
        for colour, class_id in palette.items():
            integer(f"palette[{colour}]", class_id)


def check_label_map(
    path: str | os.PathLike, label_map: np.ndarray, num_classes: int, ignore_class: int | None
) -> None:
    """Checks that a label map holds only class ids and `ignore_class`.

    Args:
        path: The file that it was read from, for the message.
        label_map: (height, width), any integer type.
        num_classes: Class ids are 0 to `num_classes` - 1.
        ignore_class: Another valid value, or `None`.

    Raises:
        ValueError: If there is another value. The message names the file, the value and its first
            position.
    """
    num_classes = integer("num_classes", num_classes, 1, MOST_CLASSES)
    ignore_class = optional_integer("ignore_class", ignore_class)
    label_map = np.asarray(label_map)
    if label_map.ndim != 2 or label_map.dtype.kind not in "bui":
        raise ValueError(
            "`label_map` must be integers, (height, width). Received: an array of shape "
            f"{label_map.shape} and dtype {label_map.dtype}."
        )
    is_other = (label_map < 0) | (label_map >= num_classes)
    if ignore_class is not None:
        is_other &= label_map != ignore_class
    if not is_other.any():
        return
    row, column = (int(index) for index in np.argwhere(is_other)[0])
    value = int(label_map[row, column])
    allowed = f"0 to {num_classes - 1}"
    if ignore_class is not None:
        allowed += f" and {ignore_class} (`ignore_class`)"
    others = [str(other) for other in np.unique(label_map[is_other]) if other != value]
    raise ValueError(
        f"{path} holds the value {value} at row {row}, column {column}"
        + (f" (elsewhere also {first_few(others)})" if others else "")
        + f", but the class ids of {num_classes} classes are {allowed}. "
        + _remedy(value, np.unique(label_map), num_classes)
    )


def _is_reordered(image, palette):
    """Returns whether the colour table of a palette file holds colours of `palette` by other ids.

    One such colour may be a coincidence, such as black, which is void in some data sets. It counts
    if the whole table is known; several count if they outnumber the unknown colours in use.
    """
    used = [index for index, count in enumerate(image.histogram()[:256]) if count]
    values = image.getpalette("RGB") or []
    table = [tuple(values[start : start + 3]) for start in range(0, len(values), 3)]
    if len(table) > 1 and all(colour == (i,) * 3 for i, colour in enumerate(table)):
        return False  # A grey file that was saved as one with a palette.
    fill = table[-1:]  # TIFF and others fill the table up to 256 colours.
    while len(table) > used[-1] + 1 and table[-1:] == fill:
        table.pop()
    class_ids = {tuple(colour): class_id for colour, class_id in _pairs(palette)}
    place = dict(enumerate(table))
    known = [index for index in used if place.get(index) in class_ids]
    # A colour at the index of its class may be that of other indices, too, such as 255 for void.
    moved = [i for i in known if place.get(class_ids[place[i]]) != place[i]]
    num_unknown = len(used) - len(known)
    if len(moved) > max(1, num_unknown):
        return True
    return bool(moved) and all(colour in class_ids for colour in table)


def _class_ids(path, image, colours, class_ids):
    """Looks up packed pixels in sorted `colours` by bisection, without memory per colour."""
    packed = _packed(image)
    place = np.minimum(np.searchsorted(colours, packed), len(colours) - 1)
    known = colours[place] == packed
    if not known.all():
        row, column = (int(index) for index in np.argwhere(~known)[0])
        colour = tuple(image[row, column].tolist())
        others = len(np.unique(packed[~known])) - 1
        raise ValueError(
            f"{path} holds the colour {colour} at row {row}, column {column}"
            + (f" (and {others} other unknown colours)" if others else "")
            + f", which is none of the {len(colours)} colours of `palette`. If its pixels are to "
            f"be ignored, add ignore_colour = {list(colour)} to the label space file, map it in an "
            f"import of masks (--map {','.join(map(str, colour))}=ignore), or pass `palette` as a "
            f"dictionary, {{{colour}: 255, ...}}."
        )
    return class_ids[place]


def _colour_table(palette):
    """Returns the sorted packed colours and their class ids."""
    table = {}
    for colour, class_id in _pairs(palette):
        if table.setdefault(tuple(colour), class_id) != class_id:
            raise ValueError(
                "`palette` must map each colour to one class id. Received: the colour "
                f"{tuple(colour)} for {table[tuple(colour)]} and {class_id}."
            )
    colours = _packed(np.array(list(table), "uint8"))
    order = np.argsort(colours)
    return colours[order], np.array(list(table.values()), "int32")[order]


def _pairs(palette):
    """Returns the pairs of colour and class id."""
    if isinstance(palette, Mapping):
        return palette.items()
    return [(colour, class_id) for class_id, colour in enumerate(palette)]


def _packed(colours):
    red, green, blue = np.moveaxis(colours.astype("int32"), -1, 0)
    return red << 16 | green << 8 | blue


def _remedy(value, values, num_classes):
    if num_classes == 2 and values.tolist() == [0, 255]:
        return "Save the second class as 1 instead of 255."
    remedy = (
        f"If {value} marks pixels to leave out, pass `ignore_class={value}` "
        f"(--ignore-class {value})"
    )
    if value < num_classes or value == 255:
        return f"{remedy}."
    return f"{remedy}; if it is a class, `num_classes` must be at least {value + 1}."
