"""Predictions of images of ever new sizes keep no program, and no memory, for each of them."""

import concurrent.futures
import gc
import os
import time
import weakref

import keras
import numpy as np
import pytest

from keras_fcn import FCN8s, inference

is_jax = pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX alone has programs")


class Ahead:
    """Stands for `jax.jit(function)`, to see what is compiled when and what is kept of it."""

    def __init__(self, function, made, seconds=0.0):
        self.function, self.made, self.seconds = function, made, seconds

    def lower(self, state, data):
        return self

    def compile(self):
        def executable(state, data):
            return self.function(state, data)

        time.sleep(self.seconds)
        self.made.append(weakref.ref(executable))
        return executable


ONE = np.float32(1)


@is_jax
class TestProgramOfEachSize:
    def test_the_last_sizes_have_a_program_and_no_others(self):
        from keras_fcn.backends import jax_trainer

        made = []
        step = jax_trainer._ProgramOfEachSize(
            lambda: Ahead(lambda state, data: state + data[0].sum(), made)
        )
        for size in range(1, 41):
            assert step(ONE, (np.ones(size),)) == size + 1
        gc.collect()
        assert len(made) == 40
        assert [ref() is not None for ref in made] == [False] * 24 + [True] * 16
        # 25 is the oldest; used again, it outlives 26.
        assert step(ONE, (np.ones(25),)) == 26
        step(ONE, (np.ones(41),))
        gc.collect()
        assert len(made) == 41
        assert [ref() is not None for ref in made[24:26]] == [True, False]

    def test_dtypes_and_settings_of_jax_count_too(self):
        import jax

        from keras_fcn.backends import jax_trainer

        made = []
        step = jax_trainer._ProgramOfEachSize(lambda: Ahead(lambda state, data: 0, made))
        for dtype in ("float32", "uint8", "float32"):
            step(ONE, (np.zeros(3, dtype),))
        assert len(made) == 2
        step(np.float16(1), (np.zeros(3, "uint8"),))
        assert len(made) == 3
        for _ in range(2):
            with jax.default_matmul_precision("highest"):
                step(ONE, (np.zeros(3, "uint8"),))
        assert len(made) == 4

    def test_threads_that_come_at_once_compile_once(self):
        from keras_fcn.backends import jax_trainer

        made = []
        step = jax_trainer._ProgramOfEachSize(
            lambda: Ahead(lambda state, data: state + data[0].sum(), made, seconds=0.3)
        )
        with concurrent.futures.ThreadPoolExecutor(4) as threads:
            results = list(threads.map(lambda _: step(ONE, (np.ones(2),)), range(4)))
        assert results == [3] * 4
        assert len(made) == 1


@is_jax
class TestTraces:
    def test_of_predictions_are_dropped(self):
        """JAX keeps one for every function of jax.numpy and every shape."""
        import jax
        from jax.extend.core import ClosedJaxpr

        if jax.__version_info__ < (0, 10):
            pytest.skip("Older versions keep them")
        model = FCN8s(2, filters=(2,) * 5, fc_units=2, padding="same")

        def traces_after(*sides):
            for side in sides:
                model.predict_on_batch(np.zeros((1, side, side, 3), "uint8"))
            gc.collect()
            return sum(isinstance(value, ClosedJaxpr) for value in gc.get_objects())

        assert traces_after(33, 34) == traces_after(35, 36, 37)

    def test_of_other_functions_stay_and_nothing_is_compiled_again(self):
        import jax

        traced = []

        @jax.jit
        def other(x):
            traced.append(x.shape)
            return jax.numpy.pad(jax.nn.relu(x), 1)

        x = jax.numpy.ones((3, 3))
        other(x)
        jax.numpy.add(x, x)
        model = FCN8s(2, filters=(2,) * 5, fc_units=2, padding="same")
        model.predict_on_batch(np.zeros((1, 33, 33, 3), "uint8"))
        compiled = []
        jax.monitoring.register_event_duration_secs_listener(
            lambda event, *_, **__: compiled.append(event) if "compile" in event else None
        )
        other(x)
        jax.numpy.add(x, x)
        other.lower(x)
        assert traced == [(3, 3)]
        assert not any("backend_compile" in event for event in compiled)


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="PyTorch's oneDNN alone reads it")
@pytest.mark.parametrize("name", ["ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"])
def test_onednn_keeps_few_primitives(name):
    import keras_fcn.models.fcn  # noqa: F401

    assert int(os.environ[name]) == 64


def test_memory_goes_back_when_the_size_changes(monkeypatch):
    class Model:
        data_format = "channels_last"

        def predict_on_batch(self, images):
            return np.zeros((*images.shape[:3], 2))

    calls = []
    inference.predict_label_map(Model(), np.zeros((2, 2, 3)))
    monkeypatch.setattr(inference.prediction, "return_freed_memory", lambda: calls.append(1))
    for size, count in (((3, 4), 1), ((3, 4), 1), ((5, 4), 2), ((5, 4), 2), ((3, 4), 3)):
        inference.predict_label_map(Model(), np.zeros((*size, 3)))
        assert len(calls) == count
