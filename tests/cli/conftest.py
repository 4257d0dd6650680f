import dataclasses

import keras
import numpy as np
import pytest
from caffe import paper_layers, write_caffemodel
from cli.command_line import NARROW
from helpers import randomize, variables_as_numpy, write_pairs
from training.three_layers import ThreeLayers

from keras_fcn import FCN8s
from keras_fcn.inference import predict_label_map
from keras_fcn.training.objective import MODELS


@pytest.fixture
def data(tmp_path):
    """Folders of four small images and label maps of 3 classes, with 255 in a corner."""
    write_pairs(tmp_path)
    return tmp_path


@pytest.fixture
def three_layers(monkeypatch):
    """`fcn32s` is a network of three layers, where it does not matter what is trained."""
    monkeypatch.setitem(MODELS, "fcn32s", ThreeLayers)


@dataclasses.dataclass
class Caffemodel:
    """A file, the network that it was written from, and what that predicts for a photo."""

    path: str
    source: keras.Model
    photo: np.ndarray
    label_map: np.ndarray


@pytest.fixture(scope="module")
def caffemodel(tmp_path_factory):
    source = FCN8s(21, **NARROW)
    randomize(source, seed=8)
    path = tmp_path_factory.mktemp("caffe") / "net.caffemodel"
    write_caffemodel(path, paper_layers(variables_as_numpy(source)))
    photo = np.random.default_rng(0).integers(0, 256, (30, 41, 3), "uint8")
    return Caffemodel(str(path), source, photo, predict_label_map(source, photo))
