"""`export`: what it refuses, its process, and that no file is left where something failed."""

import os

import pytest
from PIL import Image

from keras_fcn import FCN32s, MultimodalFCN32s, MultitaskFCN16s
from keras_fcn.export import export, exporting, published_license

SMALL = {"filters": (4, 4, 4, 4, 4), "fc_units": 4, "padding": "same"}


@pytest.fixture
def model():
    return FCN32s(2, **SMALL)


def temporary_files(folder):
    return [path.name for path in folder.iterdir() if path.name != "old.onnx"]


@pytest.mark.any_backend
class TestArguments:
    @pytest.mark.parametrize(
        ("name", "options", "message"),
        [
            ("a.onnx", {"format": "caffe"}, "`format` must be one of saved_model, onnx"),
            ("a.onnx", {"output": "scores"}, "`output` must be one of logits, prob"),
            ("a.pb", {}, r"`path` must end in \.onnx for onnx\. Received: .*a\.pb"),
            ("a.onnx", {"size": (3, 0)}, "`size` must be two integers"),
            ("a.onnx", {"size": (3,)}, "`size` must be two integers"),
            ("a.onnx", {"quantize": "int4"}, "`quantize` must be None or float16 or int8"),
            ("a", {"format": "openvino", "quantize": "int8"}, "must be None or float16 for openv"),
            ("a", {"format": "saved_model", "quantize": "float16"}, "must be None for saved_model"),
            ("a.onnx", {"quantize": "int8"}, "`calibration` must be a folder of images for"),
            ("a.onnx", {"calibration": "x"}, "`calibration` must be .* None otherwise"),
            ("folder", {"format": "openvino"}, "`path` must be a new folder for openvino"),
        ],
    )
    def test_a_wrong_argument_is_named(self, name, options, message, model, tmp_path):
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "of_somebody").touch()
        with pytest.raises(ValueError, match=message):
            export(model, tmp_path / name, **{"format": "onnx", **options})
        assert temporary_files(tmp_path) == ["folder"]

    def test_the_folders_must_exist(self, model, tmp_path):
        with pytest.raises(FileNotFoundError, match="`path` must be in an existing folder"):
            export(model, tmp_path / "absent" / "a.onnx", format="onnx")
        int8 = {"format": "onnx", "quantize": "int8"}
        with pytest.raises(FileNotFoundError, match="`calibration` must be a folder of images"):
            export(model, tmp_path / "a.onnx", calibration=tmp_path / "absent", **int8)
        with pytest.raises(ValueError, match="a folder with none"):
            export(model, tmp_path / "a.onnx", calibration=tmp_path, **int8)
        assert temporary_files(tmp_path) == []

    def test_a_calibration_image_must_fit_the_model(self, model, tmp_path, monkeypatch):
        monkeypatch.setattr(exporting, "_in_child", lambda request: pytest.fail("converted"))
        image = tmp_path / "images" / "a.png"
        image.parent.mkdir()
        int8 = {"format": "onnx", "quantize": "int8", "calibration": image.parent}
        Image.effect_noise((9, 8), 9).save(image)
        image.write_bytes(image.read_bytes()[:60])
        with pytest.raises(ValueError, match=rf"^{image} cannot be read as an image"):
            export(model, tmp_path / "a.onnx", **int8)
        grey = FCN32s(2, **SMALL, input_shape=(None, None, 1))
        Image.new("RGB", (9, 8)).save(image)
        with pytest.raises(ValueError, match=rf"^{image} must hold the 1 channel"):
            export(grey, tmp_path / "a.onnx", **int8)
        assert temporary_files(tmp_path) == ["images"]

    def test_a_model_must_return_what_is_asked_for(self, tmp_path):
        softmax = FCN32s(2, **SMALL, classifier_activation="softmax")
        with pytest.raises(
            ValueError, match="must be 'probabilities' or 'labels' for a model with"
        ):
            export(softmax, tmp_path / "a.onnx", format="onnx")
        tasks = MultitaskFCN16s({"a": 2, "b": 3}, filters=SMALL["filters"], fc_units=4)
        with pytest.raises(ValueError, match=r"Received: MultitaskFCN16s\. `as_fcn` returns"):
            export(tasks, tmp_path / "a.onnx", format="onnx")

        with pytest.raises(ValueError, match=r"Received: a Functional\. .*`as_fcn` of"):
            export(tasks.of_task("a"), tmp_path / "a.onnx", format="onnx")
        inputs = MultimodalFCN32s(2, filters=SMALL["filters"], fc_units=4)
        with pytest.raises(ValueError, match=r"Received: MultimodalFCN32s\. Build it with stacked"):
            export(inputs, tmp_path / "a.onnx", format="onnx")

    def test_a_model_for_images_of_one_size_or_width_takes_no_other(self, tmp_path, monkeypatch):
        def converted(request):
            request.target.touch()
            return {"runtime": "none", "differences": {}}

        monkeypatch.setattr(exporting, "_in_child", converted)
        options = {"format": "onnx"}
        model = FCN32s(2, **SMALL, input_shape=(3, 40, 50), data_format="channels_first")
        assert export(model, tmp_path / "a.onnx", **options).metadata.size == (40, 50)
        with pytest.raises(ValueError, match=r"`size` must be \(40, 50\), as the `input_shape`"):
            export(model, tmp_path / "a.onnx", size=(50, 40), **options)
        model = FCN32s(2, **SMALL, input_shape=(None, 50, 3))
        assert export(model, tmp_path / "a.onnx", size=(7, 50), **options).metadata.size == (7, 50)
        for size in (None, (50, 7)):
            with pytest.raises(ValueError, match=r"`size` must be \(HEIGHT, 50\), as the"):
                export(model, tmp_path / "a.onnx", size=size, **options)

    def test_the_license_of_published_weights(self):
        assert published_license("pascal_voc") == "unrestricted use"
        assert published_license("my_run") is None


@pytest.mark.any_backend
@pytest.mark.skipif(os.name != "posix", reason="the fake interpreter is a shell script")
@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 1; echo 'no room'; kill -9 $$", "with signal 9, .*memory .* line: no room$"),
        ("exit 3", r"The conversion to onnx ended with exit status 3\.$"),
        (
            'echo \'{"error": "2 is not 3"}\' > $4',
            r"to onnx failed and left no file: 2 is not 3\.$",
        ),
    ],
)
def test_the_end_of_the_process_is_one_sentence(script, message, model, tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o700)
    target = tmp_path / "out" / "old.onnx"
    target.parent.mkdir()
    target.write_text("as it was")
    monkeypatch.setattr(exporting.sys, "executable", str(python))
    with pytest.raises((ChildProcessError, ValueError), match=message):
        export(model, target, format="onnx")
    assert target.read_text() == "as it was"
    assert temporary_files(target.parent) == []
