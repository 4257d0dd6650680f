"""ONNX: one file, for ONNX Runtime and all that read the format."""

from pathlib import Path
from typing import TYPE_CHECKING

from keras_fcn.export.metadata import Metadata
from keras_fcn.export.packages import imported, version

if TYPE_CHECKING:
    from keras_fcn.export.formats import Run
    from keras_fcn.export.traced import Traced

PACKAGES = ("onnx", "onnxruntime", "tf2onnx")
QUANTIZATIONS = ("float16", "int8")

_OPSET = 18
# Values below this number stay in float32: biases, and the constants of shapes.
_LEAST_WEIGHTS = 1024


def write(traced: "Traced", path: Path, scratch: Path) -> None:
    """Writes the file, quantized as the metadata say."""
    onnx = imported("onnx")
    model = _convert(traced)
    if traced.metadata.quantization == "int8":
        model = _int8(model, traced, scratch)
    elif traced.metadata.quantization == "float16":
        _store_in_float16(model.graph)
    for name, value in traced.metadata.as_strings().items():
        model.metadata_props.add(key=name, value=value)
    onnx.save(model, path)


def read_metadata(path: Path) -> Metadata:
    """Returns what `write` stored."""
    return Metadata.from_strings(_session(path).get_modelmeta().custom_metadata_map)


def load(path: Path, metadata: Metadata) -> "Run":
    """Returns the file as a function of a batch of images."""
    session = _session(path)
    return lambda images: session.run([metadata.output], {"image": images})[0]


def runtime() -> str:
    """Returns name and version of the runtime."""
    return f"ONNX Runtime {version('onnxruntime')}"


def _session(path):
    onnxruntime = imported("onnxruntime")
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def _convert(traced):
    """Returns the `onnx.ModelProto` of a model.

    The weights are inputs of the graph that tf2onnx converts, and initializers only after: it
    copies every constant in each of its passes, which takes 20 GB for 134 million weights.
    """
    import tensorflow as tf

    from keras_fcn.backends import backend, keras_compat

    keras_compat.register_erfc_for_onnx()
    names = [f"weights.{variable.path}" for variable in traced.variables]
    weights = [
        tf.TensorSpec(variable.shape, variable.dtype, name=f"w{number}")
        for number, variable in enumerate(traced.variables)
    ]
    function = tf.function(traced.with_variables)
    with backend.traced_for_export():
        concrete = function.get_concrete_function(traced.input, *weights)
        model, _ = imported("tf2onnx").convert.from_function(
            function, [traced.input, *weights], opset=_OPSET
        )
    graph, numpy_helper = model.graph, imported("onnx.numpy_helper")
    used = {name for node in graph.node for name in node.input}
    # Constants that a layer computed before, as `keras.layers.Normalization`, are inputs, too.
    first = len(concrete.inputs) - len(concrete.captured_inputs)
    for tensor, value in zip(concrete.inputs[first:], concrete.captured_inputs, strict=True):
        if tensor.name in used:
            graph.initializer.append(numpy_helper.from_array(value.numpy(), tensor.name))
    for number, variable in enumerate(traced.variables):
        if f"w{number}" in used:
            array = variable.numpy()
            graph.initializer.append(numpy_helper.from_array(array, names[number]))
    renamed = {f"w{number}": name for number, name in enumerate(names)}
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    images = next(value for value in graph.input if value.name == "image")
    del graph.input[:]
    graph.input.append(images)
    for value in (*graph.input, *graph.output):
        _name_axes(value, traced.metadata.data_format)
    return model


def _name_axes(value, data_format):
    axes = ["batch", "height", "width"]
    if data_format == "channels_first" and len(value.type.tensor_type.shape.dim) == 4:
        axes.insert(1, "channels")
    for axis, name in zip(value.type.tensor_type.shape.dim, axes, strict=False):
        if not axis.dim_value:
            axis.dim_param = name


def _store_in_float16(graph):
    """Stores the weights in float16; the runtime casts them to float32 when it loads the file."""
    numpy_helper, helper = imported("onnx.numpy_helper"), imported("onnx.helper")
    casts = []
    for number, weights in enumerate(graph.initializer):
        array = numpy_helper.to_array(weights)
        if array.dtype != "float32" or array.size < _LEAST_WEIGHTS:
            continue
        half = f"{weights.name}.float16"
        casts.append(helper.make_node("Cast", [half], [weights.name], to=1))  # 1: float32.
        graph.initializer[number].CopyFrom(numpy_helper.from_array(array.astype("float16"), half))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _int8(model, traced, scratch):
    """Returns the model after post-training quantization of convolutions and products."""
    onnx, quantization = imported("onnx"), imported("onnxruntime.quantization")
    preprocessing = imported("onnxruntime.quantization.shape_inference")
    source, prepared, quantized = (
        scratch / f"{name}.onnx" for name in ("source", "prepared", "quantized")
    )
    onnx.save(model, source)
    # Folds the transpositions of the kernels, without which none would count as a weight.
    preprocessing.quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)

    class Images(quantization.CalibrationDataReader):
        def __init__(self):
            self._images = traced.calibration()

        def get_next(self):
            image = next(self._images, None)
            return None if image is None else {"image": image}

    quantization.quantize_static(
        str(prepared),
        str(quantized),
        Images(),
        quant_format=quantization.QuantFormat.QDQ,
        op_types_to_quantize=["Conv", "MatMul", "MaxPool"],
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        extra_options={"ActivationSymmetric": False},
    )
    return onnx.load(quantized)
