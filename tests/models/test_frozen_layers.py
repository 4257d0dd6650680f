"""What a user sets on a model's layers is still set on its copies."""

import copy
import pickle

import keras
import numpy as np
import pytest
from helpers import NARROW_FILTERS, variables_as_numpy

from keras_fcn import FCN8s
from keras_fcn.losses import SparseCategoricalCrossentropy

IMAGES, LABEL_MAPS = np.ones((1, 16, 16, 3), "float32"), np.ones((1, 16, 16), "int32")


def small(**arguments):
    return FCN8s(3, filters=NARROW_FILTERS, fc_units=4, padding="same", **arguments)


def saved_and_loaded(model, folder):
    model.save(folder / "model.keras")
    return keras.saving.load_model(folder / "model.keras")


COPIES = {
    "loaded": saved_and_loaded,
    "pickled": lambda model, _: pickle.loads(pickle.dumps(model)),
    "deepcopy": lambda model, _: copy.deepcopy(model),
    "clone": lambda model, _: keras.models.clone_model(model),
    "config": lambda model, _: FCN8s.from_config(model.get_config()),
}


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_trains_the_same_variables(how, tmp_path):
    model = small()
    for layer in model.layers:
        layer.trainable = layer.name in ("block5_conv1", "fc6", "score_fr", "upscore8")
    found = COPIES[how](model, tmp_path)
    expected = ["block5_conv1", "fc6", "score_fr", "upscore8"]
    trained = [layer.name for layer in found.layers if layer.weights and layer.trainable]
    assert trained == expected
    assert len(found.trainable_variables) == 7  # The upsampling has no bias.


@pytest.mark.parametrize("copied", [False, True])
def test_what_arguments_freeze_stays_frozen_when_the_model_is_freed(copied, tmp_path):
    image = x = keras.Input((None, None, 3))
    for number in range(5):
        x = keras.layers.Conv2D(4, 3, strides=2, padding="same")(x)
        x = keras.layers.BatchNormalization(name=f"norm{number}")(x)
    models = small(), FCN8s(3, backbone=keras.Model(image, x), fc_units=4, freeze_batch_norm=True)
    for model in models:
        trained = [variable.path for variable in model.trainable_variables]
        model.trainable = False
        freed = saved_and_loaded(model, tmp_path) if copied else model
        assert not freed.trainable_variables
        freed.trainable = True
        assert [variable.path for variable in freed.trainable_variables] == trained
        assert not any("upscore" in path or "norm" in path for path in trained)


def test_a_model_that_was_frozen_as_a_whole_can_be_freed_in_parts(tmp_path):
    frozen = small()
    frozen.trainable = False
    model = saved_and_loaded(frozen, tmp_path)
    assert not model.trainable_variables
    model.trainable = True
    model.get_layer("block1_conv1").trainable = False
    found = saved_and_loaded(model, tmp_path)
    assert not found.get_layer("block1_conv1").trainable
    assert len(found.trainable_variables) == len(model.trainable_variables) > 0


def test_a_training_goes_on_with_the_optimizers_state_and_the_frozen_layers(tmp_path):
    model = small()
    for layer in model.layers:
        layer.trainable = not layer.name.startswith("block")
    model.compile(keras.optimizers.Adam(1e-3), SparseCategoricalCrossentropy(from_logits=True))
    model.train_on_batch(IMAGES, LABEL_MAPS)
    found = saved_and_loaded(model, tmp_path)
    assert int(found.optimizer.iterations) == 1
    expected = [keras.ops.convert_to_numpy(variable) for variable in model.optimizer.variables]
    for variable, value in zip(found.optimizer.variables, expected, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), value)
    before = variables_as_numpy(found)
    found.train_on_batch(IMAGES, LABEL_MAPS)
    changed = {
        n.split("/")[0] for n, v in variables_as_numpy(found).items() if (v != before[n]).any()
    }
    assert "score_fr" in changed
    assert not [name for name in changed if name.startswith("block")]


def test_the_dtype_policy_of_a_single_layer_is_kept(tmp_path):
    model = small()
    model.get_layer("fc6").dtype_policy = "mixed_bfloat16"
    found = saved_and_loaded(model, tmp_path)
    assert found.get_layer("fc6").compute_dtype == "bfloat16"
    assert found.get_layer("fc7").compute_dtype == "float32"
    assert found.get_config() == model.get_config()


def test_a_configuration_without_frozen_layers_is_that_of_an_earlier_file():
    config = small().get_config()
    del config["frozen_layers"], config["layer_dtypes"], config["filters"]
    model = FCN8s.from_config(config)
    assert model.get_config()["filters"] == (64, 128, 256, 512, 512)
    assert not model.get_layer("upscore8").trainable


def test_integers_of_numpy_are_integers(tmp_path):
    model = FCN8s(
        np.int64(3),
        filters=np.array(NARROW_FILTERS),
        fc_units=np.int32(4),
        fc6_kernel_size=np.uint8(3),
        input_shape=(np.int64(16), None, np.int16(3)),
        padding="same",
    )
    found = saved_and_loaded(model, tmp_path)
    assert found.num_classes == 3
    assert found.input_shape == (None, 16, None, 3)
    assert all(type(size) is int for size in found.get_config()["filters"])


def test_quantization_says_what_to_do_instead():
    with pytest.raises(ValueError, match=r"mode='int8'.*mixed_bfloat16.*export"):
        small().quantize("int8")
