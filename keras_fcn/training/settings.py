"""A setting is declared once, as a field of a dataclass: its help, its choices and its limits.

The checks of `Recipe`, the options of `keras-fcn train` and the guide's table follow from it.
"""

import dataclasses
import functools
import json
import numbers
import sys
import types
import typing
from collections.abc import Sequence
from typing import Any

_KINDS = {str: "a string", int: "an integer", float: "a number", bool: "true or false"}


def setting(default: Any, **declaration: Any) -> Any:
    """Returns a dataclass field with a default and the declaration of a `Setting`."""
    return dataclasses.field(default=default, metadata=declaration)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """What a field of a dataclass may hold.

    Limits and choices hold for each item of a tuple. `None` is valid where `type` includes it.

    Args:
        name: Name of the field.
        type: Its type: `str`, `int`, `float`, `bool` or a tuple of one of them, or `None`.
        default: Its default.
        help: What it does: a phrase without a period.
        choices: The valid values, if they are few.
        minimum: The smallest valid value.
        maximum: The largest valid value.
        above: All valid values are greater.
        below: All valid values are less.
        is_folder: Whether it is the path of a folder.
        is_class: Whether it names classes of the label space: by name, or by an id, which may be
            written as a number and is kept as a string.
        in_checkpoint: Whether a checkpoint holds what it decides, such as the layers of the model,
            so that a run that resumes from one cannot change it.
        option: Whether `keras-fcn train` has an option of this name.
        metavar: What the help of the option calls the value, or each value of a tuple.
    """

    name: str
    type: Any
    default: Any
    help: str
    choices: tuple[str, ...] | None = None
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None
    is_folder: bool = False
    is_class: bool = False
    in_checkpoint: bool = False
    option: bool = False
    metavar: str | tuple[str, ...] | None = None

    @property
    def is_optional(self) -> bool:
        """Whether it may be `None`."""
        return type(None) in typing.get_args(self.type)

    @property
    def item_type(self) -> Any:
        """`str`, `int`, `float` or `bool`: the type of the value, or of each item of a tuple."""
        return typing.get_args(self._kind)[0] if self.is_tuple else self._kind

    @property
    def is_tuple(self) -> bool:
        """Whether the value is a tuple."""
        return typing.get_origin(self._kind) is tuple

    @property
    def length(self) -> int | None:
        """Number of items of a tuple, `None` for at least one."""
        items = typing.get_args(self._kind)
        return None if items[-1] is Ellipsis else len(items)

    @property
    def _kind(self):
        if not isinstance(self.type, types.UnionType):
            return self.type
        return next(kind for kind in typing.get_args(self.type) if kind is not type(None))

    @property
    def option_name(self) -> str:
        """The option of `keras-fcn train`."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def values(self) -> str:
        """The valid values in words, such as `an integer, at least 1`."""
        if self.choices is not None:
            words = ", ".join(f"`{choice}`" for choice in self.choices)
            words = f"one or more of {words}" if self.is_tuple else words
        else:
            words = self._tuple_rule if self.is_tuple else _KINDS[self.item_type]
            words += f", {self._limits}" if self._limits else ""
        return f"{words}, or none" if self.is_optional else words

    @property
    def _tuple_rule(self):
        items = {int: "integers", float: "numbers", str: "strings"}[self.item_type]
        items = "names or ids of classes" if self.is_class else items
        return f"one or more {items}" if self.length is None else f"{self.length} {items}"

    @property
    def _limits(self):
        limits = {
            "at least": self.minimum,
            "greater than": self.above,
            "at most": self.maximum,
            "less than": self.below,
        }
        rule = " and ".join(
            f"{word} {n if isinstance(n, int) else f'{n:g}'}"
            for word, n in limits.items()
            if n is not None
        )
        return f"{rule} each" if rule and self.is_tuple else rule

    def checked(self, value: Any) -> Any:
        """Returns a value as its type, from what TOML, JSON or a caller write for it.

        Raises:
            ValueError: If the value is not valid.
        """
        if value is None and self.is_optional:
            return None
        if self.choices is not None and not self._are_choices(value):
            allowed = [*(["none"] if self.is_optional else []), *self.choices]
            raise self.error(f"one of {', '.join(allowed)}", value)
        if not self.is_tuple:
            items: Any = [value]
        elif isinstance(value, list | tuple) and len(value) == (self.length or max(1, len(value))):
            items = value
        else:
            raise self.error(self._tuple_rule, value)
        items = tuple(self._converted(item, value) for item in items)
        if not all(map(self._is_within_limits, items)):
            raise self.error(self._limits, value)
        return items if self.is_tuple else items[0]

    def _are_choices(self, value):
        values = value if self.is_tuple and isinstance(value, list | tuple) else [value]
        return len(values) > 0 and all(item in self.choices for item in values)

    def error(self, rule: str, value: Any) -> ValueError:
        """Returns the error of a value that breaks a rule."""
        return ValueError(f"`{self.name}` must be {rule}. Received: {self.name}={value!r}.")

    def _converted(self, item, value):
        is_number = not isinstance(item, bool)
        if self.item_type is float and isinstance(item, numbers.Real) and is_number:
            if not abs(item) <= sys.float_info.max:  # NaN, too.
                raise self.error("a finite number", value)
            return float(item)
        if self.item_type is int and isinstance(item, numbers.Integral) and is_number:
            if not -(2**63) <= item < 2**63:
                raise self.error("an integer of 64 bits", value)
            return int(item)
        if self.item_type in (str, bool) and isinstance(item, self.item_type):
            return item
        if self.is_class and isinstance(item, numbers.Integral) and is_number:
            return str(int(item))
        raise self.error(self._tuple_rule if self.is_class else _KINDS[self.item_type], value)

    def _is_within_limits(self, item):
        return (
            (self.minimum is None or item >= self.minimum)
            and (self.maximum is None or item <= self.maximum)
            and (self.above is None or item > self.above)
            and (self.below is None or item < self.below)
        )


@functools.cache
def settings_of(cls: type) -> dict[str, Setting]:
    """Returns the settings of a dataclass by name, in their order."""
    kinds = typing.get_type_hints(cls)
    return {
        field.name: Setting(
            name=field.name, type=kinds[field.name], default=field.default, **field.metadata
        )
        for field in dataclasses.fields(cls)
    }


def as_arguments(cls: type) -> str:
    """Returns the settings of a dataclass as the `Args` of its docstring."""
    lines = [f"    {s.name}: {_sentence(s.help)}" for s in settings_of(cls).values()]
    return "\n".join(["Args:", *lines])


def as_table(cls: type, names: Sequence[str] | None = None) -> str:
    """Returns the settings of a dataclass as a table in Markdown.

    Args:
        cls: The dataclass.
        names: The settings in the table; by default all.
    """
    rows = ["| setting | default | values | meaning |", "|---|---|---|---|"]
    settings = settings_of(cls)
    for s in settings.values() if names is None else map(settings.__getitem__, names):
        name = f"`{s.name}`" + (f"<br>`{s.option_name}`" if s.option else "")
        rows.append(f"| {name} | {_in_toml(s.default)} | {s.values} | {_sentence(s.help)} |")
    return "\n".join(rows)


def _sentence(phrase):
    return f"{phrase[0].upper()}{phrase[1:]}."


def _in_toml(value):
    if isinstance(value, tuple):
        return f"`[{', '.join(map(json.dumps, value))}]`"
    if isinstance(value, bool | None):
        return str(value).lower()
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"
