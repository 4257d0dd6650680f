import helpers
import keras
import numpy as np
import pytest

from keras_fcn.layers import FCNConv2DTranspose


def network(layer_class, channels, filters, policy="float32", **options):
    image = keras.Input((None, None, channels))
    # Its kernel's gradient is made of the gradient of what goes into the upsampling.
    x = keras.layers.Conv2D(channels, 1, use_bias=False, data_format="channels_last", dtype=policy)
    options = {"use_bias": False, "data_format": "channels_last", "dtype": policy, **options}
    return keras.Model(image, layer_class(filters, **options)(x(image)))


def assert_equal_to_keras(size, channels, filters, policy="float32", **options):
    generator = np.random.default_rng(0)
    images = generator.standard_normal((2, *size, channels)).astype("float32")
    weights, results = None, []
    for layer_class in (keras.layers.Conv2DTranspose, FCNConv2DTranspose):
        model = network(layer_class, channels, filters, policy, **options)
        if weights is None:
            weights = [generator.standard_normal(value.shape) for value in model.get_weights()]
        model.set_weights(weights)
        outputs = keras.ops.cast(model(images), "float32")
        # The loss has another slope at every value, so that no mistake of positions cancels.
        slopes = np.random.default_rng(1).standard_normal(outputs.shape)
        slopes = keras.ops.convert_to_tensor(slopes, "float32")
        gradients = helpers.gradients_of(
            model,
            images,
            lambda y, slopes=slopes: keras.ops.sum(keras.ops.cast(y, "float32") * slopes),
        )
        values = (outputs, *gradients)
        results.append([np.array(keras.ops.convert_to_numpy(x), "float32") for x in values])
    tolerance = 1e-5 if policy == "float32" else 2e-2
    for expected, ours in zip(*results, strict=True):
        assert ours.shape == expected.shape
        np.testing.assert_allclose(ours, expected, rtol=0, atol=tolerance * abs(expected).max())


@pytest.mark.parametrize("stride", [1, 2, 8, 32])
@pytest.mark.parametrize("size", [(1, 1), (3, 4)])
def test_equals_conv2d_transpose_with_the_same_weights(stride, size):
    assert_equal_to_keras(size, 3, 5, kernel_size=2 * stride, strides=stride)


def test_equals_conv2d_transpose_in_half_precision():
    assert_equal_to_keras((3, 4), 3, 3, "mixed_bfloat16", kernel_size=4, strides=2)


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "strides": 2},
        {"kernel_size": 4, "strides": 2, "padding": "same"},
        {"kernel_size": (4, 8), "strides": (2, 4)},
        {"kernel_size": 4, "strides": 2, "use_bias": True},
        {"kernel_size": 4, "strides": 2, "activation": "relu"},
        {"kernel_size": 4, "strides": 2, "output_padding": 1},
        {"kernel_size": 2, "strides": 1, "dilation_rate": 2},
    ],
)
def test_equals_conv2d_transpose_in_other_settings(options):
    assert_equal_to_keras((3, 4), 3, 2, **options)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="Of XLA's convolutions")
def test_no_zeros_are_multiplied():
    import jax

    def convolutions(layer_class):
        layer = layer_class(2, 16, strides=8, use_bias=False, data_format="channels_last")
        layer.build((1, 3, 4, 2))
        return str(jax.make_jaxpr(layer)(np.zeros((1, 3, 4, 2), "float32"))).count("lhs_dilation")

    assert convolutions(keras.layers.Conv2DTranspose) == 1
    assert convolutions(FCNConv2DTranspose) == 0
