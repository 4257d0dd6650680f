import importlib.util
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from helpers import randomize

import keras_fcn
from keras_fcn import FCN8s

IMAGE = np.random.default_rng(0).integers(0, 256, (1, 21, 34, 3)).astype("float32")

WRITER = """
import sys
import numpy as np
import keras
sys.path.insert(0, {tests!r})
from helpers import randomize
from keras_fcn import FCN8s
model = FCN8s(num_classes=4, fc_units=8, padding="same", mean=(1, 2, 3), dtype="float32")
randomize(model, seed=3)
model.save("model.keras")
model.save_weights("model.weights.h5")
image = np.random.default_rng(0).integers(0, 256, (1, 21, 34, 3)).astype("float32")
np.save("logits.npy", keras.ops.convert_to_numpy(model(image)))
"""


def logits_of(model):
    return keras.ops.convert_to_numpy(model(IMAGE))


@pytest.mark.parametrize("writer", ["tensorflow", "jax", "torch"])
def test_files_of_every_backend_give_the_same_logits_here(writer, tmp_path):
    if importlib.util.find_spec(writer) is None:
        pytest.skip(f"{writer} is not installed")
    script = WRITER.format(tests=os.path.dirname(os.path.dirname(__file__)))
    environment = {**os.environ, "KERAS_BACKEND": writer, "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True)
    expected = np.load(tmp_path / "logits.npy")
    tolerance = {"rtol": 1e-4, "atol": 1e-5 * np.abs(expected).max()}

    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is FCN8s
    np.testing.assert_allclose(logits_of(loaded), expected, **tolerance)

    arguments = {"num_classes": 4, "fc_units": 8, "padding": "same", "mean": (1, 2, 3)}
    for file in ("model.weights.h5", "model.keras"):
        built = FCN8s(**arguments, weights=tmp_path / file)
        np.testing.assert_allclose(logits_of(built), expected, **tolerance)
    built = FCN8s(**arguments)
    built.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_allclose(logits_of(built), expected, **tolerance)


@pytest.mark.parametrize("cls", [keras_fcn.FCN32s, keras_fcn.FCN16s, FCN8s])
def test_config_holds_every_argument(cls):
    arguments = {
        "num_classes": 3,
        "input_shape": (6, None, None),
        "padding": "same",
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


def test_a_clone_computes_the_same():
    model = FCN8s(num_classes=4, fc_units=8, padding="same")
    randomize(model, seed=1)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(logits_of(clone), logits_of(model))


def test_a_compiled_model_comes_back_compiled(tmp_path):
    model = FCN8s(num_classes=4, fc_units=8, padding="same")
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras").compiled


IMPORT_ORDERS = {
    "keras_fcn first": "import keras_fcn; import keras",
    "keras first": "import keras; import keras_fcn",
    "a part of keras first": "import keras.layers; import keras_fcn; import keras",
}


@pytest.mark.parametrize("order", IMPORT_ORDERS)
def test_a_fresh_process_loads_a_model_in_either_order_of_imports(order, tmp_path):
    FCN8s(num_classes=4, fc_units=8, padding="same").save(tmp_path / "model.keras")
    script = IMPORT_ORDERS[order] + (
        "; model = keras.saving.load_model('model.keras'); print(type(model).__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "FCN8s"
