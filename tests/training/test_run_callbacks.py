import functools
import re

import keras
import numpy as np
import pytest
from training.small_runs import STEPS, Stop, arrays, assert_equal, small_recipe

from keras_fcn.cli import main
from keras_fcn.training import StagedRecipe, trainer, validation
from keras_fcn.training.early_stopping import has_lost_patience
from keras_fcn.training.evaluate import Scores
from keras_fcn.training.recipe import replace
from keras_fcn.training.run import Run

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*random initial values:UserWarning"),
    pytest.mark.usefixtures("three_layers", "blank_plots"),
]
train = functools.partial(trainer.train, keep_state=True)
resume = functools.partial(trainer.resume, keep_state=True)


@pytest.fixture
def recipe(tmp_path):
    """Two epochs of two steps at a constant rate."""
    recipe = small_recipe(tmp_path)
    return replace(recipe, schedule="constant", warmup=0.0, learning_rate=1e-2)


class Recorder(keras.callbacks.Callback):
    """Records the calls of its methods, but not those for the batches of validations."""

    def __init__(self):
        super().__init__()
        self.calls = []
        self.logs = []

    def _record(self, *call):
        self.calls.append(call)

    def on_train_begin(self, logs=None):
        self._record("train begin", self.params["epochs"], self.params["steps"])

    def on_epoch_begin(self, epoch, logs=None):
        self._record("epoch begin", epoch)

    def on_train_batch_begin(self, batch, logs=None):
        self._record("batch begin", batch)

    def on_train_batch_end(self, batch, logs=None):
        assert logs["loss"] >= 0
        self._record("batch end", batch)

    def on_test_begin(self, logs=None):
        self._record("test begin")

    def on_test_end(self, logs=None):
        self._record("test end")

    def on_epoch_end(self, epoch, logs=None):
        self.logs.append(dict(logs))
        self._record("epoch end", epoch)

    def on_train_end(self, logs=None):
        self._record("train end")


class StopsAt(keras.callbacks.Callback):
    """Ends the run at a batch, as TerminateOnNaN does."""

    def on_train_batch_end(self, batch, logs=None):
        self.model.stop_training = True


class Interrupts(keras.callbacks.Callback):
    """Ends the process, like Ctrl-C, at the end of the first step of an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self._epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self._epoch:
            raise Stop


@pytest.mark.any_backend
def test_callbacks_are_called_as_by_one_fit_over_the_run(recipe, tmp_path):
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(loss="mse", optimizer="sgd")
    ours, of_keras, x = Recorder(), Recorder(), np.zeros((3, 1))
    model.fit(x, x, batch_size=2, epochs=2, validation_data=(x, x), callbacks=[of_keras], verbose=0)
    run = train(recipe, tmp_path / "run", callbacks=[ours])
    assert ours.calls == of_keras.calls
    history = run.history()
    assert [logs["val_mean_iou"] for logs in ours.logs] == [row["val_mean_iou"] for row in history]
    assert ours.logs[0].keys() == history[0].keys() - {"epoch"}
    assert ours.logs[0].keys() >= of_keras.logs[0].keys() == {"loss", "val_loss"}


@pytest.mark.any_backend
def test_early_stopping_and_the_best_model_of_checkpoints(recipe, tmp_path):
    recipe = replace(recipe, epochs=6)
    stopping = keras.callbacks.EarlyStopping("val_mean_iou", mode="max", patience=1)
    # Rises once, then falls: the third epoch is the first without a better score.
    scores = iter([0.3, 0.5, 0.4, 0.9])

    class Scores(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["val_mean_iou"] = next(scores)

    file = tmp_path / "best.weights.h5"
    best = keras.callbacks.ModelCheckpoint(
        file, "val_mean_iou", mode="max", save_best_only=True, save_weights_only=True
    )
    run = train(recipe, tmp_path / "run", callbacks=[Scores(), stopping, best])
    assert len(run.history()) == 3
    assert stopping.stopped_epoch == 2
    assert best.best == 0.5
    assert run.is_finished
    assert file.is_file()


def test_the_state_of_callbacks_goes_on_after_a_resume(recipe, tmp_path):
    recipe = replace(recipe, epochs=4, ema=0.5)

    def callbacks(stop):
        # The loss cannot fall by 100, so that every second epoch halves the rate.
        plateau = keras.callbacks.ReduceLROnPlateau("loss", 0.5, patience=2, min_delta=100)
        return [plateau, keras.callbacks.SwapEMAWeights(swap_on_epoch=True), Interrupts(stop)]

    unbroken = train(recipe, tmp_path / "unbroken", callbacks=callbacks(None))
    with pytest.raises(Stop):
        train(recipe, tmp_path / "run", callbacks=callbacks(2))
    run = resume(tmp_path / "run", callbacks=callbacks(None))
    rates = [row["learning_rate"] for row in run.history()]
    assert rates == pytest.approx([1e-2, 1e-2, 1e-2, 5e-3])
    assert_equal(arrays(run), arrays(unbroken))


def test_keras_swaps_averages_equal_to_those_of_the_recipe(recipe, tmp_path):
    recipe = replace(recipe, ema=0.5)
    own = train(recipe, tmp_path / "own")
    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    run = train(recipe, tmp_path / "run", callbacks=[swap])
    for received, expected in zip(
        run.load_model().get_weights(), own.load_model().get_weights(), strict=True
    ):
        np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-6)
    assert run.history()[-1]["val_loss"] == pytest.approx(own.history()[-1]["val_loss"], rel=1e-4)


def test_callbacks_of_a_run_in_float16_whose_optimizer_scales_the_loss(recipe, tmp_path):
    plateau = keras.callbacks.ReduceLROnPlateau("loss", 0.5, patience=1, min_delta=100)
    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    recipe = replace(recipe, precision="mixed_float16", ema=0.5, epochs=3)
    run = train(recipe, tmp_path / "run", callbacks=[plateau, swap])
    rates = [row["learning_rate"] for row in run.history()]
    assert rates == pytest.approx([1e-2, 1e-2, 5e-3])


def test_a_callback_that_stops_within_an_epoch_ends_it_there(recipe, tmp_path):
    recorder = Recorder()
    run = train(recipe, tmp_path / "run", callbacks=[StopsAt(), recorder])
    assert [row["epoch"] for row in run.history()] == [1]
    assert ("batch end", 1) not in recorder.calls
    assert recorder.calls[-2:] == [("epoch end", 0), ("train end",)]
    # It has ended for good.
    assert len(resume(run.path, callbacks=[StopsAt(), Recorder()]).history()) == 1


@pytest.mark.any_backend
def test_patience_ends_a_run_whose_validation_mean_iou_does_not_rise(
    recipe, tmp_path, monkeypatch, capsys
):
    # Shares of right pixels, whose order is that of mean IoU; equal is not better.
    right = iter([5, 8, 7, 8, 9])
    matrix = np.zeros((3, 3), "int64")

    def evaluate(*args, **kwargs):
        matrix[0, 0] = next(right)
        matrix[0, 1] = 10 - matrix[0, 0]
        return Scores(matrix.copy(), loss=1.0)

    monkeypatch.setattr(validation, "evaluate", evaluate)
    run = train(replace(recipe, epochs=9, patience=2), tmp_path / "run")
    assert [row["epoch"] for row in run.history()] == [1, 2, 3, 4]
    assert "ends early, after 4 of 9 epochs" in capsys.readouterr().err
    recipe = replace(recipe, val_images=None, val_labels=None, patience=None)
    with pytest.raises(ValueError, match="`patience` must be none without a validation split"):
        replace(recipe, patience=2)


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("scores", "lost"),
    [
        ([0.5, 0.8, 0.7], False),
        ([0.5, 0.8, 0.7, 0.8], True),
        ([0.8, 0.7, None], False),  # An epoch without validation is no end.
        ([0.8, None, None, 0.7], True),
        ([None], False),
    ],
)
def test_patience_counts_the_epochs_since_the_best(scores, lost):
    history = [
        {"epoch": epoch} | ({} if score is None else {"val_mean_iou": score})
        for epoch, score in enumerate(scores, start=1)
    ]
    assert has_lost_patience(history, patience=2) == lost


@pytest.mark.any_backend
def test_each_stage_of_a_staged_recipe_is_a_run(recipe, tmp_path):
    recorder = Recorder()
    staged = StagedRecipe(stages={"32s": recipe, "16s": replace(recipe, model="fcn16s")})
    train(staged, tmp_path / "run", callbacks=[recorder])
    begins = [call for call in recorder.calls if call[0] == "train begin"]
    assert begins == [("train begin", 2, STEPS)] * 2


@pytest.mark.any_backend
class TestErrors:
    @pytest.mark.parametrize(
        ("callbacks", "changes", "message"),
        [
            (["plateau"], {}, "`callbacks` must hold instances of keras.callbacks.Callback"),
            (
                [keras.callbacks.ReduceLROnPlateau()],
                {"schedule": "cosine"},
                "ReduceLROnPlateau sets the learning rate and must be used with schedule='const",
            ),
            ([keras.callbacks.SwapEMAWeights()], {}, "SwapEMAWeights must be used with a recipe"),
        ],
    )
    def test_before_a_folder_is_made(self, recipe, tmp_path, callbacks, changes, message):
        with pytest.raises(ValueError, match=re.escape(message)):
            train(replace(recipe, **changes), tmp_path / "run", callbacks=callbacks)
        assert not (tmp_path / "run").exists()

    def test_a_run_resumes_with_the_callbacks_it_was_begun_with(self, recipe, tmp_path, capsys):
        with pytest.raises(Stop):
            train(recipe, tmp_path / "run", callbacks=[Interrupts(1)])
        before = Run(tmp_path / "run").history()
        assert main(["train", "--resume", str(tmp_path / "run")]) == 1
        error = capsys.readouterr().err
        assert "was begun in Python with callbacks: Interrupts. Received: none." in error
        assert Run(tmp_path / "run").history() == before
