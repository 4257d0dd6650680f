import keras
import numpy as np
import pytest

from keras_fcn.layers import ConvolutionalizedDense


def outputs_of_both(kernel_size, padding, data_format, activation="relu"):
    generator = np.random.default_rng(0)
    kernel = generator.standard_normal((kernel_size, kernel_size, 5, 6)).astype("float32")
    bias = generator.standard_normal(6).astype("float32")
    x = generator.standard_normal((2, 9, 11, 5)).astype("float32")
    if data_format == "channels_first":
        x = x.transpose(0, 3, 1, 2)
    dense = ConvolutionalizedDense(
        6, kernel_size, padding=padding, activation=activation, data_format=data_format
    )
    # Kernel layout and values are Conv2D's, in the layout that every backend computes on a CPU.
    convolution = keras.layers.Conv2D(
        6, kernel_size, padding=padding, activation=activation, data_format="channels_last"
    )
    x_last = x.transpose(0, 2, 3, 1) if data_format == "channels_first" else x
    for layer, inputs in ((dense, x), (convolution, x_last)):
        layer.build(inputs.shape)
        layer.set_weights([kernel, bias])
    expected = keras.ops.convert_to_numpy(convolution(x_last))
    if data_format == "channels_first":
        expected = expected.transpose(0, 3, 1, 2)
    return keras.ops.convert_to_numpy(dense(x)), expected, dense, x.shape


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("kernel_size", [1, 3, 7])
def test_equals_conv2d_with_the_same_weights(kernel_size, padding, data_format):
    outputs, expected, layer, shape = outputs_of_both(kernel_size, padding, data_format)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-4)
    assert layer.compute_output_shape(shape) == outputs.shape


def test_input_smaller_than_the_window_is_refused():
    layer = ConvolutionalizedDense(2, 7, data_format="channels_last")
    with pytest.raises(ValueError, match="must be at least 7 pixels high and wide"):
        layer(np.zeros((1, 9, 6, 1), "float32"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"units": 0, "kernel_size": 7}, "`units` must be"),
        ({"units": 4, "kernel_size": 6, "padding": "same"}, "`kernel_size` must be"),
        ({"units": 4, "kernel_size": 0}, "`kernel_size` must be"),
        ({"units": 4, "kernel_size": 2.5}, "`kernel_size` must be"),
        ({"units": 4, "kernel_size": 7, "padding": "full"}, "`padding` must be"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        ConvolutionalizedDense(**arguments)


def test_config_makes_the_same_layer():
    layer = ConvolutionalizedDense(4, 3, padding="same", activation="relu", name="fc6")
    copy = ConvolutionalizedDense.from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
