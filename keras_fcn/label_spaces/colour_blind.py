"""Colours of classes that people with a colour vision deficiency can tell apart."""

import dataclasses
import functools
import itertools
from typing import Any

from keras_fcn.arguments import integer
from keras_fcn.label_spaces.label_space import LabelSpace, check_label_space

OKABE_ITO = (
    (0, 0, 0),
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
"""Black, orange, sky blue, bluish green, yellow, blue, vermilion, reddish purple.

Okabe and Ito, "Color Universal Design", 2002. https://jfly.uni-koeln.de/color/
"""

# Linear RGB as seen with full protanopia, deuteranopia and tritanopia: Machado, Oliveira and
# Fernandes, "A physiologically-based model for simulation of color vision deficiency", 2009.
_PROTANOPIA = (
    (0.152286, 1.052583, -0.204868),
    (0.114503, 0.786281, 0.099216),
    (-0.003882, -0.048116, 1.051998),
)
_DEUTERANOPIA = (
    (0.367322, 0.860646, -0.227968),
    (0.280085, 0.672501, 0.047413),
    (-0.011820, 0.042940, 0.968881),
)
_TRITANOPIA = (
    (1.255528, -0.076749, -0.178779),
    (-0.078411, 0.930809, 0.147602),
    (0.004733, 0.691367, 0.303900),
)
# Linear RGB to CIE XYZ, in parts of the white D65 (IEC 61966-2-1).
_XYZ = (
    (0.4124 / 0.9505, 0.3576 / 0.9505, 0.1805 / 0.9505),
    (0.2126, 0.7152, 0.0722),
    (0.0193 / 1.0890, 0.1192 / 1.0890, 0.9505 / 1.0890),
)
_LEVELS = range(0, 256, 51)


def in_colour_blind_palette(label_space: LabelSpace) -> LabelSpace:
    """Returns the label space in the colours of `colour_blind_palette`."""
    check_label_space(label_space)
    palette = colour_blind_palette(label_space.num_classes)
    return dataclasses.replace(label_space, palette=palette, ignore_colour=None)


def colour_blind_palette(num_classes: int) -> tuple[tuple[int, int, int], ...]:
    """Returns colours that differ for people with a colour vision deficiency, too.

    The first eight are `OKABE_ITO`. Each further one is the colour of the web-safe 216 that differs
    most from those before it, for the eye that sees the smallest difference: trichromatic or with
    protanopia, deuteranopia or tritanopia. That difference (CIE 1976) is 16 among up to 21 colours
    and 11 among 33; it is 1 among PASCAL VOC's 21 colours.

    Args:
        num_classes: Number of colours, at most 223.

    Raises:
        ValueError: If there are more classes, or `num_classes` is no integer of at least 0.

    Examples:
        >>> colour_blind_palette(9)[7:]
        ((204, 121, 167), (153, 51, 255))
    """
    return _palette(integer("num_classes", num_classes, least=0))


@functools.cache
def _palette(num_classes):
    import numpy as np

    candidates = sorted(set(itertools.product(_LEVELS, repeat=3)) - set(OKABE_ITO))
    if num_classes > len(OKABE_ITO) + len(candidates):
        raise ValueError(
            f"A colour-blind palette has at most {len(OKABE_ITO) + len(candidates)} colours. "
            f"Received: {num_classes=}."
        )
    seen = _as_seen(np.array(candidates))
    nearest = np.full(len(candidates), np.inf)
    palette: list[Any] = list(OKABE_ITO[:num_classes])
    for index in range(num_classes):
        if index == len(palette):
            palette.append(candidates[int(nearest.argmax())])
        distances = np.linalg.norm(seen - _as_seen(np.array([palette[index]])), axis=-1)
        nearest = np.minimum(nearest, distances.min(axis=0))
    return tuple(palette)


def _as_seen(colours):
    """Returns CIELAB of sRGB colours (n, 3), as each of the four eyes sees them, (4, n, 3)."""
    import numpy as np

    values = colours / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    eyes = np.array([np.eye(3), _PROTANOPIA, _DEUTERANOPIA, _TRITANOPIA])
    seen = np.clip(np.einsum("eij,nj->eni", eyes, linear), 0, 1)
    xyz = seen @ np.array(_XYZ).T
    cubic = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(cubic, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)
