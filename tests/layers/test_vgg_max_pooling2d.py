import helpers
import keras
import numpy as np
import pytest

from keras_fcn.layers import VGGMaxPooling2D


def results(layer_class, images, slopes, policy):
    """Outputs, and gradients of what multiplies every channel of the images."""
    image = keras.Input(images.shape[1:])
    options = {"data_format": "channels_last", "dtype": policy}
    x = keras.layers.DepthwiseConv2D(1, use_bias=False, name="scale", **options)(image)
    x = layer_class(2, padding="same", name="pool", **options)(x)
    network = keras.Model(image, x)
    network.set_weights([np.ones(network.weights[0].shape)])
    slopes = keras.ops.convert_to_tensor(slopes, "float32")
    gradients = helpers.gradients_of(
        network, images, lambda outputs: keras.ops.sum(keras.ops.cast(outputs, "float32") * slopes)
    )
    arrays = (network(images), *gradients)
    return [keras.ops.convert_to_numpy(keras.ops.cast(x, "float32")) for x in arrays]


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize(("height", "width"), [(8, 6), (7, 6), (8, 5), (7, 5), (1, 1)])
def test_equals_max_pooling2d(height, width, policy):
    generator = np.random.default_rng(0)
    images = generator.standard_normal((2, height, width, 3)).astype("float32")
    # Another slope at every value, so that no mistake of positions cancels.
    slopes = generator.standard_normal((2, -(-height // 2), -(-width // 2), 3))
    ours = results(VGGMaxPooling2D, images, slopes, policy)
    expected = results(keras.layers.MaxPooling2D, images, slopes, policy)
    for mine, theirs in zip(ours, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-6 if policy == "float32" else 2e-2)


def test_the_first_of_equal_values_gets_the_gradient():
    # After ReLU whole windows are 0. Each row is a window, row by row.
    windows = np.array([[0, 0, 0, 0], [1, 2, 2, 0], [0, 0, 3, 3], [1, 0, 0, 1]], "float32")
    expected = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0]], "float32")

    def as_image(windows):
        return windows.reshape(2, 2, 2, 2).transpose(0, 2, 1, 3).reshape(1, 4, 4, 1)

    class Source(keras.layers.Layer):
        def build(self, _):
            self.image = self.add_weight(shape=(1, 4, 4, 1))

        def call(self, inputs):
            return inputs + self.image

    inputs = keras.Input((4, 4, 1))
    outputs = VGGMaxPooling2D(2, padding="same", data_format="channels_last")(Source()(inputs))
    network = keras.Model(inputs, outputs)
    network.set_weights([np.zeros((1, 4, 4, 1))])
    (gradient,) = helpers.gradients_of(network, as_image(windows), keras.ops.sum)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(gradient), as_image(expected))


@pytest.mark.parametrize(
    "arguments", [{"pool_size": 3}, {"pool_size": 2, "strides": 1}, {"padding": "valid"}]
)
def test_other_windows_are_those_of_keras(arguments):
    images = np.random.default_rng(0).standard_normal((1, 7, 6, 2)).astype("float32")
    options = {"data_format": "channels_last", "padding": "same", **arguments}
    ours, expected = (
        keras.ops.convert_to_numpy(layer_class(**options)(images))
        for layer_class in (VGGMaxPooling2D, keras.layers.MaxPooling2D)
    )
    np.testing.assert_array_equal(ours, expected)
