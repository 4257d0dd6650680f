"""Checks of the arguments of an FCN."""

import inspect
import math
import numbers
from collections.abc import Mapping
from typing import Any

import keras

from keras_fcn import weights as weight_files
from keras_fcn.arguments import MOST_CLASSES, integer
from keras_fcn.layers.vgg_preprocessing import default_mean
from keras_fcn.models.backbone import HEADS
from keras_fcn.models.config import DEFAULTS, num_channels
from keras_fcn.spec import ALEXNET_FILTERS, VGG16_FILTERS
from keras_fcn.spelling import proposal

_BOOLEANS = {
    "trainable_upsampling",
    "include_preprocessing",
    "gradient_checkpointing",
    "freeze_batch_norm",
    "stacked",
}


def check_keywords(model: object, keywords: Mapping[str, Any]) -> None:
    """Raises a TypeError if a constructor got arguments that it does not have.

    `keras.Model` ignores them, so that a misspelt argument would have its default.

    Args:
        model: The model under construction.
        keywords: Further keyword arguments, of which Keras takes `trainable`.
    """
    for name in sorted(keywords.keys() - {"trainable"}):
        known = inspect.signature(type(model).__init__).parameters
        raise TypeError(f"{type(model).__name__} has no argument {name!r}.{proposal(name, known)}")


def check_without_backbone(arguments: Mapping[str, Any]) -> None:
    """Raises a ValueError if arguments of a backbone are given without one.

    Args:
        arguments: `skips`, `preprocessing`, `head` and `freeze_batch_norm` of an FCN.
    """
    defaults = {"skips": None, "preprocessing": None, "head": "conv", "freeze_batch_norm": False}
    for name, default in defaults.items():
        if arguments[name] != default:
            raise ValueError(
                f"`{name}` must keep its default, {default!r}, without a `backbone`. Received: "
                f"{name}={arguments[name]!r}."
            )


def check_backbone(
    config: Mapping[str, Any], weights: object, head: object, gradient_checkpointing: bool
) -> None:
    """Raises a ValueError if an argument of an FCN does not go with a backbone.

    Args:
        config: The FCN's configuration.
        weights: As in `FCN`, as are the others.
        head: Checked to be known.
        gradient_checkpointing: Must be `False`.
    """
    defaults = {
        "padding": DEFAULTS["padding"],
        "filters": VGG16_FILTERS,
        "skip_scales": DEFAULTS["skip_scales"],
        "mean": default_mean(num_channels(config["input_shape"], config["data_format"])),
        "include_preprocessing": True,
    }
    if head != "fc":
        defaults["fc6_kernel_size"] = DEFAULTS["fc6_kernel_size"]
    changed = [name for name, default in defaults.items() if config[name] != default]
    changed += ["weights"] * (weights is not None)
    changed += ["gradient_checkpointing"] * gradient_checkpointing
    if changed:
        raise ValueError(
            f"`{changed[0]}` must keep its default with `backbone`: it is VGG-16's. Received: "
            f"{changed} changed."
        )
    if head not in HEADS:
        raise ValueError(f"`head` must be one of {HEADS}. Received: {head=}.")


def check_input_shape(input_shape: Any) -> None:
    """Raises a ValueError if an `input_shape` does not have three axes."""
    try:
        axes = tuple(input_shape)
    except TypeError:
        axes = ()
    if len(axes) != 3 or not all(axis is None or _is_count(axis) for axis in axes):
        raise ValueError(
            "`input_shape` must be (height, width, channels), each a positive integer or None. "
            f"Received: {input_shape=}."
        )


def check_config(config: Mapping[str, Any], weights: object) -> None:
    """Raises a ValueError if a value of an FCN's configuration is not as `FCN` describes it."""
    _check_common(config)
    _require(config, config["padding"] in ("paper", "same"), "padding", "'paper' or 'same'")
    filters = config["filters"]
    _require(
        config,
        len(filters) == len(VGG16_FILTERS) and all(_is_count(value) for value in filters),
        "filters",
        "five positive integers, one per block of VGG-16",
    )
    _require(
        config,
        filters == VGG16_FILTERS or weights not in ("imagenet", *weight_files.published_names()),
        "filters",
        f"{VGG16_FILTERS}, the filters of VGG-16, for weights={weights!r}",
    )
    size = config["fc6_kernel_size"]
    is_odd = _is_count(size) and size % 2 == 1
    _require(config, is_odd, "fc6_kernel_size", "a positive odd integer")
    factor = config["input_upsampling"]
    _require(config, _is_count(factor), "input_upsampling", "a positive integer")
    scales = "two numbers, for pool4 and pool3"
    _require(config, _are_numbers(config["skip_scales"], 2), "skip_scales", scales)
    channels = num_channels(config["input_shape"], config["data_format"])
    _require(config, _is_count(channels), "input_shape", "of a known number of channels")
    names = "blue, green and red" if channels == 3 else "one per channel"
    _require(
        config,
        _are_numbers(config["mean"], channels) or not config["include_preprocessing"],
        "mean",
        f"{channels} numbers, {names}",
    )


def check_alexnet(config: Mapping[str, Any]) -> None:
    """Raises a ValueError if a value of the configuration of an `FCNAlexNet` is not valid."""
    _check_common(config)
    filters = config["filters"]
    _require(
        config,
        len(filters) == len(ALEXNET_FILTERS)
        and all(_is_count(value) for value in filters)
        and not any(value % 2 for value in filters),
        "filters",
        "five positive even integers, as each of two groups takes half of them",
    )
    _require(config, _are_numbers(config["mean"], 3), "mean", "3 numbers, blue, green and red")


def _check_common(config):
    integer("num_classes", config["num_classes"], 2, MOST_CLASSES)
    _require(config, _is_count(config["fc_units"]), "fc_units", "a positive integer")
    rate = config["dropout_rate"]
    is_rate = isinstance(rate, numbers.Real) and 0 <= rate < 1
    _require(config, is_rate, "dropout_rate", "a number of at least 0 and less than 1")
    check_booleans(config)
    _require(
        config,
        _is_activation(config.get("classifier_activation")),
        "classifier_activation",
        "the name of one of Keras's activations, or None",
    )
    _require(
        config,
        config["data_format"] in ("channels_last", "channels_first"),
        "data_format",
        "'channels_last' or 'channels_first'",
    )
    label_space = config["label_space"]
    _require(
        config,
        label_space is None or len(label_space.get("class_names", ())) == config["num_classes"],
        "label_space",
        "`None` or a label space of `num_classes` classes",
    )


def check_booleans(arguments: Mapping[str, Any]) -> None:
    """Raises a ValueError if one of the arguments that are switches is not `True` or `False`."""
    for name in _BOOLEANS & arguments.keys():
        _require(arguments, isinstance(arguments[name], bool), name, "True or False")


def check_dictionary(argument: str, value: Any, contents: str) -> None:
    """Raises a ValueError if an optional argument is no dictionary of these contents."""
    if not isinstance(value, (Mapping, type(None))):
        raise ValueError(
            f"`{argument}` must be a dictionary {contents}, or None. Received: "
            f"{argument}={value!r}."
        )


def _is_activation(identifier):
    try:
        keras.activations.get(identifier)
    except ValueError:
        return False
    return True


def _require(config, condition, argument, rule):
    if not condition:
        raise ValueError(f"`{argument}` must be {rule}. Received: {argument}={config[argument]!r}.")


def _are_numbers(values, count):
    """Whether these are as many finite numbers."""
    is_number = [isinstance(value, numbers.Real) and math.isfinite(value) for value in values]
    return len(is_number) == count and all(is_number)


def _is_count(value):
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and value >= 1
