"""Exported files as models of `keras-fcn predict` and `keras-fcn evaluate`."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from cli.command_line import error_of, predict
from helpers import write_pairs
from PIL import Image

from keras_fcn import FCN32s
from keras_fcn.cli import main
from keras_fcn.export import ExportedModel, open_model
from keras_fcn.inference import predict_label_map

pytestmark = pytest.mark.any_backend


@pytest.fixture(scope="module")
def pair(narrow, converted):
    """A model and its ONNX file of logits."""
    model = narrow(FCN32s, padding="same")
    path, result = converted(model, "onnx")
    assert max(result["differences"].values()) <= 1e-4
    return model, path


def photo_of(size=(31, 42)):
    return np.random.default_rng(0).integers(0, 256, (*size, 3), "uint8")


class TestCommands:
    def test_predict_writes_the_models_label_map(self, pair, tmp_path):
        model, path = pair
        expected = predict_label_map(model, photo_of())
        assert len(np.unique(expected)) > 1
        found = predict(path, photo_of(), tmp_path)
        assert (found != expected).mean() < 1e-3  # A pixel may lie between two classes.

    def test_evaluate_scores_as_the_model(self, pair, tmp_path, capsys):
        model, path = pair
        images, labels = write_pairs(tmp_path / "data", "ab")
        folders = ["--images", str(images), "--labels", str(labels), "--json"]
        assert main(["evaluate", str(path), *folders]) == 0
        found = json.loads(capsys.readouterr().out)
        expected = np.zeros((3, 3), int)
        for image in sorted(images.iterdir()):
            predicted = predict_label_map(model, np.asarray(Image.open(image)))
            label_map = np.asarray(Image.open(labels / image.name))
            valid = label_map != 255
            np.add.at(expected, (label_map[valid], predicted[valid]), 1)
        np.testing.assert_allclose(found["confusion_matrix"], expected, atol=2)
        assert list(found["class_iou"]) == ["road", "a car", "tree"]

    def test_a_file_of_labels_has_no_probabilities(self, pair, tmp_path, capsys, monkeypatch):
        _, path = pair
        photo = str(tmp_path / "photo.png")
        Image.fromarray(photo_of()).save(photo)
        model = ExportedModel(path)
        object.__setattr__(model.metadata, "output", "labels")
        monkeypatch.setattr("keras_fcn.export.exported.ExportedModel", lambda name: model)
        assert main(["predict", str(path), photo, "--confidence"]) == 1
        assert "MODEL must return logits or probabilities" in error_of(capsys)


@pytest.mark.gate
def test_a_saved_model_prints_nothing_of_tensorflows_start(pair, tmp_path):
    """TensorFlow runs it on every backend; a damaged one ends after TensorFlow's start."""
    folder = tmp_path / "served"
    (folder / "assets.extra").mkdir(parents=True)
    metadata = ExportedModel(pair[1]).metadata.as_strings()
    (folder / "assets.extra" / "keras_fcn.json").write_text(json.dumps(metadata))
    (folder / "saved_model.pb").write_bytes(b"damaged")
    Image.fromarray(photo_of()).save(tmp_path / "photo.png")
    command = ["predict", str(folder), str(tmp_path / "photo.png"), "--out", str(tmp_path / "out")]
    environment = {key: value for key, value in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-m", "keras_fcn", *command],
        capture_output=True,
        text=True,
        env=environment | {"KERAS_BACKEND": "jax"},
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"keras-fcn: error: {folder} must be a whole file")


def test_a_file_of_one_size_names_it(pair):
    model = ExportedModel(pair[1])
    object.__setattr__(model.metadata, "size", (8, 9))
    with pytest.raises(ValueError, match=r"`image` must be 8x9 pixels.*Received: 9x8"):
        predict_label_map(model, photo_of((9, 8)))


def test_damaged_and_foreign_files_are_refused(pair, tmp_path):
    import onnx

    _, path = pair
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"damaged\.onnx must be a whole file written by.*[^.]\.$"):
        open_model(damaged)
    foreign = onnx.load(path)
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "foreign.onnx")
    with pytest.raises(ValueError, match="its metadata lack class_names, network"):
        open_model(tmp_path / "foreign.onnx")
    (tmp_path / "foreign.tflite").write_bytes(b"TFL3")
    with pytest.raises(ValueError, match=r"no archive with keras_fcn\.json follows"):
        open_model(tmp_path / "foreign.tflite")
    (tmp_path / "openvino").mkdir()
    (tmp_path / "openvino" / "model.xml").write_text("<net")
    with pytest.raises(
        ValueError, match=r"written by keras_fcn\.export\. Received: Unable to read"
    ):
        open_model(tmp_path / "openvino")
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "saved_model.pb").touch()
    with pytest.raises(ValueError, match=r"it has no assets\.extra"):
        open_model(tmp_path / "served")
    with pytest.raises(FileNotFoundError, match=r"`path` must be a \.onnx or \.tflite file"):
        ExportedModel(tmp_path / "absent.onnx")
    with pytest.raises(ValueError, match="--at-once must be used with"):
        open_model(path, at_once=True)
    with pytest.raises(ValueError, match="--precision must be used with a model that is not exp"):
        open_model(path, precision="float32")
