"""The VGG-16 classifier, slid over an image as fc6 and fc7, remains the classifier."""

import helpers
import keras
import numpy as np
import pytest

import keras_fcn

MEAN_BGR = (104.00699, 116.66877, 122.67892)


@pytest.fixture(scope="module")
def classifier():
    model = keras.applications.VGG16(include_top=True, weights=None, classes=10)
    helpers.randomize(model, seed=0)
    return model


def test_fc7_at_the_centre_of_a_224x224_image_equals_the_classifiers_fc2(classifier):
    fcn = keras_fcn.FCN32s(num_classes=2, padding="same", data_format="channels_last")
    _carry_over(classifier, fcn)
    image = np.random.default_rng(0).uniform(0, 255, (1, 224, 224, 3)).astype("float32")

    fc2 = _activations(classifier, "fc2", image[..., ::-1] - np.float32(MEAN_BGR))
    fc7 = _activations(fcn, "fc7", image)

    channels_last = fc7.shape[-1] == 4096
    fc7 = fc7 if channels_last else np.moveaxis(fc7, 1, -1)
    assert fc7.shape == (1, 7, 7, 4096)
    # fc6's padding by 3 leaves only the centre with the classifier's whole 7x7 window.
    np.testing.assert_allclose(fc7[:, 3, 3], fc2, rtol=0, atol=1e-5 * np.abs(fc2).max())
    assert 0.2 < np.mean(fc2 > 0) < 0.8


def _carry_over(classifier, fcn):
    for layer in classifier.layers:
        if layer.name.startswith("block") and layer.weights:
            fcn.get_layer(layer.name).set_weights(layer.get_weights())
    for dense, convolution, kernel_size, inputs in (
        ("fc1", "fc6", 7, 512),
        ("fc2", "fc7", 1, 4096),
    ):
        kernel, bias = classifier.get_layer(dense).get_weights()
        kernel = kernel.reshape(kernel_size, kernel_size, inputs, 4096)
        fcn.get_layer(convolution).set_weights([kernel, bias])


def _activations(model, layer_name, images):
    until_layer = keras.Model(model.input, model.get_layer(layer_name).output)
    return keras.ops.convert_to_numpy(until_layer(images, training=False))
