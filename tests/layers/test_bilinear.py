import keras
import numpy as np
import pytest
import reference

from keras_fcn.layers import Bilinear


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 16, 32, 64])
def test_kernel_equals_the_formula_of_the_paper(size):
    kernel = keras.ops.convert_to_numpy(Bilinear()((size, size, 3, 3)))
    np.testing.assert_allclose(kernel, reference.bilinear_kernel(size, 3), atol=1e-7)


def test_kernel_of_size_4_by_hand():
    weights = np.array([0.25, 0.75, 0.75, 0.25])
    kernel = keras.ops.convert_to_numpy(Bilinear()((4, 4, 2, 2)))
    np.testing.assert_allclose(kernel[:, :, 0, 0], np.outer(weights, weights))
    np.testing.assert_allclose(kernel[:, :, 1, 1], np.outer(weights, weights))
    assert not kernel[:, :, 0, 1].any()
    assert not kernel[:, :, 1, 0].any()


@pytest.mark.parametrize("shape", [(4, 3, 2, 2), (4, 4, 2, 3)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="must be"):
        Bilinear()(shape)


def test_upsampling_keeps_a_linear_ramp():
    ramp = np.arange(8, dtype="float32")[None, None, :, None] * np.ones((1, 8, 1, 1), "float32")
    layer = keras.layers.Conv2DTranspose(
        1, 4, strides=2, use_bias=False, kernel_initializer=Bilinear(), data_format="channels_last"
    )
    upsampled = keras.ops.convert_to_numpy(layer(ramp))[0, 8, 3:15, 0]
    np.testing.assert_allclose(np.diff(upsampled), 0.5, atol=1e-6)


def test_layer_with_it_survives_serialization():
    initializer = keras.initializers.deserialize(keras.initializers.serialize(Bilinear()))
    assert isinstance(initializer, Bilinear)
