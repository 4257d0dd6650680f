"""`FCN.export`: each format in its own runtime, at sizes other than the traced one."""

import re
import warnings

import keras
import numpy as np
import pytest
from helpers import NARROW_FILTERS, randomize

import keras_fcn
from keras_fcn.export import export
from keras_fcn.layers import BilinearUpSampling2D
from keras_fcn.models.deep_supervision import with_coarser_heads

BACKEND = keras.backend.backend()

# Keras 3.15 exports a model on PyTorch by a TorchScript trace, which PyTorch deprecates.
TRACE_WARNINGS = (
    "ignore:Converting a tensor to a Python",
    "ignore:torch.as_tensor results are registered as constants",
    "ignore:`torch.jit.trace:DeprecationWarning",
    "ignore:You are using the legacy TorchScript-based ONNX export:DeprecationWarning",
    "ignore:The feature will be removed:DeprecationWarning",
    "ignore:Constant folding - Only steps=1 can be constant folded:UserWarning",
)
pytestmark = [pytest.mark.filterwarnings(each) for each in TRACE_WARNINGS if BACKEND == "torch"]
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "litert": ".tflite", "torch": ".pt2"}
# All pairs that Keras has; the others raise.
FORMATS = {
    "tensorflow": ("tf_saved_model", "onnx", "openvino", "litert"),
    "jax": ("tf_saved_model",),
    "torch": ("onnx", "openvino", "torch"),
}[BACKEND]
QUICK = {"tensorflow": "tf_saved_model", "jax": "tf_saved_model", "torch": "onnx"}[BACKEND]
IMPOSSIBLE = {
    "tensorflow": {"torch": "PyTorch only"},
    "jax": {
        "onnx": "jax2onnx cannot slice or pad",
        "openvino": "TensorFlow graph without XLA",
        "litert": "TensorFlow and PyTorch only",
        "torch": "PyTorch only",
    },
    "torch": {"tf_saved_model": "2x2 pixels", "litert": "images of one pixel"},
}[BACKEND]

# Of a model of several inputs.
IMPOSSIBLE_OF_INPUTS = {
    "tensorflow": ("torch",),
    "jax": ("tf_saved_model", "onnx", "openvino", "litert", "torch"),
    "torch": ("tf_saved_model", "litert", "torch"),
}[BACKEND]


def _tensorflow(path):
    import tensorflow as tf

    saved = tf.saved_model.load(path)
    return lambda image: saved.serve(image).numpy()


def _onnx(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    name = session.get_inputs()[0].name
    return lambda image: session.run(None, {name: image})[0]


def _openvino(path):
    import openvino

    # On some CPUs the default is bfloat16.
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(path, "CPU", options)
    return lambda image: compiled(image)[0]


def _litert(path):
    import tensorflow as tf

    with warnings.catch_warnings():
        # Its successor is another package.
        warnings.filterwarnings("ignore", r"\s*Warning: tf\.lite\.Interpreter is deprecated")
        interpreter = tf.lite.Interpreter(model_path=path)

    def run(image):
        index = interpreter.get_input_details()[0]["index"]
        interpreter.resize_tensor_input(index, image.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(index, image)
        interpreter.invoke()
        return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])

    return run


def _torch(path):
    import torch

    module = torch.export.load(path).module()
    return lambda image: module(torch.from_numpy(image)).detach().numpy()


RUNTIMES = {
    "tf_saved_model": _tensorflow,
    "onnx": _onnx,
    "openvino": _openvino,
    "litert": _litert,
    "torch": _torch,
}


def _model(network=keras_fcn.FCN8s, **options):
    model = network(3, fc_units=4, filters=NARROW_FILTERS, **options)
    randomize(model, seed=0)
    return model


def _assert_exports(model, format, folder, sizes=((2, 37, 45), (1, 64, 33))):
    path = folder / f"fcn{SUFFIXES.get(format, '')}"
    model.export(path, format=format, verbose=False)
    run = RUNTIMES[format](str(path))
    for batch, height, width in sizes:
        generator = np.random.default_rng(height)
        shape = (batch, height, width, 3)
        if model.data_format == "channels_first":
            shape = (batch, 3, height, width)
        image = generator.uniform(0, 255, shape).astype("float32")
        # Compiled: JAX would compile each of some hundred operations by itself.
        logits = model.predict_on_batch(image)
        assert np.abs(logits).max() > 1
        np.testing.assert_allclose(run(image), logits, atol=1e-4 * max(1, np.abs(logits).max()))


@pytest.mark.gate
@pytest.mark.parametrize(
    "options",
    [{"padding": "paper"}, {"padding": "same"}, {"padding": "same", "input_upsampling": 2}],
    ids=["paper", "same", "enlarged"],
)
@pytest.mark.parametrize("format", FORMATS)
def test_every_format_gives_the_models_logits_at_every_size(format, options, tmp_path):
    _assert_exports(_model(**options), format, tmp_path)


@pytest.mark.gate
# torch.export takes half a minute more, for the layers of the tests above.
@pytest.mark.parametrize("format", [format for format in FORMATS if format != "torch"])
def test_images_of_channels_first_are_exported(format, tmp_path):
    model = _model(keras_fcn.FCN16s, data_format="channels_first")
    _assert_exports(model, format, tmp_path)


def _backbone():
    """Strided convolutions with batch normalization, as in ResNets and MobileNets."""
    x = inputs = keras.Input((None, None, 3))
    for number in range(5):
        x = keras.layers.ZeroPadding2D(1)(x)
        x = keras.layers.Conv2D(8, 3, 2, use_bias=False, name=f"conv{number}")(x)
        x = keras.layers.BatchNormalization()(x)
        x = keras.layers.DepthwiseConv2D(3, padding="same", activation="relu6")(x)
    return keras.Model(inputs, x)


@pytest.mark.gate
@pytest.mark.parametrize("format", FORMATS)
def test_a_backbone_is_exported(format, tmp_path):
    model = keras_fcn.FCN8s(
        3, fc_units=4, backbone=_backbone(), preprocessing=keras.layers.Rescaling(1 / 255)
    )
    for layer in model.layers:
        if layer.name.startswith("score_"):
            kernel, bias = layer.get_weights()
            layer.set_weights([np.random.default_rng(0).normal(0, 100, kernel.shape), bias])
    _assert_exports(model, format, tmp_path)


@pytest.mark.gate
@pytest.mark.parametrize("format", [f for f in FORMATS if f in ("tf_saved_model", "onnx")])
@pytest.mark.parametrize("network", ["alexnet", "modalities", "tasks", "heads"])
def test_the_releases_other_networks_are_exported(network, format, tmp_path):
    narrow = {"filters": NARROW_FILTERS, "fc_units": 4}
    image, hha = np.random.default_rng(0).uniform(0, 255, (2, 1, 37, 45, 3)).astype("float32")
    if network == "alexnet":
        model = keras_fcn.FCNAlexNet(3, filters=(4, 8, 6, 8, 4), fc_units=4)
        randomize(model, seed=0)
        _assert_exports(model, format, tmp_path)
        return
    if network == "modalities":
        stacked = BACKEND == "jax"
        model = keras_fcn.MultimodalFCN32s(3, **narrow, stacked=stacked)
        inputs = {"image": image, "hha": hha}
        if stacked:
            image = np.concatenate([image, hha], axis=-1)
    elif network == "tasks":
        model, inputs = keras_fcn.MultitaskFCN16s({"a": 3, "b": 2}, **narrow), {"image": image}
    else:
        model, inputs = with_coarser_heads(keras_fcn.FCN16s(3, **narrow)), {"image": image}
    randomize(model, seed=0)
    path = tmp_path / f"fcn{SUFFIXES.get(format, '')}"
    model.export(path, format=format, verbose=False)
    given = inputs if isinstance(model.input, dict) else image
    if format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path)
        names = [node.name for node in session.get_inputs()]
        if len(names) == 1:
            inputs = {names[0]: image}
        found = session.run(None, {name: inputs[name] for name in names})
    else:
        import tensorflow as tf

        saved = tf.saved_model.load(path)
        found = keras.tree.flatten(saved.serve(given))
    expected = keras.tree.flatten(model.predict_on_batch(given))
    for ours, theirs in zip(expected, found, strict=True):
        assert np.abs(ours).max() > 0.5
        np.testing.assert_allclose(np.asarray(theirs), ours, atol=1e-4 * np.abs(ours).max())


@pytest.mark.gate
@pytest.mark.skipif(BACKEND != "tensorflow", reason="its converters merge the transposition")
@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_a_single_pixel_of_one_channel_is_enlarged(format, tmp_path):
    image = keras.Input((1, None, None))
    pixels = keras.layers.Permute((2, 3, 1))(image)
    enlarge = BilinearUpSampling2D(2, data_format="channels_last")
    path = str(tmp_path / f"model{SUFFIXES[format]}")
    signature = [keras.InputSpec(dtype="float32", shape=(None, 1, None, None), name="image")]
    keras.Model(image, enlarge(pixels)).export(
        path, format=format, verbose=False, input_signature=signature
    )
    run = RUNTIMES[format](path)
    for row, expected in (([3], [3, 3]), ([0, 4], [0, 1, 3, 4])):
        found = run(np.array(row, "float32")[None, None, None])
        np.testing.assert_allclose(found[0, :, :, 0], [expected, expected], atol=1e-6)


def test_a_model_that_was_never_called_is_exported(tmp_path):
    _assert_exports(_model(keras_fcn.FCN32s), QUICK, tmp_path, sizes=((2, 37, 45),))


def _refused(model, format, path):
    with pytest.raises(ValueError, match=IMPOSSIBLE[format]) as error:
        model.export(path / f"fcn{SUFFIXES.get(format, '')}", format=format)
    return str(error.value)


@pytest.mark.parametrize("format", IMPOSSIBLE)
def test_a_format_that_the_backend_cannot_write_is_refused_with_reason_and_remedy(format, tmp_path):
    remedy = f"Use keras_fcn.export.export(model, path, format='{format.removeprefix('tf_')}')"
    if format == "torch":
        remedy = "load it with KERAS_BACKEND=torch"
    assert remedy in _refused(_model(padding="same"), format, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", IMPOSSIBLE_OF_INPUTS)
def test_several_inputs_are_refused_with_the_model_of_one_image(format, tmp_path):
    options = {"num_classes": 3, "filters": NARROW_FILTERS, "fc_units": 4}
    model = keras_fcn.MultimodalFCN32s(**options)
    with pytest.raises(ValueError, match="of several inputs") as error:
        model.export(tmp_path / f"fcn{SUFFIXES.get(format, '')}", format=format)
    assert "stacked=True and weights=model" in str(error.value)
    assert not list(tmp_path.iterdir())
    randomize(model, seed=0)
    stacked = keras_fcn.MultimodalFCN32s(**options, stacked=True, weights=model)
    image, hha = np.random.default_rng(0).uniform(0, 255, (2, 1, 37, 45, 3)).astype("float32")
    expected = model.predict_on_batch({"image": image, "hha": hha})
    found = stacked.predict_on_batch(np.concatenate([image, hha], axis=-1))
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.skipif(BACKEND == "tensorflow", reason="TensorFlow writes dictionaries of outputs.")
def test_several_tasks_are_refused_with_the_model_of_one(tmp_path):
    model = keras_fcn.MultitaskFCN32s({"a": 3, "b": 2}, filters=NARROW_FILTERS, fc_units=4)
    remedy = r"Use keras_fcn\.export\.export\(model\.as_fcn\(task\), path, format='openvino'\)"
    with pytest.raises(ValueError, match=remedy):
        model.export(tmp_path / "fcn.xml", format="openvino")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(BACKEND == "tensorflow", reason="On TensorFlow, PyTorch's format alone fails.")
def test_coarser_heads_are_refused_with_the_model_that_has_them(tmp_path):
    heads = with_coarser_heads(_model(keras_fcn.FCN16s, padding="same"))
    format = {"jax": "onnx", "torch": "tf_saved_model"}[BACKEND]
    assert "export(fcn, path, format='" in (sentence := _refused(heads, format, tmp_path))
    assert "of the FCN with these heads" in sentence
    assert not list(tmp_path.iterdir())


@pytest.mark.gate
@pytest.mark.skipif(BACKEND == "tensorflow", reason="On TensorFlow, PyTorch's format alone fails.")
def test_what_the_remedy_says_writes_the_format(tmp_path):
    model, format = _model(padding="same"), {"jax": "onnx", "torch": "tf_saved_model"}[BACKEND]
    remedy = re.search(r"Use (keras_fcn\.export\.export\(.*?\))", _refused(model, format, tmp_path))
    path = tmp_path / f"fcn{SUFFIXES.get(format, '')}"
    eval(remedy[1], {"keras_fcn": keras_fcn, "model": model, "path": path})
    image = np.random.default_rng(0).uniform(0, 255, (2, 37, 45, 3)).astype("float32")
    if format == "onnx":
        found = _onnx(path)(image)
    else:
        import tensorflow as tf

        run = tf.saved_model.load(path).signatures["serving_default"]
        found = run(image=tf.constant(image))["logits"].numpy()
    expected = model.predict_on_batch(image)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.skipif(BACKEND != "jax", reason="JAX's reason")
@pytest.mark.gate
# The conversion starts processes by os.fork.
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_openvino_on_jax_fails_for_every_keras_model(tmp_path):
    """When it no longer does, `models/exports.py` need not refuse it."""
    dense = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(Exception, match="XlaCallModule"):
        dense.export(str(tmp_path / "dense.xml"), format="openvino", verbose=False)


@pytest.mark.gate
@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf2onnx converts on TensorFlow")
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_gelu_and_groups_are_exported_to_onnx(groups, tmp_path):
    """As in ConvNeXt, whose convolutions have one group for each channel."""
    image = keras.Input((None, None, 3))
    x = image
    for number in range(5):
        options = {"padding": "same", "activation": "gelu"}
        x = keras.layers.Conv2D(4, 3, strides=2, name=f"conv{number}", **options)(x)
        if groups > 1:
            x = keras.layers.Conv2D(4, 3, groups=groups, name=f"groups{number}", **options)(x)
    model = keras_fcn.FCN32s(2, backbone=keras.Model(image, x), head=None)
    randomize(model, seed=0)
    image = np.random.default_rng(0).normal(0, 1, (1, 37, 45, 3)).astype("float32")
    expected = model.predict(image, verbose=0)
    assert np.ptp(expected) > 1e-2
    model.export(tmp_path / "model.onnx", "onnx", verbose=False)
    export(model, tmp_path / "checked.onnx", format="onnx")
    for name in ("model.onnx", "checked.onnx"):
        found = _onnx(tmp_path / name)(image)
        np.testing.assert_allclose(found, expected, atol=1e-4 * abs(expected).max())


def _with_one_pixel_pools(normalization, channels):
    """An FCN-32s that scores every 32nd pixel of the image, normalized."""
    image = keras.Input((None, None, channels))
    x = normalization(image)
    for number in range(5):
        x = keras.layers.AveragePooling2D(1, 2, name=f"pool{number}", data_format="channels_last")(
            x
        )
    model = keras_fcn.FCN32s(
        2, backbone=keras.Model(image, x), head=None, input_shape=(None, None, channels)
    )
    kernel = np.eye(channels)[None, None, :, :2]
    model.get_layer("score_fr").set_weights([kernel, np.zeros(2)])
    return model


@pytest.mark.gate
@pytest.mark.any_backend
def test_the_constants_of_normalization_are_in_the_onnx_file(tmp_path):
    """As of ConvNeXt and EfficientNetV2, whose networks begin with this layer."""
    layer = keras.layers.Normalization(mean=[20.0, 50.0], variance=[4.0, 100.0])
    model = _with_one_pixel_pools(layer, channels=2)
    export(model, tmp_path / "checked.onnx", format="onnx")
    names = ["checked.onnx"]
    if "onnx" in FORMATS:
        model.export(tmp_path / "model.onnx", "onnx", verbose=False)
        names.append("model.onnx")
    pixels = np.full((1, 33, 40, 2), (26.0, 20.0), "float32")
    expected = [(26 - 20) / 2, (20 - 50) / 10]
    for name in names:
        found = _onnx(tmp_path / name)(pixels)
        np.testing.assert_allclose(found[0, 16, 16], expected, atol=1e-4)
    np.testing.assert_allclose(model.predict_on_batch(pixels)[0, 16, 16], expected, atol=1e-4)


@pytest.mark.gate
@pytest.mark.skipif("onnx" not in FORMATS, reason="Keras writes no ONNX file on this backend")
def test_layer_normalization_is_exported_to_onnx(tmp_path):
    """As in ConvNeXt."""
    model = _with_one_pixel_pools(keras.layers.LayerNormalization(epsilon=0.0), channels=3)
    model.export(tmp_path / "model.onnx", "onnx", verbose=False)
    found = _onnx(tmp_path / "model.onnx")(np.full((2, 33, 40, 3), (1.0, 2.0, 6.0), "float32"))
    deviation = np.sqrt(((1 - 3) ** 2 + (2 - 3) ** 2 + (6 - 3) ** 2) / 3)
    expected = [(1 - 3) / deviation, (2 - 3) / deviation]
    np.testing.assert_allclose(found[1, 16, 16], expected, atol=1e-4)
