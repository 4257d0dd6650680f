"""Coordinate maps of every layer of a functional model, read off its graph."""

from collections.abc import Mapping, Sequence

import keras

from keras_fcn.alignment.maps import IMAGE, CoordinateMap, FeatureMap
from keras_fcn.alignment.rules import UnreadableLayerError, output_map
from keras_fcn.arguments import integers, one_of, wrong
from keras_fcn.backends import keras_compat


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
    maps: dict[str, FeatureMap] = {}
    for name, found in maps_of_calls(model, known, misaligned, image_size):
        maps.setdefault(name, found)
    return maps


def maps_of_calls(
    model: keras.Model,
    known: Mapping[str, CoordinateMap | None] | None = None,
    misaligned: str = "raise",
    image_size: tuple[int, int] = (2048, 2048),
) -> list[tuple[str, FeatureMap]]:
    """Returns the name and the map of every call of a layer, in an order of computation.

    Args and errors are those of `coordinate_maps`.
    """
    one_of("misaligned", misaligned, ("raise", "first"))
    known = {} if known is None else known
    are_maps = isinstance(known, Mapping) and all(
        isinstance(found, CoordinateMap | None) for found in known.values()
    )
    if not are_maps:
        raise wrong("known", "a dictionary from layers' names to a CoordinateMap or None", known)
    if len(integers("image_size", image_size, least=1)) != 2:
        raise wrong("image_size", "(height, width)", image_size)
    return _read(model, known, misaligned, image_size).maps


def misaligned_layers(model: keras.Model) -> list[str]:
    """Returns the names of the layers that join feature maps which are not aligned.

    The image has a height and width that are multiples of all strides.

    Args:
        model: As in `coordinate_maps`.

    Raises:
        ValueError: If a layer cannot be read.
    """
    return _read(model, {}, "first", (2048, 2048)).misaligned


def output_maps(model: keras.Model, inputs: Sequence[FeatureMap]) -> list[FeatureMap]:
    """Returns where the outputs of a functional model lie, given where its inputs do.

    Feature maps that are not aligned are joined as with `misaligned="first"` of `coordinate_maps`.

    Args:
        model: As in `coordinate_maps`, of one input or several.
        inputs: A `FeatureMap` for each input of the model.

    Raises:
        ValueError: If a layer cannot be read.
    """
    return _Reader({}, "first").read(model, list(inputs), "")


def _read(model, known, misaligned, image_size):
    """Returns a `_Reader` that has read a model of one image."""
    reader = _Reader(known, misaligned)
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
    return reader


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
        self.maps, self.misaligned = [], []
        self._known, self._raises = known, misaligned == "raise"

    def read(self, model, inputs, prefix):
        """Returns the maps of a model's outputs from those of its inputs."""
        # A model of another class may have a configuration of its own.
        graph = keras.Model(model.inputs, model.outputs)
        with keras_compat.serialization_without_tensorflow():
            config = graph.get_config()
        operations = {operation.name: operation for operation in graph.operations}
        values = {}
        for (name, _, _), value in zip(
            _keras_histories(config["input_layers"]), inputs, strict=True
        ):
            values[name, 0, 0] = value
            if isinstance(value, FeatureMap):
                self.maps.append((prefix + name, value))
        nodes = [
            (layer["name"], number, node)
            for layer in config["layers"]
            for number, node in enumerate(layer["inbound_nodes"])
        ]
        while nodes:  # A layer that is called again waits for the layers between its calls.
            waiting = []
            for name, number, node in nodes:
                tensors = _tensors(node)
                if any(history not in values for history, _ in tensors):
                    waiting.append((name, number, node))
                    continue
                operation = operations[name]
                arguments = [(shape, values[history]) for history, shape in tensors]
                if _indexes_channels(operation, node, arguments):
                    outputs = [arguments[0][1]]
                else:
                    outputs = self._outputs(operation, arguments, prefix)
                for place, value in enumerate(outputs):
                    values[name, number, place] = value
                if isinstance(outputs[0], FeatureMap):
                    self.maps.append((prefix + name, outputs[0]))
            nodes = waiting
        return [
            values[name, number - _is_functional(operations[name]), place]
            for name, number, place in _keras_histories(config["output_layers"])
        ]

    def _outputs(self, operation, arguments, prefix):
        name = prefix + operation.name
        if isinstance(operation, keras.Model):
            return self.read(operation, [value for _, value in arguments], f"{name}/")
        shapes, values = zip(*arguments, strict=True) if arguments else ((), ())
        arguments = operation, values, shapes, self._known
        try:
            try:
                return [output_map(*arguments, raises=True)]
            except UnreadableLayerError:
                if self._raises:
                    raise
                output = output_map(*arguments, raises=False)
                self.misaligned.append(name)
                return [output]
        except UnreadableLayerError as error:
            raise ValueError(f"Layer {name!r} ({type(operation).__name__}) {error}") from None


def _is_functional(operation):
    """Returns whether Keras counts the first call of an operation as 1 among a model's outputs."""
    return isinstance(operation, keras.Model) and not isinstance(operation, keras.Sequential)


def _indexes_channels(operation, node, arguments):
    """Returns whether an operation is `x[index]` that takes all rows and columns, such as RGB to
    BGR in the preprocessing of `keras.applications`.
    """
    if type(operation).__name__ != "GetItem" or not isinstance(arguments[0][1], FeatureMap):
        return False
    (shape, found), index = arguments[0], node["kwargs"].get("key") or node["args"][1]
    index = list(index) if isinstance(index, (tuple, list)) else [index]
    classes = [isinstance(part, Mapping) and part.get("class_name") for part in index]
    whole = {"class_name": "__slice__", "config": {"start": None, "stop": None, "step": None}}
    if "__ellipsis__" in classes:
        place = classes.index("__ellipsis__")
        index[place : place + 1] = [whole] * (len(shape) - len(index) + 1)
    return all(part == whole for part in index[found.rows_axis : found.rows_axis + 2])


def _keras_histories(config):
    """(layer, node, tensor) of the tensors of a nested configuration."""
    if config and isinstance(config[0], str):
        config = [config]
    return [tuple(history) for history in config]


def _tensors(node):
    """Returns history and shape of every tensor among the arguments of a node."""
    found = []

    def visit(value):
        if isinstance(value, Mapping):
            if value.get("class_name") == "__keras_tensor__":
                config = value["config"]
                found.append((tuple(config["keras_history"]), tuple(config["shape"])))
            else:
                for inner in value.values():
                    visit(inner)
        elif isinstance(value, (list, tuple)):
            for inner in value:
                visit(inner)

    visit(node["args"])
    visit(node["kwargs"])
    return found
