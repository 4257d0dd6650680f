"""Commands take files of the Hugging Face Hub as MODEL and as --weights."""

import hub_server
import numpy as np
import pytest
from cli.command_line import error_of, predict, train

from keras_fcn.export import open_model
from keras_fcn.training.run import Run

pytestmark = pytest.mark.any_backend

IGNORED = ("--ignore-class", "255")


@pytest.fixture
def server(tmp_path):
    with hub_server.hub_of_this_process(tmp_path / "cache") as server:
        yield server


def test_predict_and_an_address_without_a_file(server, caffemodel, tmp_path, capsys):
    with open(caffemodel.path, "rb") as file:
        server.repository("owner/repo").commit({"net.caffemodel": file.read()})
    address = "hf://owner/repo/net.caffemodel@main"
    label_map = predict(address, caffemodel.photo, tmp_path)
    np.testing.assert_array_equal(label_map, caffemodel.label_map)
    capsys.readouterr()
    with pytest.raises(AssertionError):
        predict("hf://owner/repo/other.caffemodel@main", caffemodel.photo, tmp_path)
    assert "owner/repo has no such file at revision main" in error_of(capsys)


@pytest.mark.usefixtures("three_layers")
def test_training_stores_the_commit_of_its_weights(server, data):
    assert train(data, *IGNORED) == 0
    commit = server.repository("owner/repo").commit(
        {"best.keras": (data / "run" / "best.keras").read_bytes()}
    )
    weights = "--weights", "hf://owner/repo/best.keras@main"
    assert train(data, *IGNORED, *weights, out="tuned") == 0
    recipe = Run(data / "tuned").recipe()[1]
    assert recipe.weights == f"hf://owner/repo/best.keras@{commit}"


def test_an_exported_file_goes_to_its_runtime(server):
    server.repository("owner/repo").commit({"net.onnx": b"no graph"})
    with pytest.raises(ValueError, match=r"net\.onnx must be a whole file written by keras_fcn\."):
        open_model("hf://owner/repo/net.onnx@main")
