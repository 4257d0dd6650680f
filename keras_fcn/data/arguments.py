"""Checks of arguments."""

import numbers
from typing import Any


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
