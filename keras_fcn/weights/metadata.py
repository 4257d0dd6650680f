"""What a source of weights says beside its arrays, compared with the model that takes them."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_fcn.layers import VGGPreprocessing
from keras_fcn.spec import SKIPS


def by_pool(skip_scales: Sequence[float]) -> dict[str, tuple[float, ...]]:
    """Returns `Contents.skip_scales` for the scales of pool4 and pool3."""
    return {pool: (scale,) for pool, scale in zip(SKIPS, skip_scales, strict=True)}


def skip_scales_of(model: keras.Model) -> dict[str, tuple[float, ...]]:
    """Returns `Contents.skip_scales` of an FCN, of the pools that it scores."""
    layers = {layer.name: layer for layer in model.layers}
    return {
        pool: (getattr(layers.get(f"scale_{pool}"), "scale", 1.0),)
        for pool in SKIPS
        if f"score_{pool}" in layers
    }


def mean_of(model: keras.Model) -> tuple[float, ...] | None:
    """Returns the mean that the preprocessing of a model subtracts, `None` without one."""
    for layer in model.layers:
        if isinstance(layer, VGGPreprocessing):
            return tuple(map(float, layer.mean))
    return None


def geometry_of(model: keras.Model) -> dict[str, Any]:
    """Returns `Contents.geometry` of an FCN on VGG-16, empty for another model."""
    layers = {layer.name: layer for layer in model.layers}
    if not {"block1_conv1", "score_fr"} <= set(layers):
        return {}
    factor = getattr(layers.get("input_upsampling"), "size", (1, 1))[0]
    padding = "paper" if "input_padding" in layers else "same"
    return {"padding": padding, "input_upsampling": factor}


def check_skip_scales(
    model: keras.Model, skip_scales: Mapping[str, Sequence[float]], name: str
) -> None:
    """Compares the scales of the skips of a source with those of the model.

    Raises:
        ValueError: If they differ.
    """
    for pool, (factor,) in skip_scales_of(model).items():
        scales = skip_scales.get(pool)
        if scales is None:
            continue
        if not scales or not np.allclose(scales, factor, rtol=1e-4):
            numbers = ", ".join(f"{scale:g}" for scale in scales[:3])
            raise ValueError(
                f"`skip_scales` must be those of {name}, which scales {pool} by {numbers}. "
                f"Received: {factor:g}. The at-once models need "
                "skip_scales=AT_ONCE_SKIP_SCALES (--at-once)."
            )


def check_mean(model: keras.Model, theirs: Sequence[float] | None, name: str) -> None:
    """Warns if the mean of a source is not that of the model."""
    ours = mean_of(model)
    if theirs is None or ours is None or len(theirs) != len(ours):
        return
    if not np.allclose(theirs, ours, atol=0.01):
        warn(
            f"{name} was trained with the mean {list(theirs)}, and the model subtracts "
            f"{list(ours)}. Pass `mean`, unless you retrain the model."
        )


def check_geometry(model: keras.Model, theirs: Mapping[str, Any], name: str) -> None:
    """Warns if padding or enlargement of a source are not those of the model."""
    ours = geometry_of(model)
    if ours and theirs and ours != dict(theirs):
        names = " and ".join(f"{key}={value!r}" for key, value in theirs.items())
        others = " and ".join(f"{key}={value!r}" for key, value in ours.items())
        warn(
            f"{name} was trained with {names}, and the model has {others}: it predicts otherwise. "
            "Pass the same, unless you retrain the model."
        )


def warn(message: str) -> None:
    """Warns from the caller of `keras_fcn.weights.load`."""
    warnings.warn(message, stacklevel=5)
