"""Checks of arguments, whose errors name the argument, the rule and the value received."""

import math
import numbers
import operator
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Sizes and class ids are int32 in a tensor, where larger ones become others.
_MOST = 2**31 - 1
MOST_CLASSES = 46_340
"""Largest number of classes: the entries of a confusion matrix are numbered in int32."""
DATA_FORMATS = ("channels_last", "channels_first")


def wrong(argument: str, rule: str, value: Any) -> ValueError:
    """Returns the error for an argument that is not as the rule says."""
    return ValueError(f"`{argument}` must be {rule}. Received: {argument}={value!r}.")


def integer(argument: str, value: Any, least: int | None = None, most: int = _MOST) -> int:
    """Returns `value`, also one of NumPy's integers, as an `int`.

    Raises:
        ValueError: If `value` is no integer, a boolean, less than `least` or more than `most`.

    Examples:
        >>> integer("axis", -1)
        -1
    """
    rule = "an integer" if least is None else f"an integer of at least {least}"
    try:
        found = operator.index(value)
    except TypeError:
        raise wrong(argument, rule, value) from None
    if abs(found) > most:
        rule = f"an integer from {-most if least is None else least} to {most}"
    elif not isinstance(value, bool) and (least is None or found >= least):
        return found
    raise wrong(argument, rule, value)


def optional_integer(argument: str, value: Any) -> int | None:
    """Returns `None` or what `integer` returns."""
    return None if value is None else integer(argument, value)


def integers(argument: str, values: Any, least: int | None = None) -> list[int]:
    """Returns what `integer` returns for each of several values.

    Raises:
        ValueError: If it is a single value, or as `integer`.
    """
    return [integer(argument, value, least) for value in as_tuple(argument, values)]


def number(argument: str, value: Any, least: float = -math.inf, most: float = math.inf) -> float:
    """Returns `value`, also one of NumPy's numbers, as a `float`.

    Raises:
        ValueError: If `value` is no finite number, less than `least` or more than `most`.

    Examples:
        >>> number("probability", 1, least=0, most=1)
        1.0
    """
    is_scalar = isinstance(value, numbers.Real) or getattr(value, "shape", None) == ()
    try:
        found = float(value) if is_scalar else math.nan
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if math.isfinite(found) and least <= found <= most:
        return found
    rule = "a finite number" if math.isinf(least) else f"a finite number of at least {least}"
    raise wrong(argument, rule if math.isinf(most) else f"a number from {least} to {most}", value)


def finite_numbers(argument: str, values: Any, least: float = -math.inf) -> list[float]:
    """Returns what `number` returns for each of several values.

    Raises:
        ValueError: If it is a single value, or one of them is not as `number` describes it.
    """
    try:
        return [number(argument, value, least) for value in as_tuple(argument, values)]
    except ValueError:
        limit = "" if math.isinf(least) else f" of at least {least}"
        raise ValueError(
            f"`{argument}` must hold finite numbers{limit}. Received: {argument}={values!r}."
        ) from None


def boolean(argument: str, value: Any) -> bool:
    """Returns `value`, also one of NumPy's booleans, as a `bool`.

    Raises:
        ValueError: If it is neither `True` nor `False`.
    """
    is_numpy = getattr(value, "shape", None) == () and str(value.dtype) == "bool"
    if not isinstance(value, bool) and not is_numpy:
        raise wrong(argument, "True or False", value)
    return bool(value)


def one_of(argument: str, value: Any, choices: Sequence[str]) -> str:
    """Returns `value`.

    Raises:
        ValueError: If it is none of the choices.
    """
    if not isinstance(value, str) or value not in choices:
        raise wrong(argument, f"one of {choices}", value)
    return value


def as_tuple(argument: str, values: Any) -> tuple:
    """Returns the values of an argument as a tuple.

    Raises:
        ValueError: If it is a single value, such as a string, or a dictionary.
    """
    try:
        if not isinstance(values, (str, bytes, Mapping)):
            return tuple(values)
    except TypeError:
        pass
    raise wrong(argument, "a tuple", values)


def as_path(argument: str, value: Any) -> Path:
    """Returns the path of an argument.

    Raises:
        ValueError: If it is none.
    """
    try:
        return Path(value)
    except TypeError:
        raise wrong(argument, "a path", value) from None
