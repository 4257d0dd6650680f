"""`keras-fcn export`; what its files compute is tested in `tests/export`."""

import re

import pytest
from cli.command_line import NARROW, error_of
from helpers import randomize, write_pairs

from keras_fcn import FCN32s
from keras_fcn.cli import main
from keras_fcn.export import ExportedModel
from keras_fcn.label_spaces import generic


@pytest.fixture
def model(tmp_path):
    model = FCN32s(3, **NARROW, padding="same", label_space=generic(3, 255))
    randomize(model, seed=1)
    model.save(tmp_path / "model.keras")
    return str(tmp_path / "model.keras")


@pytest.mark.any_backend
def test_a_wrong_suffix_and_wrong_labels_are_one_line(model, tmp_path, capsys):
    command = ["export", model, "--format", "litert", "--out", str(tmp_path / "fcn.onnx")]
    assert main(command) == 1
    assert "must end in .tflite for litert" in error_of(capsys)
    images, _ = write_pairs(tmp_path / "data", "a")
    (tmp_path / "empty").mkdir()
    assert main([*command, "--evaluate", str(images), str(tmp_path / "empty")]) == 1
    assert "`labels` must be a folder of" in error_of(capsys)
    assert not (tmp_path / "fcn.onnx").exists()


@pytest.mark.gate
def test_a_model_of_every_backend_is_exported(model, tmp_path, capsys):
    """On JAX and PyTorch, too: the process converts on TensorFlow."""
    folders = [str(folder) for folder in write_pairs(tmp_path / "data", "ab")]
    out = tmp_path / "fcn.onnx"
    command = ["export", model, "--format", "onnx", "--out", str(out), "--output", "labels"]
    assert main([*command, "--license", "MIT", "--evaluate", *folders]) == 0
    printed = capsys.readouterr().out
    assert f"Exported: {out}, {out.stat().st_size / 1e6:.1f} MB" in printed
    assert "at 1x1, 2 images of 37x45, 64x96, 23x58:" in printed
    scores = re.search(r"mean IoU on 2 images: ([\d.]+), of the model ([\d.]+)", printed)
    assert float(scores[1]) == pytest.approx(float(scores[2]), abs=2e-3)
    assert ExportedModel(out).metadata.license == "MIT"
