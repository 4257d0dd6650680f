"""Softmax, heads and models around an FCN train on every backend."""

import keras
import numpy as np
import pytest
from helpers import NARROW_FILTERS, randomize

from keras_fcn import FCN32s

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 9, 14, 3)).astype("float32")
LABEL_MAPS = np.random.default_rng(1).integers(0, 3, (2, 9, 14))


def fcn(**options):
    model = FCN32s(3, filters=NARROW_FILTERS, fc_units=4, padding="same", **options)
    randomize(model, seed=0)
    return model


def softmax(logits):
    exponents = np.exp(logits.astype("float64") - logits.max(-1, keepdims=True))
    return exponents / exponents.sum(-1, keepdims=True)


def step_of_sgd(model, label_maps, from_logits=True):
    """Loss and gradients of a training step, the latter read off the step of SGD."""
    rate = 1e3
    before = [keras.ops.convert_to_numpy(v.value) for v in model.trainable_variables]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits)
    model.compile(keras.optimizers.SGD(rate), loss)
    value = model.train_on_batch(IMAGES, label_maps)
    after = [keras.ops.convert_to_numpy(v.value) for v in model.trainable_variables]
    return value, [(old - new) / rate for old, new in zip(before, after, strict=True)]


def assert_same_step(one, other):
    """Of an FCN whose gradients `test_fcn_reference` compares with the oracle's."""
    assert one[0] == pytest.approx(other[0], rel=1e-4)
    for ours, expected in zip(one[1], other[1], strict=True):
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-3 * abs(expected).max())


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("activation", [None, "softmax", "sigmoid"])
def test_the_output_has_one_name_on_every_backend(activation, data_format):
    model = fcn(classifier_activation=activation, data_format=data_format)
    assert model.output_names == ["head"]


def test_softmax_trains_with_cross_entropy_like_the_logits():
    model = fcn(classifier_activation="softmax", dropout_rate=0)
    probabilities = softmax(fcn().predict(IMAGES, verbose=0))
    np.testing.assert_allclose(model.predict(IMAGES, verbose=0), probabilities, atol=1e-5)
    step = step_of_sgd(model, LABEL_MAPS, from_logits=False)
    of_truth = np.take_along_axis(probabilities, LABEL_MAPS[..., None], axis=-1)
    np.testing.assert_allclose(step[0], -np.log(of_truth).mean(), rtol=1e-4)
    assert_same_step(step, step_of_sgd(fcn(dropout_rate=0), LABEL_MAPS))


@pytest.mark.parametrize("name", ["drop7", "block5_pool"])
def test_outputs_inside_have_the_layout_of_the_guide(name):
    output = fcn().get_layer(name).output
    channels = {"drop7": 4, "block5_pool": 16}[name]
    assert output.shape[1 if keras.backend.backend() == "torch" else -1] == channels


def test_a_head_on_drop7_has_the_gradients_worked_by_hand():
    inner = fcn(dropout_rate=0)
    features = inner.get_layer("drop7").output
    if keras.backend.backend() == "torch":
        features = keras.layers.Permute((2, 3, 1))(features)
    head = keras.layers.Dense(3, kernel_initializer=keras.initializers.RandomNormal(seed=0))
    model = keras.Model(inner.input, head(features))
    x = keras.Model(inner.input, features).predict(IMAGES, verbose=0).reshape(-1, 4)
    labels = LABEL_MAPS[:, :1, :1]
    errors = softmax(x @ head.get_weights()[0]) - np.eye(3)[labels.ravel()]
    _, gradients = step_of_sgd(model, labels)
    np.testing.assert_allclose(gradients[-2], x.T @ errors / len(x), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(gradients[-1], errors.mean(0), rtol=1e-3, atol=1e-6)
    assert all(abs(gradient).max() > 0 for gradient in gradients[:2])


def test_a_model_around_an_fcn_trains_like_the_fcn():
    inputs = keras.Input((None, None, 3))
    around = keras.Model(inputs, fcn(dropout_rate=0)(inputs))
    assert_same_step(step_of_sgd(around, LABEL_MAPS), step_of_sgd(fcn(dropout_rate=0), LABEL_MAPS))
