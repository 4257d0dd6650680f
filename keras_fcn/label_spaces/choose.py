"""Chooses a label space by name, file or number of classes."""

import os

from keras_fcn.arguments import wrong
from keras_fcn.label_spaces import known
from keras_fcn.label_spaces.ade20k import ADE20K
from keras_fcn.label_spaces.files import from_file
from keras_fcn.label_spaces.label_space import LabelSpace, generic
from keras_fcn.spelling import proposal

_KNOWN = {
    name.lower(): space for name, space in vars(known).items() if isinstance(space, LabelSpace)
} | {"ade20k": ADE20K}
NAMES = tuple(sorted(_KNOWN))
"""Names of the label spaces of the package."""


def choose(
    label_space: str | os.PathLike | None = None,
    num_classes: int | None = None,
    ignore_class: int | None = None,
) -> LabelSpace:
    """Returns a label space by name or file, or a generic one for a number of classes.

    Args:
        label_space: A name such as `"camvid"`, or a .toml or .json file; see `from_file`.
        num_classes: Number of classes, instead of `label_space`.
        ignore_class: Class id of ignored pixels, with `num_classes`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If neither or both are given, or a value is not as described.

    Examples:
        >>> choose("camvid").num_classes
        11
    """
    if label_space is None:
        if num_classes is None:
            raise ValueError(
                "`num_classes` (--num-classes) or `label_space` (--label-space) must be given. "
                "Received: neither."
            )
        return generic(num_classes, ignore_class)
    if num_classes is not None or ignore_class is not None:
        raise ValueError(
            "`label_space` (--label-space) must be used without `num_classes` and `ignore_class`. "
            f"Received: {label_space=}, {num_classes=}, {ignore_class=}."
        )
    if not isinstance(label_space, (str, os.PathLike)):
        raise wrong("label_space", "a name, such as 'camvid', or a file", label_space)
    label_space = os.fspath(label_space)
    if label_space in _KNOWN:
        return _KNOWN[label_space]
    if not label_space.endswith((".toml", ".json")):
        raise ValueError(
            f"`label_space` (--label-space) must be one of {', '.join(NAMES)}, or a .toml "
            f"or .json file. Received: {label_space}.{proposal(label_space, NAMES)}"
        )
    return from_file(label_space)
