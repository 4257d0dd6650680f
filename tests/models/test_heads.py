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


def test_softmax_trains_with_cross_entropy_whose_value_is_worked_by_hand():
    model = fcn(classifier_activation="softmax", dropout_rate=0)
    logits = fcn().predict(IMAGES, verbose=0)
    probabilities = softmax(logits)
    np.testing.assert_allclose(model.predict(IMAGES, verbose=0), probabilities, atol=1e-5)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy())
    loss = model.train_on_batch(IMAGES, LABEL_MAPS)
    of_truth = np.take_along_axis(probabilities, LABEL_MAPS[..., None], axis=-1)
    np.testing.assert_allclose(loss, -np.log(of_truth).mean(), rtol=1e-4)
    after = model.predict(IMAGES, verbose=0)
    assert np.abs(after - probabilities).max() > 1e-6


@pytest.mark.parametrize("name", ["drop7", "block5_pool"])
def test_outputs_inside_have_the_layout_of_the_guide(name):
    output = fcn().get_layer(name).output
    channels = {"drop7": 4, "block5_pool": 16}[name]
    assert output.shape[1 if keras.backend.backend() == "torch" else -1] == channels


def test_a_head_on_drop7_and_a_model_around_an_fcn_train():
    inner = fcn(dropout_rate=0)
    features = inner.get_layer("drop7").output
    if keras.backend.backend() == "torch":
        features = keras.layers.Permute((2, 3, 1))(features)
    head = keras.Model(inner.input, keras.layers.Dense(3)(features))
    inputs = keras.Input((None, None, 3))
    around = keras.Model(inputs, inner(inputs))
    for model, label_maps in ((head, LABEL_MAPS[:, :1, :1]), (around, LABEL_MAPS)):
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        assert np.isfinite(model.train_on_batch(IMAGES, label_maps))
