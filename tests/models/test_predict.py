"""What `predict` gives, of one batch and of several."""

import keras
import numpy as np
import pytest
from helpers import NARROW_FILTERS

from keras_fcn import FCN8s, FCN32s

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 9, 14, 3)).astype("float32")


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    model = FCN8s(5, filters=NARROW_FILTERS, fc_units=16, data_format="channels_last")
    score = model.get_layer("score_pool3")
    score.set_weights([np.random.default_rng(1).normal(0, 1, x.shape) for x in score.get_weights()])
    return model


def call(model, images):
    if keras.backend.backend() == "jax":  # Which else would compile every operation by itself.
        import jax

        return np.asarray(jax.jit(lambda images: model(images))(images))
    return keras.ops.convert_to_numpy(model(images))


@pytest.mark.parametrize("options", [{}, {"batch_size": 3}, {"batch_size": 2}, {"verbose": 1}])
def test_logits_are_those_of_a_call(model, options):
    expected = call(model, IMAGES)
    assert expected.std() > 1
    logits = model.predict(IMAGES, **{"verbose": 0, **options})
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5 * abs(expected).max())


@pytest.mark.parametrize("predict", ["predict", "predict_on_batch"])
def test_logits_may_be_written_to_and_lie_in_order(model, predict):
    logits = getattr(model, predict)(IMAGES, **({"verbose": 0} if predict == "predict" else {}))
    assert isinstance(logits, np.ndarray)
    assert logits.dtype == "float32"
    assert logits.flags.writeable
    assert logits.flags.c_contiguous
    before = logits.copy()
    logits[:] = 0
    np.testing.assert_array_equal(getattr(model, predict)(IMAGES), before)


def test_callbacks_are_told_of_each_batch(model):
    class Counts(keras.callbacks.Callback):
        def on_predict_batch_end(self, batch, logs=None):
            seen.append(batch)

    seen = []
    model.predict(IMAGES, batch_size=3, verbose=0, callbacks=[Counts()])
    model.predict(IMAGES, batch_size=2, verbose=0, callbacks=[Counts()])
    assert seen == [0, 0, 1]


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="Keras's own loop")
def test_no_logits_stay_on_the_device_until_the_last_batch(model, monkeypatch):
    model.make_predict_function()
    step, seen = model.predict_function, []

    def spy(*arguments):
        result = step(*arguments)
        seen.append(result[0] if keras.backend.backend() == "jax" else result)
        return result

    monkeypatch.setattr(model, "predict_function", spy)
    logits = model.predict(IMAGES, batch_size=2, verbose=0)
    assert [type(outputs) for outputs in seen] == [np.ndarray] * 2
    np.testing.assert_array_equal(np.concatenate(seen), logits)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX's memory of the host")
def test_logits_come_from_an_accelerator_through_pinned_memory(model, monkeypatch):
    import jax

    from keras_fcn.backends import backend

    if "pinned_host" not in {memory.kind for memory in jax.devices()[0].addressable_memories()}:
        pytest.skip("CPUs have no pinned memory in old releases of JAX.")
    expected, kinds = model.predict(IMAGES, verbose=0), []
    device_put = jax.device_put

    def spy(array, sharding):
        moved = device_put(array, sharding)
        kinds.append(moved.sharding.memory_kind)
        return moved

    # JAX's CPUs have pinned memory, too.
    monkeypatch.setattr(type(backend), "computes_on_cpu", lambda self: False)
    monkeypatch.setattr(jax, "device_put", spy)
    logits = model.predict(IMAGES, verbose=0)
    assert kinds == ["pinned_host"]
    assert logits.flags.writeable
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)


def test_the_weights_of_now_are_used(model):
    before = model.predict(IMAGES, verbose=0)
    bias = model.get_layer("score_fr").bias
    bias.assign(bias + 1)
    expected = call(model, IMAGES)
    assert (expected - before).max() > 0.1
    np.testing.assert_allclose(model.predict(IMAGES, verbose=0), expected, rtol=0, atol=1e-4)
    bias.assign(bias - 1)


@pytest.mark.gate
def test_a_prediction_between_epochs_leaves_the_training_as_it_is():
    class Predicts(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(self.model.predict(IMAGES, verbose=0))

    label_maps = np.random.default_rng(2).integers(0, 5, IMAGES.shape[:3])
    seen, results = [], []
    for callbacks in ([], [Predicts()]):
        keras.utils.set_random_seed(0)
        model = FCN32s(5, filters=NARROW_FILTERS, fc_units=16, padding="same")
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(1e-2), loss)
        model.fit(IMAGES, label_maps, batch_size=2, epochs=2, verbose=0, callbacks=callbacks)
        results.append(model.predict(IMAGES, verbose=0))
    np.testing.assert_array_equal(results[1], results[0])
    np.testing.assert_array_equal(seen[-1], results[1])
    assert np.abs(seen[1] - seen[0]).max() > 1e-3
