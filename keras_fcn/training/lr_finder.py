"""The learning-rate range test: at which rates a recipe learns, and where it diverges."""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np

from keras_fcn.backends import backend
from keras_fcn.training.objective import (
    build_model,
    compiled,
    with_label_map_of_each_head,
)
from keras_fcn.training.progress import progress_bar
from keras_fcn.training.recipe import Recipe, StagedRecipe
from keras_fcn.training.recipes import find_recipe
from keras_fcn.training.splits import Split, check_files, open_splits

_SMOOTHING = 0.9
_LIMIT = 4.0  # Of the smoothed loss, as a multiple of its minimum.
_BURN_IN = 10  # Steps over which the moving average forms: 1 / (1 - _SMOOTHING).


@dataclasses.dataclass(frozen=True)
class RateSearch:
    """Losses at growing learning rates.

    Args:
        rates: The learning rate of each step.
        losses: The loss of each step, before the step; the last may be infinite or NaN.
        diverged: Whether the search stopped because the loss diverged.
    """

    rates: list[float]
    losses: list[float]
    diverged: bool

    @property
    def smoothed(self) -> list[float]:
        """The exponential moving average of the losses, with decay 0.9 and bias correction."""
        return _smoothed(self.losses)

    @property
    def suggestion(self) -> float | None:
        """The rate at which the smoothed loss falls most steeply over the logarithm of the rate.

        It is a rate at which the loss falls fast, well below the rate of the smallest loss, where
        training is already about to diverge. Slopes are central differences. The first ten steps do
        not count, over which the average forms, and neither do those after the smallest loss.
        `None` if the loss never falls. The average lags behind the losses by nine steps, so that
        few steps over many decades suggest a rate that is too large.
        """
        smoothed = [loss for loss in self.smoothed if math.isfinite(loss)]
        first = min(_BURN_IN, len(smoothed) // 4)
        if len(smoothed) - first < 3:
            return None
        last = first + int(np.argmin(smoothed[first:]))
        slopes = np.gradient(smoothed, np.log(self.rates[: len(smoothed)]))[first : last + 1]
        steepest = int(np.argmin(slopes))
        return self.rates[first + steepest] if slopes[steepest] < 0 else None

    def as_dict(self) -> dict[str, Any]:
        """Returns what `keras-fcn lr-find --json` prints."""
        finite = [loss if math.isfinite(loss) else None for loss in self.losses]
        smoothed = [loss if math.isfinite(loss) else None for loss in self.smoothed]
        return {
            "suggestion": self.suggestion,
            "diverged": self.diverged,
            "rates": self.rates,
            "losses": finite,
            "smoothed": smoothed,
        }


def find_learning_rate(
    recipe: Recipe | StagedRecipe | str,
    *,
    steps: int = 100,
    smallest: float = 1e-7,
    largest: float = 1.0,
) -> RateSearch:
    """Trains a recipe's model while the learning rate grows exponentially, and returns the losses.

    Model, initial weights, loss, optimizer and batches are those of the recipe; its schedule and
    its moving average are not used. Nothing is written. With `accumulate`, a step is one update of
    the weights, and its loss the mean over its batches. The test ends when the smoothed loss
    exceeds four times its minimum, or when a loss is not finite.

    Args:
        recipe: A `Recipe`, or the name of one. Of a `StagedRecipe`, the first stage.
        steps: Number of rates.
        smallest: The first learning rate.
        largest: The last learning rate.

    Raises:
        FileNotFoundError, ValueError: As in `train`; if a number is out of range; if the first loss
            is not finite; if this process was started as one of several.

    References:
        - [Smith, 2017](https://arxiv.org/abs/1506.01186), section 3.3
    """
    rates = _rates(steps, smallest, largest)
    _check_one_process()
    recipe = find_recipe(recipe) if isinstance(recipe, str) else recipe
    if isinstance(recipe, StagedRecipe):
        recipe = next(iter(recipe.stages.values()))
    recipe = dataclasses.replace(
        recipe, schedule="constant", warmup=0.0, learning_rate=smallest, ema=None
    )
    train_split, val_split = open_splits(recipe)
    check_files((train_split, val_split), recipe)
    weights = None
    if recipe.class_weights is not None:
        weights = [float(w) for w in train_split.class_weights() ** recipe.class_weights_power]
    keras.utils.set_random_seed(recipe.seed)
    model = compiled(
        build_model(recipe, train_split.label_spaces),
        recipe,
        label_spaces=train_split.label_spaces,
        class_weights=weights,
        num_steps=steps * recipe.accumulate,
    )
    epochs = _epochs(train_split, recipe, model)
    return range_test(model, epochs, rates, accumulate=recipe.accumulate)


def range_test(
    model: keras.Model, epochs: Iterable[Iterable], rates: Sequence[float], accumulate: int = 1
) -> RateSearch:
    """Trains a compiled model with one learning rate after the other, and returns the losses.

    Args:
        model: The model. Its optimizer must have a constant learning rate.
        epochs: Data sets for `fit`, one after the other, with enough batches.
        rates: The learning rate of each step.
        accumulate: Number of batches of a step.

    Raises:
        ValueError: If the first loss is not finite.
    """
    with progress_bar("learning-rate range test", len(rates)) as advance:
        search = _Search(rates, accumulate, advance)
        for batches in epochs:
            model.fit(batches, shuffle=False, verbose=0, callbacks=[search])
            if search.is_done:
                break
    if not math.isfinite(search.losses[0]):
        raise ValueError(
            f"The loss must be finite before the first step. Received: {search.losses[0]}. "
            "`keras-fcn data check` and `keras_fcn.diagnose` look for the cause."
        )
    return RateSearch(list(rates[: len(search.losses)]), search.losses, search.diverged)


def _check_one_process():
    started = backend.started_processes()
    if started > 1:
        raise ValueError(
            "The learning-rate range test must be run in one process: a batch has the same loss on "
            f"any number of devices. Received: {started} processes. Start one, without torchrun, "
            "TF_CONFIG or KERAS_DISTRIBUTION_NUM_PROCESSES; its rate is that of all of them."
        )


def _rates(steps, smallest, largest):
    if steps < 2:
        raise ValueError(f"`steps` must be at least 2. Received: {steps=}.")
    if not 0 < smallest < largest < math.inf:
        raise ValueError(
            "`smallest` must be above 0 and less than `largest`. Received: "
            f"{smallest=}, {largest=}."
        )
    return [float(rate) for rate in np.geomspace(smallest, largest, steps)]


def _epochs(split: Split, recipe: Recipe, model: keras.Model) -> Iterable:
    for epoch in itertools.count():
        yield with_label_map_of_each_head(model, split.training_batches(recipe, epoch, 0))


class _Search(keras.callbacks.Callback):
    """Sets the learning rate of each step and keeps its loss."""

    def __init__(self, rates, accumulate, advance):
        super().__init__()
        self._rates, self._accumulate, self._advance = rates, accumulate, advance
        self._of_step = []
        self.losses = []
        self.diverged = self.is_done = False

    def on_train_batch_begin(self, batch, logs=None):
        # On JAX, `self.model` writes the training state to the variables, and `fit` reads them.
        model = self.model
        model.optimizer.learning_rate = self._rates[len(self.losses)]
        model.reset_metrics()  # The logs hold the mean since the last reset.

    def on_train_batch_end(self, batch, logs=None):
        self._of_step.append(float(logs["loss"]))
        if len(self._of_step) < self._accumulate and math.isfinite(self._of_step[-1]):
            return
        self.losses.append(float(np.mean(self._of_step)))
        self._of_step = []
        self._advance(note=f"rate {self._rates[len(self.losses) - 1]:.3g}, loss {logs['loss']:.4g}")
        smoothed = _smoothed(self.losses)
        self.diverged = not smoothed[-1] <= _LIMIT * min(smoothed)
        if self.diverged or len(self.losses) == len(self._rates):
            self.is_done = self.model.stop_training = True


def _smoothed(losses):
    average, smoothed = 0.0, []
    for number, loss in enumerate(losses, start=1):
        average = _SMOOTHING * average + (1 - _SMOOTHING) * loss
        smoothed.append(average / (1 - _SMOOTHING**number))
    return smoothed
