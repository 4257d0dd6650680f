import math

import keras
import numpy as np
import pytest

from keras_fcn.layers import ConvolutionalizedDense, VGGConv2D

LAYERS = {
    VGGConv2D: lambda **options: VGGConv2D(64, 3, padding="same", **options),
    ConvolutionalizedDense: lambda **options: ConvolutionalizedDense(64, 3, **options),
}


@pytest.mark.parametrize("make", LAYERS.values(), ids=[layer.__name__ for layer in LAYERS])
class TestInitialKernels:
    def kernel(self, make, **options):
        layer = make(**options)
        layer.build((None, 9, 9, 32))
        return keras.ops.convert_to_numpy(keras.ops.cast(layer.kernel, "float32"))

    def test_uniform_within_the_limit_of_glorot_and_bengio(self, make):
        # Their equation 16, with 9 * 32 inputs and 9 * 64 outputs of a unit.
        limit = math.sqrt(6 / (9 * 32 + 9 * 64))
        kernel = self.kernel(make)
        assert 0.999 * limit < np.abs(kernel).max() <= limit
        # A uniform distribution in (-limit, limit), 18432 values.
        assert np.mean(kernel) == pytest.approx(0, abs=0.03 * limit)
        assert np.std(kernel) == pytest.approx(limit / math.sqrt(3), rel=0.02)

    def test_every_layer_has_other_values_and_a_seed_repeats_them(self, make):
        keras.utils.set_random_seed(1)
        first, second = self.kernel(make), self.kernel(make)
        keras.utils.set_random_seed(1)
        again = self.kernel(make)
        assert np.mean(first == second) < 0.01
        np.testing.assert_array_equal(first, again)

    def test_other_initializers_and_dtypes(self, make):
        np.testing.assert_array_equal(self.kernel(make, kernel_initializer="ones"), 1)
        assert np.ptp(self.kernel(make, dtype="bfloat16")) > 0

    def test_the_saved_initializer_is_that_of_keras(self, make):
        saved = make().get_config()["kernel_initializer"]
        assert (saved["module"], saved["class_name"]) == ("keras.initializers", "GlorotUniform")


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX alone compiles initial values.")
@pytest.mark.parametrize("make", LAYERS.values(), ids=[layer.__name__ for layer in LAYERS])
def test_initial_weights_need_no_compilation(make):
    import jax
    from jax import monitoring

    compiled = []

    def listen(event, seconds, **kwargs):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(kwargs)

    jax.clear_caches()
    monitoring.register_event_duration_secs_listener(listen)
    try:
        keras.initializers.GlorotUniform()((3, 3, 2, 2))
        assert compiled  # Keras's own initializer needs some.
        compiled.clear()
        layer = make()
        layer.build((None, 9, 9, 32))
    finally:
        monitoring.unregister_event_duration_listener(listen)
    assert not compiled
    np.testing.assert_array_equal(layer.bias, np.zeros(64))
