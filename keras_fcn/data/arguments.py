"""Checks of arguments."""

import numbers
import operator
from typing import Any


def integer(argument: str, value: Any) -> int:
    """Returns `value`, also one of NumPy's integers, as an `int`.

    Raises:
        ValueError: If `value` is no integer.
    """
    try:
        return operator.index(value)
    except TypeError:
        raise ValueError(
            f"`{argument}` must be an integer. Received: {argument}={value!r}."
        ) from None


def fraction(argument: str, value: Any) -> float:
    """Returns `value` as a `float`.

    Raises:
        ValueError: If `value` is no number from 0 to 1.
    """
    if not isinstance(value, numbers.Real) or not 0 <= float(value) <= 1:
        raise ValueError(
            f"`{argument}` must be a number from 0 to 1. Received: {argument}={value!r}."
        )
    return float(value)


def integer_of_at_least(argument: str, value: Any, least: int) -> int:
    """Returns `value`, also one of NumPy's integers, as an `int`.

    Raises:
        ValueError: If `value` is no integer or less than `least`.
    """
    if not isinstance(value, numbers.Integral) or value < least:
        raise ValueError(
            f"`{argument}` must be an integer of at least {least}. Received: {argument}={value!r}."
        )
    return int(value)
