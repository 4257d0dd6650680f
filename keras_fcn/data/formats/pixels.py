"""Reads label maps whose pixels are not class ids."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_fcn.data.formats.classes import Colour
from keras_fcn.data.image_files import decode
from keras_fcn.data.label_map_files import is_colour, read_label_map


def read_colours(path: Path, colours: Mapping[Colour, int]) -> np.ndarray:
    """Reads a label map by its colours, also those of a palette file, see `read_label_map`."""
    if decode(path, pixels=False)[0].mode not in ("1", "L", "P"):
        return read_label_map(path, colours)
    image, _ = decode(path)
    palette = image.getpalette("RGB") if image.mode == "P" else None
    # Values of grey files are colours, too, whatever the other colours are.
    indices = np.asarray(image if palette else image.convert("L"))
    label_map = np.zeros(indices.shape, "int32")
    for index in np.unique(indices).tolist():
        colour: Any = tuple(palette[3 * index : 3 * index + 3]) if palette else (index,) * 3
        if colour not in colours:
            raise ValueError(
                f"{path} must hold the colours of the classes. Received: the colour {colour}."
            )
        label_map[indices == index] = colours[colour]
    return label_map


def read_values(path: Path, class_ids: Mapping[int, int]) -> np.ndarray:
    """Reads a label map by its values, or by its greys if the file holds colours."""
    if _holds_colours(path):
        greys = {(value,) * 3: value for value in class_ids if value < 256}
        # A grey file would be read by a palette of greys; this one holds colours.
        values = read_label_map(path, greys)
    else:
        values = read_label_map(path)
    label_map = np.zeros(values.shape, "int32")
    for value in np.unique(values).tolist():
        if value not in class_ids:
            raise ValueError(
                f"{path} must hold the values {', '.join(map(str, class_ids))}. Received: {value}. "
                f"Name its class (--map {value}=1)."
            )
        label_map[values == value] = class_ids[value]
    return label_map


def read_binary(path: Path) -> np.ndarray:
    """Reads a mask of 0 and one other value, or of black and one colour.

    Raises:
        ValueError: If it holds more values.
    """
    if _holds_colours(path):
        image, _ = decode(path)
        values = np.asarray(image.convert("RGB")).astype("int32") @ (1 << 16, 1 << 8, 1)
    else:
        values = read_label_map(path)
    if len(others := np.setdiff1d(values, [0])) > 1:
        raise ValueError(
            f"{path} must hold 0 and one other value. Received: {len(others)} others, such as "
            f"{others[0]} and {others[-1]}. If they are classes, map the values (--map 1=cat)."
        )
    return values > 0


def _holds_colours(path):
    return is_colour(decode(path, pixels=False)[0])
