"""`weights="hf://owner/repo/file@revision"`: every format, by the models and by `open_model`."""

import hashlib

import hub_server
import numpy as np
import pytest
from caffe import npz_arrays, paper_layers, write_caffemodel
from helpers import NARROW_FILTERS, assert_equal_weights, randomize, variables_as_numpy

from keras_fcn import FCN8s, MultimodalFCN32s
from keras_fcn.training import Recipe
from keras_fcn.training.trained import open_model
from keras_fcn.weights import diagnose, load

pytestmark = pytest.mark.any_backend

NARROW = {"fc_units": 4, "filters": NARROW_FILTERS}


@pytest.fixture(scope="module")
def source():
    source = FCN8s(21, padding="same", **NARROW)
    randomize(source, seed=3)
    return source


@pytest.fixture(scope="module")
def server(source, tmp_path_factory):
    """A Hub whose repository `owner/repo` holds the source in several formats."""
    folder = tmp_path_factory.mktemp("hub")
    source.save(folder / "net.keras")
    source.save_weights(folder / "net.weights.h5")
    layers = paper_layers(variables_as_numpy(source))
    write_caffemodel(folder / "net.caffemodel", layers)
    np.savez(folder / "net.npz", **npz_arrays(layers))
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    with hub_server.hub_of_this_process(folder / "cache") as server:
        server.repository("owner/repo").commit({**files, "net.bin": b"pickle"})
        yield server


def commit_of(server):
    return server.repository("owner/repo").branches["main"]


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5", ".caffemodel", ".npz"])
def test_a_model_loads_every_format(server, source, suffix):
    address = f"hf://owner/repo/net{suffix}@{commit_of(server)}"
    model = FCN8s(21, padding="same", weights=address, **NARROW)
    assert_equal_weights(model, source)


def test_a_checksum_that_differs_leaves_the_model_as_it_was(server):
    content = server.repository("owner/repo").commits[commit_of(server)]["net.npz"]
    model = FCN8s(21, padding="same", **NARROW)
    before = variables_as_numpy(model)
    address = "hf://owner/repo/net.npz@main#sha256="
    with pytest.raises(OSError, match="must have the SHA-256 checksum"):
        load(model, f"{address}{'0' * 64}")
    for name, values in variables_as_numpy(model).items():
        np.testing.assert_array_equal(values, before[name])
    load(model, address + hashlib.sha256(content).hexdigest())
    assert not [finding for finding in diagnose(model) if finding.problem == "random"]


def test_another_format_is_refused_before_the_download(server):
    asked = len(server.asked)
    with pytest.raises(ValueError, match=r"must be a file that ends in one of \.weights\.h5"):
        FCN8s(21, weights="hf://owner/repo/net.bin@main", **NARROW)
    assert len(server.asked) == asked


def test_a_file_that_does_not_fit_is_named_by_its_address(server):
    with pytest.raises(ValueError, match=r"hf://owner/repo/net\.keras@main"):
        load(FCN8s(21, fc_units=5, filters=NARROW_FILTERS), "hf://owner/repo/net.keras@main")


@pytest.mark.parametrize("name", ["net.keras", "net.caffemodel"])
def test_open_model_warns_once_without_a_revision(server, source, name, recwarn):
    model = open_model(f"hf://owner/repo/{name}").model
    assert_equal_weights(model, source)
    (warning,) = [each for each in recwarn if "has no revision" in str(each.message)]
    assert f"hf://owner/repo/{name}@{commit_of(server)}" in str(warning.message)


def test_a_network_of_several_modalities_takes_a_stream_of_the_hub(server, tmp_path):
    colour = MultimodalFCN32s(4, modalities=("image",), **NARROW)
    randomize(colour, seed=4)
    colour.save_weights(tmp_path / "colour.weights.h5")
    server.repository("owner/colour").commit(
        {"c.weights.h5": (tmp_path / "colour.weights.h5").read_bytes()}
    )
    address = "hf://owner/colour/c.weights.h5@main"
    model = MultimodalFCN32s(4, modalities=("image",), weights=address, **NARROW)
    assert_equal_weights(model, colour)


def test_a_recipe_is_stored_with_the_commit(server):
    recipe = Recipe(weights="hf://owner/repo/net.npz@main", data="camvid")
    stored = recipe.with_absolute_paths().weights
    assert stored == f"hf://owner/repo/net.npz@{commit_of(server)}"
