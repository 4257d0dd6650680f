import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_fcn.layers import LocalResponseNormalization


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_equals_tensorflows(data_format):
    """Caffe divides alpha by the number of channels, TensorFlow does not."""
    x = np.random.default_rng(0).normal(0, 100, (2, 3, 4, 9)).astype("float32")
    expected = tf.nn.local_response_normalization(
        x, depth_radius=2, bias=1.0, alpha=1e-4 / 5, beta=0.75
    )
    axes = (0, 1, 2, 3) if data_format == "channels_last" else (0, 3, 1, 2)
    layer = LocalResponseNormalization(data_format=data_format)
    found = keras.ops.convert_to_numpy(layer(x.transpose(axes)))
    np.testing.assert_allclose(found, expected.numpy().transpose(axes), rtol=1e-4)


def test_an_even_size_is_refused():
    with pytest.raises(ValueError, match="`size` must be a positive odd integer"):
        LocalResponseNormalization(size=4)


def test_half_precision_takes_values_whose_square_it_cannot_hold():
    x = np.array([0.5, 300, 4000, 20], "float32").reshape(1, 1, 1, 4)
    expected = tf.nn.local_response_normalization(
        x, depth_radius=2, bias=1.0, alpha=1e-4 / 5, beta=0.75
    )
    layer = LocalResponseNormalization(data_format="channels_last", dtype="mixed_float16")
    found = layer(x)
    assert keras.backend.standardize_dtype(found.dtype) == "float16"
    np.testing.assert_allclose(keras.ops.convert_to_numpy(found), expected.numpy(), rtol=2e-3)
