"""`keras-fcn export`; what its files compute is tested in `tests/export`."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest
from cli.command_line import NARROW, error_of
from helpers import randomize, write_pairs
from PIL import Image

from keras_fcn import FCN32s
from keras_fcn.cli import main
from keras_fcn.export import Exported, ExportedModel
from keras_fcn.export.metadata import Metadata
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


@pytest.mark.any_backend
def test_an_existing_file_is_not_overwritten(tmp_path, capsys):
    (tmp_path / "keep.onnx").write_bytes(b"kept")
    # Found before the model is opened, which is not there.
    command = ["export", str(tmp_path / "absent"), "--format", "onnx"]
    assert main([*command, "--out", str(tmp_path / "keep.onnx")]) == 1
    assert "--out must be a new file. Received: " in error_of(capsys)
    assert (tmp_path / "keep.onnx").read_bytes() == b"kept"


def mean_iou_of(predictions, label_maps):
    """Mean IoU as sets of pixels, without this package; 255 is ignored."""
    ious = []
    for label in range(3):
        found = (predictions == label) & (label_maps != 255)
        true = label_maps == label
        if (found | true).any():
            ious.append((found & true).sum() / (found | true).sum())
    return np.mean(ious)


@pytest.mark.any_backend
def test_evaluate_compares_file_and_model_in_float32(model, tmp_path, capsys, monkeypatch):
    """Another network in place of the file, so that the scores differ."""
    file = FCN32s(3, **NARROW, padding="same", label_space=generic(3, 255))
    randomize(file, seed=2)
    in_float32 = keras.saving.load_model(model)
    mixed = FCN32s(3, **NARROW, padding="same", label_space=generic(3, 255), dtype="mixed_bfloat16")
    randomize(mixed, seed=1)
    mixed.save(model)
    monkeypatch.setattr("keras_fcn.export.ExportedModel", lambda path: file)
    written = Exported(Path(model), Metadata.of(file, "logits"), "Runtime 1.0", {"1x1": 0.5})
    monkeypatch.setattr("keras_fcn.export.export", lambda *_, **__: written)
    folders = write_pairs(tmp_path / "data", "ab", size=(70, 90))
    whole = [tmp_path / "images", tmp_path / "labels"]
    for folder, inner in zip(whole, folders, strict=True):
        folder.mkdir()
        (folder / "oslo").symlink_to(inner)
    command = ["export", model, "--format", "onnx", "--out", str(tmp_path / "fcn.onnx")]
    assert main([*command, "--evaluate", *map(str, whole)]) == 0

    images, label_maps = (
        np.stack([np.asarray(Image.open(folder / f"{name}.png")) for name in "ab"])
        for folder in folders
    )
    of_file, of_model = (
        np.asarray(each.predict_on_batch(images.astype("float32"))).argmax(-1)
        for each in (file, in_float32)
    )
    scores = [mean_iou_of(predictions, label_maps) for predictions in (of_file, of_model)]
    equal = (of_file == of_model).mean()
    assert len({*scores, equal, 0, 1}) == 5
    printed = capsys.readouterr().out
    assert f"mean IoU on 2 images: {scores[0]:.4f}, of the model {scores[1]:.4f}\n" in printed
    assert f"  equal labels on these images: {equal:.2%}\n" in printed


@pytest.mark.gate
def test_a_model_of_every_backend_is_exported(model, tmp_path, capsys):
    """On JAX and PyTorch, too: the process converts on TensorFlow."""
    folders = [str(folder) for folder in write_pairs(tmp_path / "data", "ab")]
    out = tmp_path / "fcn.onnx"
    command = ["export", model, "--format", "onnx", "--out", str(out), "--output", "labels"]
    command += ["--quantize", "float16"]
    assert main([*command, "--license", "MIT", "--evaluate", *folders]) == 0
    printed = capsys.readouterr().out
    assert f"Exported: {out}, {out.stat().st_size / 1e6:.1f} MB" in printed
    assert "at 1x1, 2 images of 37x45, 64x96, 23x58:" in printed
    scores = re.search(r"mean IoU on 2 images: ([\d.]+), of the model ([\d.]+)", printed)
    assert float(scores[1]) == pytest.approx(float(scores[2]), abs=2e-3)
    assert "equal labels on these images: " in printed
    assert ExportedModel(out).metadata.license == "MIT"
