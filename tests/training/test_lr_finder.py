import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from distribution.two_processes import place
from helpers import write_pairs
from PIL import Image
from training.small_runs import small_recipe

from keras_fcn.cli import main
from keras_fcn.training import lr_finder
from keras_fcn.training.lr_finder import RateSearch, find_learning_rate, range_test
from keras_fcn.training.recipe import replace

pytestmark = pytest.mark.filterwarnings("ignore:.*random initial values:UserWarning")


def quadratic(x):
    """A model `y = w * x` from w = 1 towards 0, and the second derivative of its loss."""
    model = keras.Sequential([keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")])
    model.compile(optimizer=keras.optimizers.SGD(1.0), loss="mse")
    model.build((None, 1))
    return model, 2 * x**2


def batches_of(x, number=7):
    data = np.full((number, 1), x, "float32")
    return tf.data.Dataset.from_tensor_slices((data, 0 * data)).batch(1)


def expected_search(rates, x, accumulate=1):
    """By hand: gradient descent multiplies w by 1 - rate * curvature."""
    w, average, losses, smoothed = 1.0, 0.0, [], []
    for number, rate in enumerate(rates, start=1):
        losses.append((w * x) ** 2)
        average = 0.9 * average + 0.1 * losses[-1]
        smoothed.append(average / (1 - 0.9**number))
        if smoothed[-1] > 4 * min(smoothed):
            break
        w *= 1 - rate * 2 * x**2
    return losses, smoothed


class TestAgainstAQuadratic:
    def test_losses_grow_above_two_over_the_curvature(self):
        rates = [float(rate) for rate in np.geomspace(1e-3, 30, 60)]
        model, curvature = quadratic(0.7)
        search = range_test(model, [batches_of(0.7)] * 20, rates)
        losses, smoothed = expected_search(rates, 0.7)
        assert search.diverged
        assert len(search.losses) == len(losses) < len(rates)
        assert search.rates == rates[: len(losses)]
        np.testing.assert_allclose(search.losses, losses, rtol=1e-3)
        np.testing.assert_allclose(search.smoothed, smoothed, rtol=1e-3)
        # The loss of a step shows what the rate of the step before did.
        growing = [rates[n] for n in range(len(losses) - 1) if search.losses[n + 1] > losses[n]]
        assert growing[0] == min(rate for rate in rates if rate > 2 / curvature)

    def test_a_search_that_does_not_diverge_has_all_rates(self):
        model, curvature = quadratic(1.0)
        rates = [float(rate) for rate in np.geomspace(1e-3, 0.4 / curvature, 20)]
        search = range_test(model, [batches_of(1.0)] * 20, rates)
        assert not search.diverged
        assert len(search.losses) == 20

    def test_a_step_is_an_update_of_the_weights(self):
        rates = [float(rate) for rate in np.geomspace(1e-2, 0.4, 12)]
        model, _ = quadratic(1.0)
        optimizer = keras.optimizers.SGD(1.0, gradient_accumulation_steps=2)
        model.compile(optimizer=optimizer, loss="mse")
        search = range_test(model, [batches_of(1.0, 8)] * 20, rates, accumulate=2)
        np.testing.assert_allclose(search.losses, expected_search(rates, 1.0)[0], rtol=1e-3)


@pytest.mark.any_backend
class TestSuggestion:
    RATES = tuple(float(rate) for rate in np.geomspace(1e-5, 1e-1, 41))

    def test_is_the_steepest_descent_of_the_smoothed_loss(self):
        # A logistic fall around 1e-3, and a rise from 1e-2.
        rates = np.array(self.RATES)
        losses = 1 / (1 + (rates / 1e-3) ** 2) + 50 * np.maximum(0, rates - 1e-2)
        search = RateSearch(list(rates), [float(loss) for loss in losses], diverged=False)
        smoothed = search.smoothed
        slopes = [
            (smoothed[n + 1] - smoothed[n - 1]) / math.log(rates[n + 1] / rates[n - 1])
            for n in range(10, 40)
        ]
        assert search.suggestion == rates[10 + int(np.argmin(slopes))]
        # Behind the logistic's centre by the lag of the average.
        assert 1e-3 < search.suggestion < 1e-2

    def test_noise_of_the_first_steps_does_not_count(self):
        losses = [100.0, *[1.0] * 20, *np.linspace(1, 0.5, 20)]
        assert RateSearch(list(self.RATES), losses, False).suggestion >= self.RATES[10]

    def test_a_loss_that_rises_suggests_nothing(self):
        losses = [float(loss) for loss in np.linspace(1, 2, 41)]
        assert RateSearch(list(self.RATES), losses, False).suggestion is None
        assert RateSearch([1e-3, 1e-2], [1.0, math.nan], True).suggestion is None

    def test_a_loss_that_is_not_finite_ends_the_search(self):
        search = lr_finder._Search([1e-3, 1e-2, 1e-1], 1, lambda **note: None)
        search.set_model(keras.Sequential())
        search.on_train_batch_end(0, {"loss": 1.0})
        assert not search.is_done
        search.on_train_batch_end(1, {"loss": math.nan})
        assert search.is_done
        assert search.diverged
        json.dumps(RateSearch([1e-3, 1e-2], search.losses, True).as_dict(), allow_nan=False)


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"steps": 1}, "`steps` must be at least 2"),
        ({"smallest": 0.0}, "`smallest` must be above 0"),
        ({"smallest": 1.0, "largest": 0.1}, "less than `largest`"),
    ],
)
def test_wrong_numbers(options, reason):
    with pytest.raises(ValueError, match=reason):
        find_learning_rate("folder", **options)


def test_several_processes_are_refused_before_they_search_alike(tmp_path, monkeypatch, capsys):
    """They would each print a rate and write the same picture."""
    monkeypatch.chdir(tmp_path)
    for name, value in place(1, ["127.0.0.1:1", "127.0.0.1:2"]).items():
        monkeypatch.setenv(name, value)
    assert main(["lr-find", "--images", "i", "--labels", "l", "--num-classes", "3"]) == 1
    assert "must be run in one process" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("three_layers")
class TestRecipes:
    def test_the_recipe_is_searched_over_several_epochs(self, tmp_path):
        recipe = replace(small_recipe(tmp_path), ema=0.9, deep_supervision=0.0, jitter=True)
        search = find_learning_rate(recipe, steps=5, smallest=1e-4, largest=1e-1)
        # Two steps an epoch.
        assert search.rates == pytest.approx(np.geomspace(1e-4, 1e-1, 5))
        assert len(search.losses) == 5
        assert search.losses[0] == pytest.approx(math.log(3), rel=1e-3)

    def test_the_command_prints_draws_and_leaves_nothing_else(self, tmp_path, capsys, monkeypatch):
        images, labels = write_pairs(tmp_path, "abc", (8, 10))
        out = tmp_path / "out"
        out.mkdir()
        monkeypatch.chdir(out)
        command = ["lr-find", "--images", str(images), "--labels", str(labels), "--model", "fcn32s"]
        command += ["--num-classes", "3", "--ignore-class", "255", "--set", "padding=same"]
        assert main([*command, "--steps", "14", "--largest", "0.1"]) == 0
        printed = capsys.readouterr().out
        assert "rates              1e-07 to 0.1" in printed
        assert "Curve: lr.png" in printed
        assert [path.name for path in out.iterdir()] == ["lr.png"]
        assert Image.open(out / "lr.png").width > 300
        if keras.backend.backend() == "tensorflow":
            assert main([*command, "--steps", "3", "--json", "--set", "learning_rate=1"]) == 0
            assert len(json.loads(capsys.readouterr().out)["losses"]) == 3
