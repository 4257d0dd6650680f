"""Which layers of a backbone an FCN scores: one for each output stride."""

import warnings
from collections.abc import Mapping

import keras
from keras import layers

from keras_fcn.alignment.graph import maps_of_calls, misaligned_layers


def feature_pyramid(
    backbone: keras.Model, strides: tuple[int, ...], skips: Mapping[str, str] | None = None
) -> keras.Model:
    """Returns the functional model of a backbone's feature maps, one for each stride.

    Branches of the backbone that are not aligned where they join are a warning.

    Args:
        backbone: Functional model of one image.
        strides: Output strides in pixels, coarsest first.
        skips: Names of layers by `"stride32"`, `"stride16"`, ...; the last layer of each stride by
            default.

    Raises:
        ValueError: If the backbone has no layer of a stride, or a layer of another one is named.
    """
    names = dict(skips or {})
    calls = [
        (name, found)
        for name, found in maps_of_calls(backbone, misaligned="first")
        if "/" not in name  # Not a layer of a model inside.
    ]
    outputs = []
    for stride in strides:
        name = names.pop(f"stride{stride}", None)
        if name is None:
            name = _last_of_stride(backbone, calls, stride)
        elif (name, stride) not in [(called, _stride_of(found)) for called, found in calls]:
            raise ValueError(f"`skips` must name a layer of stride {stride}. Received: {name!r}.")
        number = [called for called, _ in calls].count(name)
        if number > 1:
            raise ValueError(
                f"`backbone` must have a layer of output stride {stride} that is called once. "
                f"Received: {name!r}, which is called {number} times. Make one layer for each "
                f"call, or name another layer: skips={{'stride{stride}': ...}}."
            )
        outputs.append(backbone.get_layer(name).output)
    if names:
        raise ValueError(
            f"`skips` must have keys among {[f'stride{s}' for s in strides]}. Received: "
            f"{sorted(names)}."
        )
    features = keras.Model(backbone.inputs, outputs, name="backbone")
    if joining := misaligned_layers(features):
        shown = ", ".join(joining[:3]) + (", ..." if len(joining) > 3 else "")
        warnings.warn(
            f"`backbone` {backbone.name!r} joins feature maps that are not aligned, in {shown}: "
            "the logits follow the first input of each, and what the others see is shifted. "
            "keras_fcn.alignment.coordinate_maps(backbone) states both positions; kernels of the "
            "same size in both branches align them.",
            stacklevel=5,
        )
    return features


def _last_of_stride(backbone, calls, stride):
    # A padding in front of the next stride has its own offset and no features.
    names = {
        layer.name
        for layer in backbone.layers
        if not isinstance(layer, (layers.ZeroPadding2D, layers.Cropping2D))
    }
    for name, found in reversed(calls):
        if name in names and _stride_of(found) == stride:
            return name
    strides = sorted({_stride_of(found) for _, found in calls} - {None})
    remedy = ""
    if any(isinstance(layer, keras.Model) for layer in backbone.layers):
        remedy = (
            " Layers of a model inside it are not taken: pass that model as `backbone`, and the "
            "layers in front of it as `preprocessing`."
        )
    raise ValueError(
        f"`backbone` must have a layer of output stride {stride}. Received: {backbone.name!r} with "
        f"the strides {strides}.{remedy}"
    )


def _stride_of(found):
    """Returns the stride of a `FeatureMap`, `None` if rows and columns differ in it."""
    stride = found.height.stride
    return int(stride) if stride == found.width.stride and stride.denominator == 1 else None
