"""The graph that other runtimes get."""

import keras
import numpy as np
import pytest

from keras_fcn.backends import backend
from keras_fcn.layers import VGGConv2D

pytestmark = [
    pytest.mark.any_backend,
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exports are traced there"),
]


def test_a_wide_convolution_is_one_operation_for_other_runtimes():
    import tensorflow as tf

    if not backend.computes_on_cpu():
        pytest.skip("convolutions are split on CPUs")
    layer = VGGConv2D(2, 3, padding="same", data_format="channels_last")
    image = np.random.default_rng(0).normal(size=(1, 4, 5, 256)).astype("float32")
    layer(image)

    def convolutions():
        graph = tf.function(layer).get_concrete_function(tf.TensorSpec(image.shape)).graph
        return [operation.type for operation in graph.get_operations()].count("Conv2D")

    split = np.asarray(layer(image))
    with backend.traced_for_export():
        assert convolutions() == 1
        np.testing.assert_allclose(np.asarray(layer(image)), split, atol=1e-5)
    assert convolutions() > 1
