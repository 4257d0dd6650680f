"""After an exception a model has the weights of its last whole step."""

import os
import signal

import keras
import numpy as np
import pytest
from helpers import NARROW_FILTERS, variables_as_numpy

from keras_fcn import FCN32s
from keras_fcn.losses import SparseCategoricalCrossentropy

IMAGES = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3)).astype("float32")
LABEL_MAPS = np.random.default_rng(1).integers(0, 3, (1, 16, 16)).astype("int32")


def compiled_model():
    keras.utils.set_random_seed(0)
    model = FCN32s(3, filters=NARROW_FILTERS, fc_units=8, padding="same", dropout_rate=0)
    model.compile(keras.optimizers.SGD(0.1), SparseCategoricalCrossentropy(from_logits=True))
    return model


class Batches(keras.utils.PyDataset):
    """Three batches; `fail` is called in place of the second."""

    def __init__(self, fail):
        super().__init__()
        self.fail, self.is_failing = fail, False

    def __len__(self):
        return 3

    def __getitem__(self, index):
        if index == 1 and self.is_failing:
            return self.fail()
        return IMAGES, LABEL_MAPS


def lost_file():
    raise OSError("a damaged file")


def other_size():
    return IMAGES, LABEL_MAPS[:, 1:]


def interrupted():
    raise KeyboardInterrupt


FAILURES = {f.__name__: f for f in (lost_file, other_size, interrupted)}


def assert_has_weights_of(model, expected):
    for name, value in variables_as_numpy(model).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(name, marks=() if name == "lost_file" else pytest.mark.gate)
        for name in FAILURES
    ],
)
def test_fit_leaves_the_weights_of_the_last_whole_step(failure, tmp_path):
    whole, model = compiled_model(), compiled_model()
    whole.train_on_batch(IMAGES, LABEL_MAPS)
    data = Batches(FAILURES[failure])
    data.is_failing = True
    with pytest.raises(BaseException):  # noqa: PT011, B017
        model.fit(data, shuffle=False, verbose=0)
    assert_has_weights_of(model, variables_as_numpy(whole))
    # It predicts, trains and is saved as before.
    assert model.predict(IMAGES, verbose=0).shape == (1, 16, 16, 3)
    model.save(tmp_path / "model.keras")
    whole.train_on_batch(IMAGES, LABEL_MAPS)
    model.train_on_batch(IMAGES, LABEL_MAPS)
    assert_has_weights_of(model, variables_as_numpy(whole))


@pytest.mark.gate
@pytest.mark.parametrize("method", ["evaluate", "predict"])
def test_what_only_looks_changes_no_weights(method):
    model = compiled_model()
    expected = variables_as_numpy(model)
    data = Batches(lost_file)
    data.is_failing = True
    with pytest.raises(Exception, match="damaged"):
        getattr(model, method)(data, verbose=0)
    assert_has_weights_of(model, expected)
    assert np.isfinite(model.train_on_batch(IMAGES, LABEL_MAPS))


@pytest.mark.gate
def test_an_exception_in_a_callback_comes_after_a_whole_step():
    class Fails(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise OSError("a full disk")

    whole, model = compiled_model(), compiled_model()
    whole.train_on_batch(IMAGES, LABEL_MAPS)
    with pytest.raises(OSError, match="full disk"):
        model.fit(IMAGES, LABEL_MAPS, verbose=0, callbacks=[Fails()])
    assert_has_weights_of(model, variables_as_numpy(whole))


@pytest.mark.parametrize("method", [pytest.param("fit", marks=pytest.mark.gate), "train_on_batch"])
def test_ctrl_c_within_a_step_waits_for_its_end(method, monkeypatch):
    """The signal comes from the loss, which is called where a step of another size is traced."""
    larger = np.repeat(IMAGES, 2, axis=1), np.repeat(LABEL_MAPS, 2, axis=1)
    whole, model = compiled_model(), compiled_model()
    loss = SparseCategoricalCrossentropy(from_logits=True)
    call, armed = loss.call, []

    def interrupting(y_true, y_pred):
        if armed:
            armed.clear()
            os.kill(os.getpid(), signal.SIGINT)
        return call(y_true, y_pred)

    monkeypatch.setattr(loss, "call", interrupting)
    model.compile(keras.optimizers.SGD(0.1), loss)
    for each in (whole, model):
        each.train_on_batch(IMAGES, LABEL_MAPS)
    armed.append("in the next step")
    with pytest.raises(KeyboardInterrupt):
        getattr(model, method)(*larger, **({"verbose": 0} if method == "fit" else {}))
    if keras.backend.backend() != "tensorflow":  # Where it ends the tracing: no step has begun.
        whole.train_on_batch(*larger)
    assert_has_weights_of(model, variables_as_numpy(whole))
