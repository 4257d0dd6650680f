import keras
import numpy as np
import pytest

from keras_fcn.layers import GroupedConv2D


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_equals_keras_grouped_convolution(data_format):
    if data_format == "channels_first" and keras.backend.backend() == "tensorflow":
        pytest.skip("TensorFlow's CPUs have no convolution of channels first")
    arguments = {"padding": "same", "groups": 3, "activation": "relu", "data_format": data_format}
    shape = (2, 7, 9, 6) if data_format == "channels_last" else (2, 6, 7, 9)
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    layer, theirs = GroupedConv2D(12, 3, **arguments), keras.layers.Conv2D(12, 3, **arguments)
    outputs, _ = layer(x), theirs(x)
    theirs.set_weights(layer.get_weights())
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(outputs), keras.ops.convert_to_numpy(theirs(x)), atol=1e-5
    )
