"""How each kind of layer moves positions: from the maps of its inputs to that of its output."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from keras import layers

from keras_fcn.alignment.maps import (
    CoordinateMap,
    FeatureMap,
    convolution,
    transposed_convolution,
)
from keras_fcn.layers import (
    ConvolutionalizedDense,
    CropToReference,
    EmptyBorder,
    PadToStride,
    Surround,
)

# A tensor without positions that depends on the whole image, and one that depends on none of it.
_GLOBAL, _CONSTANT = "global", "constant"
_UNBOUNDED = CoordinateMap(Fraction(1), Fraction(0), -math.inf, math.inf)


class UnreadableLayerError(Exception):
    """What is wrong with a layer, without its name."""


def output_map(
    operation: Any,
    values: Sequence[Any],
    shapes: Sequence[tuple],
    known: Mapping[str, CoordinateMap | None],
    raises: bool,
) -> FeatureMap | str:
    """Returns the `FeatureMap` of what a layer or operation returns, or what stands for none.

    Args:
        operation: The layer or `keras.Operation`.
        values: The maps of the tensors that it is called with.
        shapes: Their shapes.
        known: As in `coordinate_maps`.
        raises: Whether feature maps that are not aligned raise.

    Raises:
        UnreadableLayerError: If the layer cannot be read.
    """
    if isinstance(operation, EmptyBorder) or known.get(operation.name, "") is None:
        return _CONSTANT
    if (declared := known.get(operation.name)) is not None:
        size = _output_size(operation, values, shapes)
        return _joined(values, raises).then(declared, declared, size)
    if isinstance(operation, Surround):
        shift = _shift(operation.start - operation.origin)
        return values[0].then(shift, shift, _output_size(operation, values, shapes))
    if isinstance(operation, PadToStride):
        shift = _shift(-operation.padding)
        return values[0].then(shift, shift, _output_size(operation, values, shapes))
    if isinstance(operation, CropToReference):
        return _cropped(operation, values[0], values[1], raises)
    for layer_class, rule in _RULES.items():
        if isinstance(operation, layer_class):
            if not isinstance(values[0], FeatureMap):
                return values[0]
            return rule(operation, values[0])
    names = {cls.__name__ for cls in type(operation).__mro__}
    if "Pad" in names:
        return _of_pad(operation, values[0])
    if names & _ELEMENTWISE:
        _check_axes(operation, values)
        return _joined(values, raises)
    raise UnreadableLayerError(
        "cannot be read. Replace it, or declare its map to coordinate_maps: known={'"
        + operation.name
        + "': keras_fcn.alignment."
        "IMAGE} if it changes no positions, or the CoordinateMap from its output to its input."
    )


def _joined(values, raises):
    """Returns the map of several tensors of equal positions, added or concatenated."""
    positions = [value for value in values if isinstance(value, FeatureMap)]
    if not positions:
        return _GLOBAL if _GLOBAL in values else _CONSTANT
    first = positions[0]
    for other in positions[1:]:
        axes = ((first.height, other.height), (first.width, other.width))
        if any(a.stride != b.stride or (raises and a.offset != b.offset) for a, b in axes):
            raise UnreadableLayerError(
                f"joins feature maps that are not aligned: {first} and {other}. Crop or pad one of "
                "them, or accept the offset of the first one with misaligned='first' "
                "(--misaligned first)."
            )
    joined = []
    for axis in ("height", "width"):
        maps = [getattr(value, axis) for value in positions]
        bounds = min(m.first for m in maps), max(m.last for m in maps)
        joined.append(CoordinateMap(maps[0].stride, maps[0].offset, *bounds))
    result = FeatureMap(*joined, first.size, first.rows_axis)
    return result.then(_UNBOUNDED, _UNBOUNDED) if _GLOBAL in values else result


def _cropped(layer, feature_map, reference, raises):
    shift = _shift(layer.offset)
    if not isinstance(reference, FeatureMap):
        return feature_map.then(shift, shift)
    size = tuple(
        min(wanted, length - layer.offset)
        for wanted, length in zip(reference.size, feature_map.size, strict=True)
    )
    cropped = feature_map.then(shift, shift, size)
    _joined([cropped, reference], raises)
    return cropped


def _output_size(layer, values, shapes):
    """Returns (height, width) of what a layer makes of inputs of the sizes of `values`."""
    shapes = [list(shape) for shape in shapes]
    for shape, value in zip(shapes, values, strict=True):
        if isinstance(value, FeatureMap):
            shape[value.rows_axis : value.rows_axis + 2] = value.size
    output = layer.compute_output_shape(shapes[0] if len(shapes) == 1 else shapes)
    return tuple(output[values[0].rows_axis :][:2])


def _shift(pixels):
    return CoordinateMap(Fraction(1), Fraction(pixels))


def _check_axes(layer, values):
    """Refuses what mixes positions, such as a normalization over rows."""
    axes = getattr(layer, "axis", None)
    for value in values:
        if axes is None or not isinstance(value, FeatureMap):
            continue
        for axis in [axes] if isinstance(axes, int) else axes:
            if axis % 4 in (0, value.rows_axis, value.rows_axis + 1):
                raise UnreadableLayerError(f"mixes positions: its axis is {axes}.")


def _check_data_format(layer, feature_map):
    rows_axis = 2 if layer.data_format == "channels_first" else 1
    if rows_axis != feature_map.rows_axis:
        raise UnreadableLayerError(
            f"takes rows from axis {rows_axis}, not {feature_map.rows_axis}."
        )


def _of_convolution(layer, feature_map):
    return _of_window(layer, feature_map, layer.kernel_size)


def _of_pool(layer, feature_map):
    return _of_window(layer, feature_map, layer.pool_size)


def _of_window(layer, feature_map, kernel_size):
    _check_data_format(layer, feature_map)
    dilations = getattr(layer, "dilation_rate", (1, 1))
    maps, sizes = [], []
    for length, size, stride, dilation in zip(
        feature_map.size, kernel_size, layer.strides, dilations, strict=True
    ):
        span, padding = dilation * (size - 1) + 1, 0
        if layer.padding == "same":
            # As in TensorFlow: as little as the last window needs, the smaller half before.
            padding = max(span - (length % stride or stride), 0) // 2
            sizes.append(-(-length // stride))
        else:
            sizes.append((length - span) // stride + 1)
        maps.append(convolution(size, stride, padding, dilation))
    return feature_map.then(*maps, tuple(sizes))


def _of_transposed_convolution(layer, feature_map):
    _check_data_format(layer, feature_map)
    if layer.output_padding is not None:
        raise UnreadableLayerError(f"cannot be read with output_padding={layer.output_padding}.")
    maps, sizes = [], []
    for length, size, stride, dilation in zip(
        feature_map.size, layer.kernel_size, layer.strides, layer.dilation_rate, strict=True
    ):
        beyond = max(dilation * (size - 1) + 1 - stride, 0)
        is_same = layer.padding == "same"
        sizes.append(length * stride + (0 if is_same else beyond))
        maps.append(transposed_convolution(size, stride, beyond // 2 if is_same else 0, dilation))
    return feature_map.then(*maps, tuple(sizes))


def _of_convolutionalized_dense(layer, feature_map):
    _check_data_format(layer, feature_map)
    padding = layer.kernel_size // 2 if layer.padding == "same" else 0
    axis = convolution(layer.kernel_size, padding=padding)
    size = tuple(length + 2 * padding - layer.kernel_size + 1 for length in feature_map.size)
    return feature_map.then(axis, axis, size)


def _of_zero_padding(layer, feature_map):
    _check_data_format(layer, feature_map)
    size = tuple(
        length + sum(padding)
        for length, padding in zip(feature_map.size, layer.padding, strict=True)
    )
    return feature_map.then(*(_shift(-before) for before, _ in layer.padding), size)


def _of_pad(operation, feature_map):
    """`keras.ops.pad`, which names every axis of the tensor."""
    widths = operation.pad_width
    if operation.mode != "constant" or len(widths) != 4:
        raise UnreadableLayerError(
            "cannot be read unless it pads each axis by itself, with mode='constant'."
        )
    if not isinstance(feature_map, FeatureMap):
        return feature_map
    first = feature_map.rows_axis
    rows, columns = widths[first : first + 2]
    size = feature_map.size[0] + sum(rows), feature_map.size[1] + sum(columns)
    return feature_map.then(_shift(-rows[0]), _shift(-columns[0]), size)


def _of_cropping(layer, feature_map):
    _check_data_format(layer, feature_map)
    size = tuple(
        length - sum(cropping)
        for length, cropping in zip(feature_map.size, layer.cropping, strict=True)
    )
    return feature_map.then(*(_shift(before) for before, _ in layer.cropping), size)


def _of_upsampling(layer, feature_map):
    _check_data_format(layer, feature_map)
    if layer.interpolation not in ("nearest", "bilinear"):
        raise UnreadableLayerError(f"cannot be read with interpolation={layer.interpolation!r}.")
    maps = []
    for factor in layer.size:
        factor = Fraction(factor)
        offset = (1 / factor - 1) / 2
        # Nearest: the pixel that holds the position. Bilinear: those less than one pixel away.
        reach = (1 - 1 / factor) / 2 if layer.interpolation == "nearest" else 1 - 1 / (2 * factor)
        maps.append(CoordinateMap(1 / factor, offset, offset - reach, offset + reach))
    size = tuple(
        length * factor for length, factor in zip(feature_map.size, layer.size, strict=True)
    )
    return feature_map.then(*maps, size)


def _of_global_pool(layer, feature_map):
    return _GLOBAL


def _of_permute(layer, feature_map):
    rows = 1 + layer.dims.index(feature_map.rows_axis)
    columns = 1 + layer.dims.index(feature_map.rows_axis + 1)
    if columns != rows + 1:
        raise UnreadableLayerError(f"exchanges rows and columns: dims={layer.dims}.")
    return dataclasses.replace(feature_map, rows_axis=rows)


def _of_dense(layer, feature_map):
    if feature_map.rows_axis != 1:
        raise UnreadableLayerError("mixes positions: the last axis does not hold the channels.")
    return feature_map


def _of_attention(layer, feature_map):
    return feature_map.then(_UNBOUNDED, _UNBOUNDED)


_Rule = Callable[[Any, FeatureMap], Any]
_RULES: dict[type | tuple[type, ...], _Rule] = {
    layers.Conv2DTranspose: _of_transposed_convolution,
    (layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D): _of_convolution,
    (layers.MaxPooling2D, layers.AveragePooling2D): _of_pool,
    ConvolutionalizedDense: _of_convolutionalized_dense,
    layers.ZeroPadding2D: _of_zero_padding,
    layers.Cropping2D: _of_cropping,
    layers.UpSampling2D: _of_upsampling,
    (
        layers.GlobalAveragePooling2D,
        layers.GlobalMaxPooling2D,
        layers.Flatten,
        layers.Reshape,
    ): _of_global_pool,
    layers.Permute: _of_permute,
    layers.Dense: _of_dense,
    (layers.MultiHeadAttention, layers.Attention, layers.GroupNormalization): _of_attention,
}
# Names of layers and operations that change no positions, also of private layers of
# `keras.applications`.
_ELEMENTWISE = frozenset(
    (
        *("InputLayer", "Activation", "ReLU", "LeakyReLU", "PReLU", "ELU", "Softmax", "Identity"),
        *("BatchNormalization", "LayerNormalization", "UnitNormalization", "Normalization"),
        *("RMSNormalization", "Rescaling", "Dropout", "SpatialDropout2D", "GaussianDropout"),
        *("GaussianNoise", "AlphaDropout", "ActivityRegularization", "VGGPreprocessing"),
        "LocalResponseNormalization",
        *("LayerScale", "StochasticDepth", "CustomScaleLayer", "Cast", "StopGradient"),
        *("Add", "Subtract", "Multiply", "Divide", "TrueDivide", "Average", "Maximum", "Minimum"),
        *("Concatenate", "Negative", "Power", "Square", "Sqrt", "Exp", "Absolute", "Clip"),
        *("Relu", "Relu6", "Sigmoid", "HardSigmoid", "HardSilu", "Silu", "Gelu", "Tanh"),
        *("Softplus", "Elu", "LogSoftmax", "Stack"),
        # Of `keras.ops`, as in the preprocessing of other images than photos.
        *("Log", "Log10", "Log1p", "Log2", "Logaddexp", "Logaddexp2", "Exp2", "Expm1"),
        *("Arccos", "Arccosh", "Arcsin", "Arcsinh", "Arctan", "Arctan2", "Arctanh", "Hypot"),
        *("Cos", "Cosh", "Sin", "Sinh", "Sinc", "Tan", "Deg2rad", "Rad2deg"),
        *("Cbrt", "Rsqrt", "Reciprocal", "DivideNoNan", "FloorDivide", "Mod", "Fmod", "Fabs"),
        *("Ceil", "Floor", "Round", "Trunc", "Sign", "Erf", "Erfc", "Fmax", "Fmin"),
        *("Equal", "NotEqual", "Greater", "GreaterEqual", "Less", "LessEqual", "Where", "Isclose"),
        *("LogicalAnd", "LogicalNot", "LogicalOr", "LogicalXor", "Heaviside"),
        *("Isfinite", "Isinf", "Isnan", "NanToNum", "FullLike", "OnesLike", "ZerosLike", "Copy"),
        *("Celu", "HardShrink", "HardTanh", "LeakyRelu", "LogSigmoid", "Selu", "SoftShrink"),
        *("Softsign", "SparsePlus", "SparseSigmoid", "Squareplus", "TanhShrink"),
    )
)
