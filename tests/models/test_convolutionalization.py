"""The VGG-16 classifier, slid over an image as fc6 and fc7, remains the classifier."""

import helpers
import keras
import numpy as np
import pytest
from helpers import NARROW_FILTERS
from keras import layers

import keras_fcn

MEAN_BGR = (104.00699, 116.66877, 122.67892)


def narrow_classifier():
    """As `keras.applications.VGG16`, but for its widths."""
    model = keras.Sequential([keras.Input((224, 224, 3))])
    convolutions = zip(NARROW_FILTERS, (2, 2, 3, 3, 3), strict=True)
    for block, (filters, count) in enumerate(convolutions, start=1):
        for number in range(1, count + 1):
            name = f"block{block}_conv{number}"
            model.add(layers.Conv2D(filters, 3, padding="same", activation="relu", name=name))
        model.add(layers.MaxPooling2D(2, strides=2))
    model.add(layers.Flatten())
    for name in ("fc1", "fc2"):
        model.add(layers.Dense(32, activation="relu", name=name))
    return model


@pytest.mark.parametrize(
    ("make_classifier", "filters"),
    [
        pytest.param(narrow_classifier, NARROW_FILTERS, id="narrow"),
        pytest.param(
            lambda: keras.applications.VGG16(include_top=True, weights=None, classes=10),
            (64, 128, 256, 512, 512),
            marks=[pytest.mark.gate, pytest.mark.any_backend],
            id="VGG-16",
        ),
    ],
)
def test_fc7_at_the_centre_of_a_224x224_image_equals_the_classifiers_fc2(make_classifier, filters):
    classifier = make_classifier()
    helpers.randomize(classifier, seed=0)
    units = classifier.get_layer("fc2").units
    fcn = keras_fcn.FCN32s(2, filters=filters, fc_units=units, padding="same")
    _carry_over(classifier, fcn)
    image = np.random.default_rng(0).uniform(0, 255, (1, 224, 224, 3)).astype("float32")

    fc2 = _activations(classifier, "fc2", image[..., ::-1] - np.float32(MEAN_BGR))
    fc7 = _activations(fcn, "fc7", image)

    channels_last = fc7.shape[-1] == units
    fc7 = fc7 if channels_last else np.moveaxis(fc7, 1, -1)
    assert fc7.shape == (1, 7, 7, units)
    # fc6's padding by 3 leaves only the centre with the classifier's whole 7x7 window.
    np.testing.assert_allclose(fc7[:, 3, 3], fc2, rtol=0, atol=1e-5 * np.abs(fc2).max())
    assert 0.2 < np.mean(fc2 > 0) < 0.8


def _carry_over(classifier, fcn):
    for layer in classifier.layers:
        if layer.name.startswith("block") and layer.weights:
            fcn.get_layer(layer.name).set_weights(layer.get_weights())
    for dense, convolution in (("fc1", "fc6"), ("fc2", "fc7")):
        kernel, bias = classifier.get_layer(dense).get_weights()
        layer = fcn.get_layer(convolution)
        layer.set_weights([kernel.reshape(layer.kernel.shape), bias])


def _activations(model, layer_name, images):
    until_layer = keras.Model(model.inputs[0], model.get_layer(layer_name).output)
    return keras.ops.convert_to_numpy(until_layer.predict_on_batch(images))
