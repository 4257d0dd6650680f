"""A model rebuilt in another precision equals one built in it."""

import keras
import numpy as np
import pytest
from helpers import randomize

from keras_fcn import FCN32s
from keras_fcn.models.precision import in_precision

POLICIES = [("mixed_bfloat16", "float32"), ("float32", "mixed_bfloat16")]


def images_of(size):
    return np.random.default_rng(1).integers(0, 256, (2, *size, 3)).astype("float32")


def check(model_in, before, after, size):
    rebuilt, expected = in_precision(model_in(before), after), model_in(after)
    computes_in = {layer.name: layer.compute_dtype for layer in expected.layers}
    assert {layer.name: layer.compute_dtype for layer in rebuilt.layers} == computes_in
    assert keras.dtype_policies.get(after).compute_dtype in computes_in.values()
    images = images_of(size)
    logits = expected.predict_on_batch(images)
    np.testing.assert_array_equal(rebuilt.predict_on_batch(images), logits)
    assert (logits != model_in(before).predict_on_batch(images)).any()
    assert in_precision(rebuilt, after).get_config() == rebuilt.get_config()


@pytest.mark.parametrize(("before", "after"), POLICIES)
def test_of_vgg16(before, after):
    def model_in(policy):
        model = FCN32s(3, filters=(4,) * 5, fc_units=4, padding="same", dtype=policy)
        randomize(model, seed=0)
        return model

    check(model_in, before, after, (9, 8))


@pytest.mark.gate
@pytest.mark.parametrize(("before", "after"), POLICIES)
def test_of_a_backbone(before, after):
    def model_in(policy):
        keras.utils.set_random_seed(0)
        x = inputs = keras.Input((None, None, 3))
        for number in range(5):
            layer = keras.layers.Conv2D(
                4, 3, strides=2, padding="same", dtype=policy, name=f"down{number}"
            )
            x = layer(x)
        model = FCN32s(3, backbone=keras.Model(inputs, x), fc_units=4, dtype=policy)
        randomize(model, seed=0)
        return model

    check(model_in, before, after, (37, 45))
