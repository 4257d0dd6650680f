"""A fault."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Mutant:
    """A fault: `old` occurs once in `file` of the package and becomes `new`.

    `tests` are the files that should find it, which run first.
    """

    name: str
    file: str
    old: str
    new: str
    tests: str
    backend: str = "tensorflow"
