import helpers
import keras
import numpy as np
import pytest

from keras_fcn.layers import VGGConv2D

BACKEND = keras.config.backend()


def model(layer_class, channels, policy):
    image = keras.Input((None, None, channels))
    layer = layer_class(
        4,
        3,
        padding="same",
        activation="relu",
        data_format="channels_last",
        dtype=policy,
        name="convolution",
    )
    return keras.Model(image, layer(image))


# 256 channels are four parts on TensorFlow. JAX takes four rows at once, or the whole image.
@pytest.mark.parametrize("positions", [1, 1024])
@pytest.mark.parametrize(
    ("channels", "height", "width"), [(3, 12, 5), (3, 11, 6), (256, 5, 4), (2, 1, 1)]
)
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_equals_conv2d_with_the_same_weights(
    monkeypatch, channels, height, width, policy, positions
):
    if BACKEND == "jax":
        monkeypatch.setattr("keras_fcn.backends.jax_kernels._POSITIONS", positions)
    generator = np.random.default_rng(0)
    images = generator.standard_normal((2, height, width, channels)).astype("float32")
    weights = [generator.standard_normal((3, 3, channels, 4)), generator.standard_normal(4)]
    # The loss has another slope at every value, so that no mistake of positions cancels.
    slopes = keras.ops.convert_to_tensor(
        generator.standard_normal((2, height, width, 4)), "float32"
    )
    results = []
    for layer_class in (VGGConv2D, keras.layers.Conv2D):
        network = model(layer_class, channels, policy)
        network.set_weights(weights)
        outputs = keras.ops.cast(network(images), "float32")
        gradients = helpers.gradients_of(
            network,
            images,
            lambda outputs: keras.ops.sum(keras.ops.cast(outputs, "float32") * slopes),
        )
        results.append(
            [
                keras.ops.convert_to_numpy(keras.ops.cast(x, "float32"))
                for x in (outputs, *gradients)
            ]
        )
    tolerance = 1e-5 if policy == "float32" else 1e-2
    for ours, expected in zip(*results, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=0, atol=tolerance * abs(expected).max())


@pytest.mark.skipif(BACKEND != "jax", reason="Of XLA's convolutions")
def test_the_images_convolution_has_the_same_gradient_on_gpus(monkeypatch):
    from keras_fcn.backends import jax_kernels

    found = []
    kernel_gradient = jax_kernels._kernel_gradient
    monkeypatch.setattr(
        jax_kernels, "_kernel_gradient", lambda *args: found.append(1) or kernel_gradient(*args)
    )
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    # Several rows of many positions, which are a loop on CPUs.
    test_equals_conv2d_with_the_same_weights(monkeypatch, 3, 12, 5, "float32", positions=1)
    assert len(found) == 1
    test_equals_conv2d_with_the_same_weights(monkeypatch, 256, 5, 4, "float32", positions=1)
    assert len(found) == 1


def test_images_get_the_same_gradient():
    generator = np.random.default_rng(0)
    images = generator.standard_normal((1, 6, 7, 5)).astype("float32")
    weights = [generator.standard_normal((3, 3, 5, 4)), generator.standard_normal(4)]
    results = []
    for layer_class in (VGGConv2D, keras.layers.Conv2D):
        network = model(layer_class, 5, "float32")
        network.set_weights(weights)
        # The images are variables of a layer in front of it.
        source = keras.Sequential([keras.layers.Dense(5, use_bias=False), network])
        source.build((None, 6, 7, 5))
        source.layers[0].set_weights([np.eye(5)])
        gradients = helpers.gradients_of(
            source, images, lambda outputs: keras.ops.sum(outputs * outputs)
        )
        results.append(keras.ops.convert_to_numpy(gradients[0]))
    ours, expected = results
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5 * abs(expected).max())
