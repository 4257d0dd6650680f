"""The configuration that the networks have in common: sizes, paddings and JSON values."""

import dataclasses
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

from keras_fcn.label_spaces import LabelSpace

DEFAULTS: dict[str, Any] = {
    "padding": "paper",
    "fc_units": 4096,
    "fc6_kernel_size": 7,
    "input_upsampling": 1,
    "skip_scales": (1.0, 1.0),
}
"""The paper's network on VGG-16."""


def as_json(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a configuration with Python integers for NumPy's, which JSON cannot serialize."""
    return {name: _plain(value) for name, value in config.items()}


def num_channels(input_shape: Sequence[int | None], data_format: str) -> Any:
    """Returns the number of channels of an `input_shape`, `None` if it is not known."""
    return input_shape[0 if data_format == "channels_first" else -1]


def label_space_config(label_space: LabelSpace | Mapping[str, Any] | None) -> Any:
    """Returns a JSON-serializable dictionary; `from_config` passes one already.

    Raises:
        ValueError: If it is no label space.
    """
    if not isinstance(label_space, (LabelSpace, Mapping, type(None))):
        raise ValueError(
            "`label_space` must be a LabelSpace, such as keras_fcn.label_spaces.PASCAL_VOC, or "
            f"None. Received: {label_space=}."
        )
    return dataclasses.asdict(label_space) if isinstance(label_space, LabelSpace) else label_space


def paddings(padding: str, fc6_kernel_size: int) -> tuple[int, int]:
    """Returns the zero padding of the image and that of fc6, in pixels of their inputs."""
    if padding == "same":
        return 0, fc6_kernel_size // 2
    # One less than the paper's 100: block1_conv1 also pads by one pixel. With 100, an image of one
    # pixel gives 7 x 7 pixels of pool5; every pixel of fc6's kernel beyond 7 needs 16 more.
    return 99 + 16 * max(0, fc6_kernel_size - 7), 0


def _plain(value):
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return int(value) if is_integer else value
