"""Predictions of images of ever new sizes keep no program, and no memory, for each of them."""

import os
import weakref

import keras
import numpy as np
import pytest

from keras_fcn import inference

is_jax = pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX alone has programs")


@is_jax
class TestProgramOfEachSize:
    def test_the_last_sizes_have_a_program_and_no_others(self):
        from keras_fcn.backends import jax_trainer

        made = []

        def compiled():
            def program(state, data):
                return state + data[0].sum()

            made.append(weakref.ref(program))
            return program

        step = jax_trainer._ProgramOfEachSize(compiled)
        for size in range(1, 41):
            assert step(1.0, (np.ones(size),)) == size + 1
        assert len(made) == 40
        assert [ref() is not None for ref in made] == [False] * 24 + [True] * 16
        # 25 is the oldest; used again, it outlives 26.
        assert step(1.0, (np.ones(25),)) == 26
        step(1.0, (np.ones(41),))
        assert len(made) == 41
        assert [ref() is not None for ref in made[24:26]] == [True, False]

    def test_the_dtype_counts_too(self):
        from keras_fcn.backends import jax_trainer

        made = []
        step = jax_trainer._ProgramOfEachSize(lambda: made.append(1) or (lambda state, data: 0))
        for dtype in ("float32", "uint8", "float32"):
            step(0, (np.zeros(3, dtype),))
        assert len(made) == 2


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
