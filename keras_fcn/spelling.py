"""Proposes the known name that a misspelt one is closest to."""

import difflib
from collections.abc import Iterable


def proposal(name: str, known: Iterable[str]) -> str:
    """Returns " Did you mean NAME?", or "" if no known name is similar.

    Args:
        name: The name that is not known.
        known: The names that are.

    Examples:
        >>> proposal("camvdi", ("pascal_voc", "camvid"))
        ' Did you mean camvid?'
        >>> proposal("street", ("pascal_voc", "camvid"))
        ''
    """
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {near[0]}?" if near else ""
