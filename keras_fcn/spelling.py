"""Words of messages: the known name that a misspelt one is closest to, and counts."""

import difflib
from collections.abc import Iterable


def proposal(name: str, known: Iterable[str]) -> str:
    """Returns " Did you mean NAME?", or "" if no known name is similar, in any case of letters.

    Args:
        name: The name that is not known.
        known: The names that are.

    Examples:
        >>> proposal("Camvdi", ("pascal_voc", "camvid"))
        ' Did you mean camvid?'
        >>> proposal("street", ("pascal_voc", "camvid"))
        ''
    """
    by_lower_case = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), by_lower_case, n=1)
    return f" Did you mean {by_lower_case[near[0]]}?" if near else ""


def counted(number: int, noun: str) -> str:
    """Returns a number and what it counts, in the singular or the plural.

    Args:
        number: The number.
        noun: What is counted, in the singular.

    Examples:
        >>> counted(1, "image"), counted(2, "label map"), counted(0, "class")
        ('1 image', '2 label maps', '0 classes')
    """
    plural = "es" if noun.endswith("s") else "s"
    return f"{number} {noun}" if number == 1 else f"{number} {noun}{plural}"
