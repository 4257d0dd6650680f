import copy
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from helpers import NARROW_FILTERS, randomize, variables_as_numpy

import keras_fcn
from keras_fcn import FCN8s

TESTS = Path(__file__).parents[1]
IMAGE = np.random.default_rng(0).integers(0, 256, (1, 21, 34, 3)).astype("float32")
SMALL = {"num_classes": 4, "filters": NARROW_FILTERS, "fc_units": 8, "padding": "same"}
BACKENDS = ("tensorflow", "jax", "torch")
WRITER = """
import sys
sys.path[:0] = {folders!r}
from test_saving import write_files
write_files(".")
"""


def logits_of(model):
    # Not compiled, JAX would compile each of some hundred operations by itself.
    call = model.predict_on_batch if keras.backend.backend() == "jax" else model
    return keras.ops.convert_to_numpy(call(IMAGE))


def write_files(folder):
    """Saves a model in both formats, and its logits."""
    model = FCN8s(**SMALL, mean=(1, 2, 3), dtype="float32")
    randomize(model, seed=3)
    model.save(f"{folder}/model.keras")
    model.save_weights(f"{folder}/model.weights.h5")
    np.save(f"{folder}/logits.npy", logits_of(model))


def assert_files_give_their_logits(folder):
    expected = np.load(folder / "logits.npy")
    assert np.ptp(expected) > 0.1
    tolerance = {"rtol": 1e-4, "atol": 1e-5 * np.abs(expected).max()}

    loaded = keras.saving.load_model(folder / "model.keras")
    assert type(loaded) is FCN8s
    np.testing.assert_allclose(logits_of(loaded), expected, **tolerance)

    for file in ("model.weights.h5", "model.keras"):
        built = FCN8s(**SMALL, mean=(1, 2, 3), weights=folder / file)
        np.testing.assert_allclose(logits_of(built), expected, **tolerance)
    built = FCN8s(**SMALL, mean=(1, 2, 3))
    built.load_weights(folder / "model.weights.h5")
    np.testing.assert_allclose(logits_of(built), expected, **tolerance)


def test_files_give_the_same_logits(tmp_path):
    write_files(tmp_path)
    assert_files_give_their_logits(tmp_path)


@pytest.mark.gate
def test_files_of_another_backend_give_the_same_logits_here(tmp_path):
    # TensorFlow reads JAX's, JAX reads PyTorch's, PyTorch reads TensorFlow's.
    here = BACKENDS.index(keras.backend.backend())
    writer = BACKENDS[(here + 1) % len(BACKENDS)]
    if importlib.util.find_spec(writer) is None:
        pytest.skip(f"{writer} is not installed")
    script = WRITER.format(folders=[str(TESTS), str(TESTS / "models")])
    environment = {**os.environ, "KERAS_BACKEND": writer, "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True)
    assert_files_give_their_logits(tmp_path)


@pytest.mark.any_backend
@pytest.mark.parametrize("cls", [keras_fcn.FCN32s, keras_fcn.FCN16s, FCN8s])
def test_config_holds_every_argument(cls):
    arguments = {
        "num_classes": 3,
        "input_shape": (6, None, None),
        "padding": "same",
        "filters": (2, 3, 4, 5, 6),
        "fc_units": 5,
        "fc6_kernel_size": 3,
        "dropout_rate": 0.25,
        "trainable_upsampling": True,
        "skip_scales": (0.5, 0.25),
        "include_preprocessing": False,
        "mean": (1.0, 2.0, 3.0),
        "classifier_activation": "softmax",
        "data_format": "channels_first",
        "name": "mine",
    }
    model = cls(**arguments, dtype="mixed_bfloat16")
    copy = cls.from_config(model.get_config())
    assert copy.get_config() == model.get_config()
    config = copy.get_config()
    assert {name: config[name] for name in arguments} == arguments


@pytest.mark.parametrize("of", ["model", "file"])
def test_bfloat16_weights_are_read(of, tmp_path):
    bfloat16 = FCN8s(**SMALL, dtype="bfloat16")
    source = bfloat16
    if of == "file":
        source = tmp_path / "source.keras"
        bfloat16.save(source)
    model = FCN8s(**SMALL, weights=source)
    expected = variables_as_numpy(bfloat16)["block2_conv1/kernel"]
    assert expected.any()
    np.testing.assert_array_equal(variables_as_numpy(model)["block2_conv1/kernel"], expected)


def test_a_clone_computes_the_same():
    model = FCN8s(**SMALL)
    randomize(model, seed=1)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(logits_of(clone), logits_of(model))


def test_a_copy_keeps_what_a_clone_loses():
    """When a clone is an FCN, docs/guides/memory.md need not tell them apart."""
    model = FCN8s(**SMALL, gradient_checkpointing=True)
    assert copy.deepcopy(model).get_config() == model.get_config()
    assert not isinstance(keras.models.clone_model(model), FCN8s)


def test_a_compiled_model_comes_back_compiled(tmp_path):
    model = FCN8s(**SMALL)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras").compiled


IMPORT_ORDERS = {
    "keras_fcn first": "import keras_fcn; import keras",
    "a part of keras first": "import keras.layers; import keras_fcn; import keras",
}


# The third order is that of test_registration.py.
@pytest.mark.gate
@pytest.mark.any_backend
@pytest.mark.parametrize("order", IMPORT_ORDERS)
def test_a_fresh_process_loads_a_model_in_either_order_of_imports(order, tmp_path):
    FCN8s(**SMALL).save(tmp_path / "model.keras")
    script = IMPORT_ORDERS[order] + (
        "; model = keras.saving.load_model('model.keras'); print(type(model).__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "FCN8s"
