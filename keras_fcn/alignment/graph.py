"""Coordinate maps of every layer of a functional model, read off its graph."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import keras
from keras import layers

from keras_fcn.alignment.maps import IMAGE, CoordinateMap, convolution, transposed_convolution
from keras_fcn.layers import ConvolutionalizedDense, CropToReference, PadToStride
from keras_fcn.layers.empty_border import EmptyBorder
from keras_fcn.layers.surround import Surround


@dataclasses.dataclass(frozen=True)
class FeatureMap:
    """Where the pixels of a layer's output lie in the image.

    Args:
        height: `CoordinateMap` along the rows.
        width: `CoordinateMap` along the columns.
        size: (height, width) of the output in pixels.
        rows_axis: Axis of the output tensor that holds the rows; the columns follow it.
    """

    height: CoordinateMap
    width: CoordinateMap
    size: tuple[int, int]
    rows_axis: int = 1

    def then(
        self, height: CoordinateMap, width: CoordinateMap, size: tuple[int, int] | None = None
    ) -> "FeatureMap":
        """Returns the map of this path followed by a layer of these two maps and output size."""
        return FeatureMap(
            self.height.then(height), self.width.then(width), size or self.size, self.rows_axis
        )

    def __str__(self):
        return " x ".join(
            f"(stride {axis.stride}, offset {axis.offset})" for axis in (self.height, self.width)
        )


# A tensor without positions that depends on the whole image, and one that depends on none of it.
_GLOBAL, _CONSTANT = "global", "constant"
_UNBOUNDED = CoordinateMap(Fraction(1), Fraction(0), -math.inf, math.inf)


def coordinate_maps(
    model: keras.Model,
    known: Mapping[str, CoordinateMap | None] | None = None,
    misaligned: str = "raise",
    image_size: tuple[int, int] = (2048, 2048),
) -> dict[str, FeatureMap]:
    """Returns, for the layers of a functional model, where their outputs lie in the image.

    Strides, offsets and receptive fields are exact fractions; after upsampling, whose outputs see
    different pixels, the receptive field is an upper bound. Through global pooling or attention it
    is unbounded.

    Args:
        model: A functional model of one image of 4 axes. Models inside it are read, too.
        known: `CoordinateMap` of layers that cannot be read, such as a `Lambda`, by name, from
            output to input. `IMAGE` for a layer that changes no positions, `None` for one whose
            output is the same for every image.
        misaligned: `"raise"`, or `"first"` to give the sum of feature maps that are not aligned
            the offset of the first one. In Xception, a pool of 3x3 and a convolution of 1x1, both
            with padding "same" and stride 2, lie a pixel apart.
        image_size: (height, width) of the image in pixels. With padding "same" and a stride,
            offsets depend on it; by default it is a multiple of all strides that are powers of 2.

    Returns:
        A `FeatureMap` for every layer whose output has positions, by name. Layers of a model inside
        have the name "model/layer". A layer that is called several times has the map of its first
        call.

    Raises:
        ValueError: If a layer cannot be read, or the inputs of a layer are not aligned.

    Examples:
        >>> image = keras.Input((None, None, 3))
        >>> x = keras.layers.Conv2D(4, 3, strides=2, name="conv")(image)
        >>> x = keras.layers.MaxPooling2D(2, name="pool")(x)
        >>> pool = coordinate_maps(keras.Model(image, x))["pool"].height
        >>> print(pool.stride, pool.offset, pool.receptive_field)
        4 2 5
    """
    if misaligned not in ("raise", "first"):
        raise ValueError(f"`misaligned` must be 'raise' or 'first'. Received: {misaligned=}.")
    reader = _Reader(known or {}, misaligned)
    if not hasattr(model, "inputs") or not model.built:
        raise ValueError(
            "`model` must be a functional model, or a built Sequential one. Received: a "
            f"{type(model).__name__}."
        )
    if len(keras.tree.flatten(model.inputs)) != 1 or len(model.inputs[0].shape) != 4:
        raise ValueError(
            "`model` must have one input of 4 axes, an image. Received: inputs "
            f"{[tuple(x.shape) for x in model.inputs]}."
        )
    height, width = image_size
    image = FeatureMap(IMAGE, IMAGE, (height, width), _rows_axis_of_input(model))
    reader.read(model, [image], "")
    return reader.maps


def _rows_axis_of_input(model):
    known = [axis for axis, size in enumerate(model.inputs[0].shape) if size is not None]
    if known in ([1], [3]):
        return 2 if known == [1] else 1
    for layer in model.layers:
        if (data_format := getattr(layer, "data_format", None)) is not None:
            return 2 if data_format == "channels_first" else 1
        if isinstance(layer, keras.Model):
            return _rows_axis_of_input(layer)
    return 1


class _Reader:
    """Walks the graph of a model, node by node.

    Args:
        known: As in `coordinate_maps`.
        misaligned: As in `coordinate_maps`.
    """

    def __init__(self, known, misaligned):
        self.maps = {}
        self._known, self._raises = known, misaligned == "raise"

    def read(self, model, inputs, prefix):
        """Returns the maps of a model's outputs from those of its inputs."""
        # A model of another class may have a configuration of its own.
        graph = keras.Model(model.inputs, model.outputs)
        config = graph.get_config()
        operations = {operation.name: operation for operation in graph.operations}
        values = {}
        for (name, _, _), value in zip(
            _keras_histories(config["input_layers"]), inputs, strict=True
        ):
            values[name, 0, 0] = value
            if isinstance(value, FeatureMap):
                self.maps.setdefault(prefix + name, value)
        for layer in config["layers"]:
            operation = operations[layer["name"]]
            for number, node in enumerate(layer["inbound_nodes"]):
                arguments = _tensors(node, values)
                outputs = self._outputs(operation, arguments, prefix)
                for place, value in enumerate(outputs):
                    values[operation.name, number, place] = value
                if isinstance(outputs[0], FeatureMap):
                    self.maps.setdefault(prefix + operation.name, outputs[0])
        return [values[history] for history in _keras_histories(config["output_layers"])]

    def _outputs(self, operation, arguments, prefix):
        name = prefix + operation.name
        if isinstance(operation, keras.Model):
            return self.read(operation, [value for _, value in arguments], f"{name}/")
        values = [value for _, value in arguments]
        try:
            return [self._output(operation, values, [shape for shape, _ in arguments])]
        except _Unreadable as error:
            raise ValueError(f"Layer {name!r} ({type(operation).__name__}) {error}") from None

    def _output(self, operation, values, shapes):
        if isinstance(operation, EmptyBorder) or self._known.get(operation.name, "") is None:
            return _CONSTANT
        if (known := self._known.get(operation.name)) is not None:
            size = _output_size(operation, values, shapes)
            return _joined(values, self._raises).then(known, known, size)
        if isinstance(operation, Surround):
            shift = _shift(operation.start - operation.origin)
            return values[0].then(shift, shift, _output_size(operation, values, shapes))
        if isinstance(operation, PadToStride):
            shift = _shift(-operation.padding)
            return values[0].then(shift, shift, _output_size(operation, values, shapes))
        if isinstance(operation, CropToReference):
            return _cropped(operation, *values, self._raises)
        for layer_class, rule in _RULES.items():
            if isinstance(operation, layer_class):
                if not isinstance(values[0], FeatureMap):
                    return values[0]
                return rule(operation, values[0])
        names = {cls.__name__ for cls in type(operation).__mro__}
        if names & _ELEMENTWISE:
            _check_axes(operation, values)
            return _joined(values, self._raises)
        raise _Unreadable(
            "cannot be read. Declare its map: known={'" + operation.name + "': keras_fcn.alignment."
            "IMAGE} if it changes no positions, or the CoordinateMap from its output to its input."
        )


class _Unreadable(Exception):
    """What is wrong with a layer, without its name."""


def _keras_histories(config):
    """(layer, node, tensor) of the tensors of a nested configuration."""
    if config and isinstance(config[0], str):
        config = [config]
    return [tuple(history) for history in config]


def _tensors(node, values):
    """Returns shape and map of every tensor among the arguments of a node of a configuration."""
    found = []

    def visit(value):
        if isinstance(value, Mapping):
            if value.get("class_name") == "__keras_tensor__":
                config = value["config"]
                history = tuple(config["keras_history"])
                found.append((tuple(config["shape"]), values[history]))
            else:
                for inner in value.values():
                    visit(inner)
        elif isinstance(value, (list, tuple)):
            for inner in value:
                visit(inner)

    visit(node["args"])
    visit(node["kwargs"])
    return found


def _joined(values, raises):
    """Returns the map of several tensors of equal positions, added or concatenated."""
    positions = [value for value in values if isinstance(value, FeatureMap)]
    if not positions:
        return _GLOBAL if _GLOBAL in values else _CONSTANT
    first = positions[0]
    for other in positions[1:]:
        axes = ((first.height, other.height), (first.width, other.width))
        if any(a.stride != b.stride or (raises and a.offset != b.offset) for a, b in axes):
            raise _Unreadable(
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
                raise _Unreadable(f"mixes positions: its axis is {axes}.")


def _check_data_format(layer, feature_map):
    rows_axis = 2 if layer.data_format == "channels_first" else 1
    if rows_axis != feature_map.rows_axis:
        raise _Unreadable(f"takes rows from axis {rows_axis}, not {feature_map.rows_axis}.")


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
        raise _Unreadable(f"cannot be read with output_padding={layer.output_padding}.")
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
        raise _Unreadable(f"cannot be read with interpolation={layer.interpolation!r}.")
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
        raise _Unreadable(f"exchanges rows and columns: dims={layer.dims}.")
    return dataclasses.replace(feature_map, rows_axis=rows)


def _of_dense(layer, feature_map):
    if feature_map.rows_axis != 1:
        raise _Unreadable("mixes positions: the last axis does not hold the channels.")
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
        *("LayerScale", "StochasticDepth", "Cast", "StopGradient"),
        *("Add", "Subtract", "Multiply", "Divide", "TrueDivide", "Average", "Maximum", "Minimum"),
        *("Concatenate", "Negative", "Power", "Square", "Sqrt", "Exp", "Absolute", "Clip"),
        *("Relu", "Relu6", "Sigmoid", "HardSigmoid", "HardSilu", "Silu", "Gelu", "Tanh"),
        *("Softplus", "Elu", "LogSoftmax"),
    )
)
