"""Several threads predict with one model, as a server does."""

import concurrent.futures
import time

import keras
import numpy as np
import pytest
from helpers import NARROW_FILTERS, randomize

from keras_fcn import FCN8s

THREADS, ROUNDS = 4, 3
SIZES = ((24, 32), (32, 32), (40, 24))


def small():
    model = FCN8s(3, filters=NARROW_FILTERS, fc_units=4, padding="same")
    randomize(model, seed=0)
    return model


def image(size):
    return np.random.default_rng(size).integers(0, 256, (1, *size, 3)).astype("float32")


PREDICTIONS = {
    "predict": lambda model, images: model.predict(images, verbose=0),
    "predict in batches": lambda model, images: model.predict(
        np.concatenate([images, images]), batch_size=1, verbose=0
    )[:1],
    "predict_on_batch": lambda model, images: model.predict_on_batch(images),
    "call": lambda model, images: keras.ops.convert_to_numpy(model(images)),
}


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(how, marks=() if how == "predict in batches" else pytest.mark.gate)
        for how in PREDICTIONS
    ],
)
def test_every_thread_gets_its_own_images_logits(how, tmp_path):
    predict = PREDICTIONS[how]
    # Calls compile nothing as a whole, and JAX takes long over each.
    rounds, sizes = (1, SIZES[:2]) if how == "call" else (ROUNDS, SIZES)
    alone = small()
    expected = {size: alone.predict_on_batch(image(size)) for size in sizes}
    model = small()  # That no thread has used yet.
    model.save(tmp_path / "second.keras")

    def work(number):
        for turn in range(rounds * len(sizes)):
            size = sizes[(turn + number) % len(sizes)]
            logits = predict(model, image(size))
            np.testing.assert_allclose(logits, expected[size], rtol=1e-4, atol=1e-4)
        return number

    def load(_):
        second = keras.saving.load_model(tmp_path / "second.keras")
        return predict(second, image(SIZES[0])).shape

    with concurrent.futures.ThreadPoolExecutor(THREADS + 1) as threads:
        loaded = threads.submit(load, None)
        assert sorted(threads.map(work, range(THREADS))) == list(range(THREADS))
        assert loaded.result() == (1, *SIZES[0], 3)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX alone uses memory up")
def test_a_prediction_does_not_use_up_the_weights():
    model = small()
    before = [variable.value for variable in model.variables]
    model.predict(image(SIZES[0]), verbose=0)
    model.predict(np.concatenate([image(SIZES[0])] * 2), batch_size=1, verbose=0)
    assert all(now.value is then for now, then in zip(model.variables, before, strict=True))
    assert not any(value.is_deleted() for value in before)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX alone makes it under a lock")
def test_threads_that_come_at_once_make_one_prediction_function(monkeypatch):
    model, made = small(), []
    make = model._made_predict_function

    def slowly():
        made.append(None)
        time.sleep(0.3)
        return make()

    monkeypatch.setattr(model, "_made_predict_function", slowly)
    with concurrent.futures.ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(lambda _: model.make_predict_function(), range(THREADS)))
    assert len(made) == 1
