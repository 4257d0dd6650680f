"""Names and colours of the classes 0, 1, ..., and the class id of ignored pixels."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from keras_fcn.arguments import MOST_CLASSES, as_tuple, integer, optional_integer, wrong
from keras_fcn.spelling import proposal

Colour = tuple[int, int, int]
"""Red, green and blue, from 0 to 255."""


@dataclasses.dataclass(frozen=True)
class LabelSpace:
    """Names and colours of the classes 0, 1, ..., and the class id of ignored pixels.

    Args:
        class_names: One unique name per class, at least 2.
        palette: One colour (red, green, blue) in [0, 255] per class.
        ignore_class: Class id of pixels that losses and metrics ignore, `None` for none.
        ignore_colour: Colour of these pixels in label maps of colours, such as black for void;
            `None` for none.

    Raises:
        ValueError: If an argument is not as described.

    Examples:
        >>> LabelSpace(("road", "car"), ((128, 64, 128), (64, 0, 128)), 255).num_classes
        2
    """

    class_names: tuple[str, ...]
    palette: tuple[Colour, ...]
    ignore_class: int | None = None
    ignore_colour: Colour | None = None

    def __post_init__(self):
        class_names = _class_names(self.class_names)
        object.__setattr__(self, "class_names", class_names)
        object.__setattr__(self, "palette", _palette(self.palette, len(class_names)))
        object.__setattr__(
            self, "ignore_class", optional_integer("ignore_class", self.ignore_class)
        )
        if self.ignore_colour is not None:
            object.__setattr__(self, "ignore_colour", _ignore_colour(self))

    @property
    def colours(self) -> Sequence[Colour] | Mapping[Colour, int]:
        """What label maps of colours hold: `palette`, or class ids of it and `ignore_colour`."""
        if self.ignore_colour is None or self.ignore_class is None:
            return self.palette
        class_ids = {colour: class_id for class_id, colour in enumerate(self.palette)}
        return {**class_ids, self.ignore_colour: self.ignore_class}

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def class_id(self, name: str | int) -> int:
        """Returns the id of a class, which is given by its name or by its id, also as a string.

        Raises:
            ValueError: If there is no such class. The message names the closest one.

        Examples:
            >>> generic(3).class_id("class 2"), generic(3).class_id("2"), generic(3).class_id(2)
            (2, 2, 2)
        """
        name = str(name)
        if name in self.class_names:
            return self.class_names.index(name)
        if name.isdecimal() and int(name) < self.num_classes:
            return int(name)
        raise ValueError(
            f"{name!r} is no class.{proposal(name, self.class_names)} The classes are "
            f"{', '.join(self.class_names)}, with the ids 0 to {self.num_classes - 1}."
        )


def generic(num_classes: int, ignore_class: int | None = None) -> LabelSpace:
    """Returns a label space of classes "class 0", "class 1", ... in PASCAL VOC's colours.

    Raises:
        ValueError: If `num_classes` is not an integer from 2 to 46340.

    Examples:
        >>> generic(3).class_names
        ('class 0', 'class 1', 'class 2')
    """
    num_classes = integer("num_classes", num_classes, 2, MOST_CLASSES)
    names = tuple(f"class {class_id}" for class_id in range(num_classes))
    return LabelSpace(names, voc_palette(num_classes), ignore_class)


def voc_palette(num_classes: int) -> tuple[tuple[int, int, int], ...]:
    """Returns the colours of PASCAL VOC's label maps, for any number of classes.

    The lowest three bits of the class id are the highest bits of red, green and blue, the next
    three the bits below those, and so on.

    Examples:
        >>> voc_palette(3)
        ((0, 0, 0), (128, 0, 0), (0, 128, 0))
    """
    return tuple(
        tuple(  # type: ignore[misc]
            sum((class_id >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(8))
            for channel in range(3)
        )
        for class_id in range(integer("num_classes", num_classes, 0, MOST_CLASSES))
    )


def check_label_space(label_space: Any) -> None:
    """Raises a ValueError if it is no `LabelSpace`."""
    if not isinstance(label_space, LabelSpace):
        rule = "a LabelSpace, such as keras_fcn.label_spaces.choose('camvid')"
        raise wrong("label_space", rule, label_space)


def check_colour(colour: Any, argument: str = "palette") -> None:
    """Checks one colour of a palette, or of another argument.

    Raises:
        ValueError: If it is not three integers from 0 to 255.
    """
    try:
        # Not `in range(256)`, which counts up to an integer of NumPy.
        is_colour = len(colour) == 3 and all(
            0 <= value <= 255 and not value % 1 for value in colour
        )
    except (TypeError, ValueError):  # No sequence, or one of arrays.
        is_colour = False
    if not is_colour:
        raise ValueError(
            f"`{argument}` must hold colours of three integers from 0 to 255. "
            f"Received: the colour {colour}."
        )


def _class_names(names):
    # A set has another order in each process, and the values of a dictionary would be ignored.
    is_no_list = isinstance(names, (str, set, frozenset, Mapping))
    if is_no_list or len(names := as_tuple("class_names", names)) < 2:
        raise ValueError(
            "`class_names` must hold at least 2 names, in their order. Received: "
            f"class_names={names!r}."
        )
    if not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"`class_names` must be non-empty strings. Received: class_names={names}.")
    if twice := sorted(name for name, n in collections.Counter(names).items() if n > 1):
        raise ValueError(f"`class_names` must hold no name twice. Received twice: {twice}.")
    return names


def _palette(palette, num_classes):
    palette = as_tuple("palette", palette)
    if len(palette) != num_classes:
        raise ValueError(
            f"`palette` must hold one colour per class. Received: {len(palette)} colours for "
            f"{num_classes} class names."
        )
    for colour in palette:
        check_colour(colour)
    return tuple(tuple(int(value) for value in colour) for colour in palette)


def _ignore_colour(space):
    if space.ignore_class is None:
        raise ValueError(
            "`ignore_colour` must be used with `ignore_class`. Received: "
            f"ignore_colour={space.ignore_colour!r}, ignore_class=None."
        )
    check_colour(space.ignore_colour, "ignore_colour")
    (colour,) = _palette([space.ignore_colour], 1)
    if len({*space.palette, colour}) <= space.num_classes:
        raise ValueError(
            "`ignore_colour` and each colour of `palette` must differ. Received: "
            f"ignore_colour={colour}, palette={space.palette}."
        )
    return colour
