"""Exponential moving average (EMA) of the weights during training."""

import contextlib
from collections.abc import Iterator

import keras
from keras import ops


class MovingAverage:
    """Exponential moving average of variables; it starts with their values after the first step.

    Keras's own (`use_ema` of its optimizers) overwrites the weights whenever `fit` ends, which here
    is after every epoch, and fails on JAX.

    Args:
        variables: Keras variables.
        decay: Decay of the average per step, from 0 to 1.
    """

    def __init__(self, variables: list[keras.Variable], decay: float):
        self._of = list(variables)
        self._decay = decay
        self._averages = [
            keras.Variable(ops.zeros(v.shape, v.dtype), trainable=False, name="average")
            for v in self._of
        ]
        self._num_updates = keras.Variable(0, trainable=False, dtype="int32", name="num_updates")

    @property
    def variables(self) -> list[keras.Variable]:
        """The state of the average, for checkpoints."""
        return [self._num_updates, *self._averages]

    def update(self) -> None:
        """Updates the average with the current values of the variables."""
        decay = self._decay if int(self._num_updates) else 0.0
        for average, variable in zip(self._averages, self._of, strict=True):
            average.assign(average + (1 - decay) * (variable - average))
        self._num_updates.assign(self._num_updates + 1)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Context manager in which the variables have the values of their averages."""
        kept = [ops.copy(variable.value) for variable in self._of]
        for variable, average in zip(self._of, self._averages, strict=True):
            # A copy: JAX may free the arrays of a model (buffer donation).
            variable.assign(ops.copy(average.value))
        try:
            yield
        finally:
            for variable, value in zip(self._of, kept, strict=True):
                variable.assign(value)
