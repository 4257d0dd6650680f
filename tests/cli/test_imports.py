import os
import subprocess
import sys

import numpy as np
import pytest
from cli.command_line import NARROW, npz_arrays
from PIL import Image

from keras_fcn import FCN8s

COMMANDS = """
import functools
import gc
import sys

from keras_fcn.cli import main

folder, *unwanted = sys.argv[1:]


def run(*command):
    assert main(command) == 0
    imported = set(unwanted) & set(sys.modules)
    assert not imported, f"{command[0]} imported {imported}."


image, model = f"{folder}/images/a.png", f"{folder}/model.keras"
run("predict", model, image, "--out", f"{folder}/predictions")
# The modules are not searched for garbage again, and what a caller of `main` has made is.
assert gc.isenabled()
frozen = gc.get_freeze_count()
assert frozen > 50_000, frozen
run("evaluate", model, "--images", f"{folder}/images", "--labels", f"{folder}/labels")
assert gc.get_freeze_count() <= frozen

import keras
import keras_fcn
from keras_fcn.training.objective import MODELS

# The command makes models of VGG-16's own width.
MODELS["fcn8s"] = functools.partial(keras_fcn.FCN8s, filters=(8, 8, 8, 16, 16))
# Keras imports TensorFlow when it writes a .keras file.
new = f"{folder}/new.weights.h5"
run("convert", f"{folder}/model.npz", new, "--num-classes", "3", "--fc-units", "4")
keras_fcn.diagnose(keras.saving.load_model(model))
assert not set(unwanted) & set(sys.modules), "diagnose"
"""


@pytest.fixture
def folder(tmp_path):
    """A model, also in the format of wkentaro/fcn, and an image with its label map."""
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    Image.new("RGB", (9, 7)).save(tmp_path / "images" / "a.png")
    Image.fromarray(np.ones((7, 9), "uint8")).save(tmp_path / "labels" / "a.png")
    model = FCN8s(3, **NARROW, data_format="channels_last")
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "model.npz", **npz_arrays(model))
    return tmp_path


@pytest.mark.gate
@pytest.mark.any_backend
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_commands_that_only_read_files_do_not_import_tensorflow(backend, folder):
    unwanted = ["tensorflow", "tensorflow_datasets"]
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, str(folder), *unwanted],
        env={**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
