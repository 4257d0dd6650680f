"""Each format as its own library reads it, with NumPy from the model's logits."""

import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from keras_fcn import FCN8s, FCN32s
from keras_fcn.export import ExportedModel, child
from keras_fcn.export.formats import find_format
from keras_fcn.export.metadata import Metadata

pytestmark = pytest.mark.any_backend


def images_of(size, count=1, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, (count, *size, 3)).astype("float32")


def class_names_of(path):
    """The names in a file, read without this package."""
    if path.suffix == ".onnx":
        import onnx

        properties = {each.key: each.value for each in onnx.load(path).metadata_props}
        return json.loads(properties["class_names"])
    if path.suffix == ".tflite":
        return zipfile.ZipFile(path).read("labels.txt").decode().splitlines()
    if (path / "model.xml").exists():
        import openvino

        model = openvino.Core().read_model(path / "model.xml")
        return json.loads(model.get_rt_info(["keras_fcn", "class_names"]).value)
    return json.loads(
        json.loads((path / "assets.extra" / "keras_fcn.json").read_text())["class_names"]
    )


def outputs_of(path, images):
    """The output of a file in its runtime, called without this package."""
    if path.suffix == ".onnx":
        import onnxruntime

        return onnxruntime.InferenceSession(path).run(None, {"image": images})[0]
    if path.suffix == ".tflite":
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(str(path))
        index = interpreter.get_input_details()[0]["index"]
        interpreter.resize_tensor_input(index, images.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(index, images)
        interpreter.invoke()
        return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    if (path / "model.xml").exists():
        import openvino

        options = {"INFERENCE_PRECISION_HINT": "f32"}
        return openvino.compile_model(path / "model.xml", "CPU", options)(images)[0]
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    (output,) = loaded.serve(images).values()
    return output.numpy()


def assert_is_exported(path, result, model, output, format):
    assert find_format(path) == (format, path)
    assert max(result["differences"].values()) <= 1e-4
    assert list(result["differences"]) == ["1x1", "2 images of 37x45", "64x96", "23x58"]
    assert class_names_of(path) == ["road", "a car", "tree"]
    images = images_of((31, 50), count=2)
    logits = model.predict_on_batch(images)
    found = outputs_of(path, images)
    if output == "labels":
        clear = np.ptp(np.sort(logits, -1)[..., -2:], axis=-1) > 1e-3 * np.abs(logits).max()
        assert clear.mean() > 0.9
        assert len(np.unique(found)) > 1
        np.testing.assert_array_equal(found[clear], logits.argmax(-1)[clear])
        return
    if output == "probabilities":
        logits = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(found, logits, atol=1e-4 * np.abs(logits).max())


@pytest.mark.gate
def test_an_onnx_file_returns_the_models_probabilities(narrow, converted):
    model = narrow(FCN32s, padding="same")
    path, result = converted(model, "onnx", "probabilities", license="MIT")
    assert_is_exported(path, result, model, "probabilities", "onnx")
    exported = ExportedModel(path)
    assert exported.metadata.license == "MIT"
    assert exported.label_space == model.label_space
    import onnx

    axes = [axis.dim_param for axis in onnx.load(path).graph.input[0].type.tensor_type.shape.dim]
    assert axes == ["batch", "height", "width", ""]


PAPER, SAME = {"padding": "paper"}, {"padding": "same"}


@pytest.mark.parametrize(
    ("format", "output", "network", "options"),
    [
        pytest.param("saved_model", "labels", FCN32s, PAPER, marks=pytest.mark.gate),
        pytest.param("onnx", "labels", FCN32s, PAPER, marks=pytest.mark.gate),
        pytest.param("openvino", "logits", FCN32s, SAME, marks=pytest.mark.gate),
        pytest.param("litert", "labels", FCN32s, SAME, marks=pytest.mark.gate),
        pytest.param("onnx", "logits", FCN8s, PAPER, marks=pytest.mark.slow),
        pytest.param("openvino", "labels", FCN8s, PAPER, marks=pytest.mark.slow),
        pytest.param("litert", "probabilities", FCN8s, PAPER, marks=pytest.mark.slow),
        pytest.param(
            *("litert", "logits", FCN8s, SAME | {"input_upsampling": 2}), marks=pytest.mark.slow
        ),
    ],
)
def test_every_format_computes_what_the_model_does(
    format, output, network, options, narrow, converted
):
    model = narrow(network, **options)
    path, result = converted(model, format, output)
    assert_is_exported(path, result, model, output, format)
    if format == "saved_model":
        (weights,) = (path / "variables").glob("variables.data*")
        assert weights.stat().st_size < 1.5 * 4 * model.count_params()  # Each float32 once.


@pytest.mark.slow
def test_channels_first_and_one_size(narrow, converted):
    model = narrow(FCN32s, padding="same", data_format="channels_first")
    path, result = converted(model, "onnx", "labels", size=(33, 20))
    assert list(result["differences"]) == ["33x20", "2 images of 33x20"]
    exported, images = ExportedModel(path), images_of((33, 20)).transpose(0, 3, 1, 2)
    scores = exported.predict_on_batch(images)
    assert scores.shape == (1, 3, 33, 20)
    np.testing.assert_array_equal(scores.argmax(1), model.predict_on_batch(images).argmax(1))
    with pytest.raises(ValueError, match=r"must be 33x20 pixels.*Received: 20x33"):
        exported.predict_on_batch(images.transpose(0, 1, 3, 2))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("format", "quantization"), [("onnx", "float16"), ("onnx", "int8"), ("litert", "int8")]
)
def test_a_quantized_file_is_smaller_and_agrees_on_most_pixels(
    format, quantization, narrow, converted, tmp_path
):
    model = narrow(FCN32s, padding="same")
    photos = []
    for number in range(3):
        photos.append(tmp_path / f"{number}.png")
        Image.fromarray(images_of((40, 52), seed=number)[0].astype("uint8")).save(photos[-1])
    others = {"size": (40, 52), "batch_size": 1} if format == "litert" else {}
    path, result = converted(model, format, calibration=photos, quantization=quantization, **others)
    assert max(result["float32_differences"].values()) <= 1e-4
    assert 1e-6 < max(result["differences"].values()) < 0.5
    assert result["agreement"] > 0.9
    if format == "onnx":
        import onnx

        kinds = {
            onnx.TensorProto.DataType.Name(w.data_type) for w in onnx.load(path).graph.initializer
        }
        assert {"float16": "FLOAT16", "int8": "INT8"}[quantization] in kinds


@pytest.mark.gate
def test_calibration_keeps_the_colours_where_a_fourth_channel_is_0(tmp_path):
    Image.new("RGBA", (8, 6), (200, 100, 50, 0)).save(tmp_path / "a.png")
    metadata = Metadata(
        "FCN8s", "logits", ("a", "b"), ((0, 0, 0),) * 2, num_channels=4, size=(3, 4)
    )
    (images,) = child.calibration_images((tmp_path / "a.png",), metadata)
    np.testing.assert_array_equal(images, np.full((1, 3, 4, 4), (200, 100, 50, 0)))


def test_other_folders_and_files_are_no_exports(tmp_path):
    (tmp_path / "model.pth").touch()
    (tmp_path / "model.xml").mkdir()
    assert find_format(tmp_path) is None
    assert find_format(tmp_path / "model.pth") is None
    assert find_format(tmp_path / "absent.onnx") is None
