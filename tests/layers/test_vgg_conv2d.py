import helpers
import keras
import numpy as np
import pytest

from keras_fcn.backends import backend
from keras_fcn.layers import VGGConv2D

BACKEND = keras.config.backend()


def model(layer_class, channels, policy, data_format="channels_last"):
    is_first = data_format == "channels_first"
    image = keras.Input((channels, None, None) if is_first else (None, None, channels))
    layer = layer_class(
        4,
        3,
        padding="same",
        activation="relu",
        data_format=data_format,
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
@pytest.mark.parametrize("data_format", sorted({"channels_last", backend.data_format}))
def test_equals_conv2d_with_the_same_weights(
    monkeypatch, channels, height, width, policy, positions, data_format
):
    if BACKEND == "jax":
        monkeypatch.setattr("keras_fcn.backends.jax_kernels._POSITIONS", positions)
    generator = np.random.default_rng(0)
    images = generator.standard_normal((2, height, width, channels)).astype("float32")
    axes = (0, 3, 1, 2) if data_format == "channels_first" else (0, 1, 2, 3)
    images = np.ascontiguousarray(images.transpose(axes))
    weights = [generator.standard_normal((3, 3, channels, 4)), generator.standard_normal(4)]
    # The loss has another slope at every value, so that no mistake of positions cancels.
    slopes = keras.ops.convert_to_tensor(
        generator.standard_normal((2, height, width, 4)).transpose(axes), "float32"
    )
    results = []
    for layer_class in (VGGConv2D, keras.layers.Conv2D):
        network = model(layer_class, channels, policy, data_format)
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


@pytest.mark.parametrize("data_format", sorted({"channels_last", backend.data_format}))
@pytest.mark.parametrize(
    "options",
    [
        {"padding": "valid"},
        {"strides": 2},
        {"dilation_rate": 2},
        {"kernel_size": 2},
        {"kernel_size": (1, 3)},
        {"groups": 2},
    ],
)
def test_equals_conv2d_in_other_settings(options, data_format):
    generator = np.random.default_rng(0)
    shape = (2, 4, 9, 8) if data_format == "channels_first" else (2, 9, 8, 4)
    images = generator.standard_normal(shape).astype("float32")
    options = {"kernel_size": 3, "padding": "same", "data_format": data_format, **options}
    layer, expected = (
        layer_class(6, activation="relu", **options)
        for layer_class in (VGGConv2D, keras.layers.Conv2D)
    )
    expected.build(images.shape)
    layer.build(images.shape)
    expected.set_weights([generator.standard_normal(x.shape) for x in expected.get_weights()])
    layer.set_weights(expected.get_weights())
    outputs, wanted = (keras.ops.convert_to_numpy(each(images)) for each in (layer, expected))
    assert outputs.shape == layer.compute_output_shape(images.shape)
    np.testing.assert_allclose(outputs, wanted, rtol=0, atol=1e-5 * abs(wanted).max())


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
    test_equals_conv2d_with_the_same_weights(monkeypatch, 3, 12, 5, "float32", 1, "channels_last")
    assert len(found) == 1
    test_equals_conv2d_with_the_same_weights(monkeypatch, 256, 5, 4, "float32", 1, "channels_last")
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


@pytest.mark.skipif(BACKEND != "torch", reason="Others compile the layer.")
def test_bias_and_activation_make_no_tensors_of_their_own():
    from torch.overrides import TorchFunctionMode

    names = []

    class Calls(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            names.append(function.__name__)
            return function(*args, **(kwargs or {}))

    layer = VGGConv2D(4, 3, padding="same", activation="relu", data_format="channels_first")
    image = keras.ops.ones((1, 3, 5, 6))
    layer(image)
    with Calls():
        layer(image)
    assert {"conv2d", "relu_"} <= set(names)
    assert not {"add", "relu", "__add__"} & set(names)


@pytest.mark.skipif(BACKEND != "torch", reason="Others choose the layout themselves.")
def test_bfloat16_has_channels_last_in_memory():
    import torch

    for policy, is_last in (("mixed_bfloat16", True), ("float32", False)):
        features = model(VGGConv2D, 3, policy, "channels_first")(np.ones((1, 3, 5, 6), "float32"))
        assert features.is_contiguous(memory_format=torch.channels_last) == is_last
