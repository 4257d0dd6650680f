"""Keras callbacks over a whole run, which calls `fit` once for each epoch."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_fcn.distribution import processes


class RunCallbacks:
    """Calls callbacks as one call of `fit` over the whole run would.

    `on_train_begin` is called once for each process of the run, before its first step. The state of
    a callback is what it has changed of its own attributes since then, as far as these are numbers,
    strings, booleans, `None`, functions of `keras.ops`, or lists and dictionaries of them: `wait`,
    `best` and `monitor_op` of `EarlyStopping`, but not its `best_weights`, which `best.keras` holds
    already.

    Args:
        callbacks: The callbacks, called in this order.
        model: The compiled model.
        num_epochs: Number of epochs of the whole run.
        steps_per_epoch: Number of batches of an epoch.

    Raises:
        ValueError: If a callback sets the learning rate, and the optimizer has a schedule.
    """

    def __init__(
        self,
        callbacks: Sequence[keras.callbacks.Callback],
        model: keras.Model,
        num_epochs: int,
        steps_per_epoch: int,
    ):
        self._callbacks = list(callbacks)
        self._check_rate(model.optimizer)
        self._list = keras.callbacks.CallbackList(
            self._callbacks, model=model, epochs=num_epochs, steps=steps_per_epoch, verbose=0
        )
        self._model = model
        self._stop = False
        self._initial: list[dict[str, Any]] = []

    def _check_rate(self, optimizer):
        setters = (keras.callbacks.ReduceLROnPlateau, keras.callbacks.LearningRateScheduler)
        rate = _without_loss_scale(optimizer).get_config()["learning_rate"]
        for callback in self._callbacks:
            if isinstance(callback, setters) and not isinstance(rate, float):
                raise ValueError(
                    f"{type(callback).__name__} sets the learning rate and must be used with "
                    "schedule='constant' and warmup=0. Received a recipe with a schedule."
                )

    def begin(self, states: Sequence[dict[str, Any]]) -> None:
        """Calls `on_train_begin`, then restores the states that a checkpoint holds."""
        if not self._callbacks:
            return
        self._model.stop_training = False
        self._list.on_train_begin()
        self._initial = [_simple_attributes(callback) for callback in self._callbacks]
        for callback, state in zip(self._callbacks, states, strict=False):
            vars(callback).update({name: _from_json(value) for name, value in state.items()})

    def states(self) -> list[dict[str, Any]]:
        """Returns the state of each callback as JSON values."""
        return [
            {
                name: value
                for name, value in _simple_attributes(callback).items()
                if name not in initial or value != initial[name]
            }
            for callback, initial in zip(self._callbacks, self._initial, strict=True)
        ]

    def begin_epoch(self, epoch: int) -> None:
        """Calls `on_epoch_begin` with the number of the epoch from 0."""
        if self._callbacks:
            self._list.on_epoch_begin(epoch)

    def begin_batch(self, batch: int) -> None:
        """Calls `on_train_batch_begin` with the number of the batch in its epoch, from 0."""
        if self._callbacks:
            self._list.on_train_batch_begin(batch)

    def end_batch(self, batch: int, logs: dict[str, Any]) -> None:
        """Calls `on_train_batch_end`."""
        if self._callbacks:
            self._list.on_train_batch_end(batch, logs)

    def begin_validation(self) -> None:
        """Calls `on_test_begin`."""
        if self._callbacks:
            self._list.on_test_begin()

    def end_validation(self, logs: dict[str, Any]) -> None:
        """Calls `on_test_end`."""
        if self._callbacks:
            self._list.on_test_end(logs)

    def end_epoch(self, epoch: int, logs: dict[str, Any]) -> bool:
        """Calls `on_epoch_end` and returns whether a callback of any process ends the run."""
        if not self._callbacks:
            return False
        # `fit` resets the attribute, but only at its start.
        stopped_before = self._model.stop_training
        self._list.on_epoch_end(epoch, logs)
        return any(processes.gather(bool(stopped_before or self._model.stop_training)))

    def end(self, logs: dict[str, Any]) -> None:
        """Calls `on_train_end`."""
        if self._callbacks:
            self._list.on_train_end(logs)


def _simple_attributes(callback):
    attributes = {name: value for name, value in vars(callback).items() if name != "params"}
    values = {name: _as_json(value) for name, value in attributes.items()}
    return {name: value for name, value in values.items() if value is not _NOT_SIMPLE}


_NOT_SIMPLE = object()
_FUNCTION = "function of keras.ops"


def _as_json(value):
    """Returns a copy of a value that JSON can hold, or `_NOT_SIMPLE`."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if callable(value) and getattr(keras.ops, getattr(value, "__name__", ""), None) is value:
        return {_FUNCTION: value.__name__}
    if isinstance(value, list):
        items = [_as_json(item) for item in value]
        return _NOT_SIMPLE if any(item is _NOT_SIMPLE for item in items) else items
    if isinstance(value, dict) and all(isinstance(name, str) for name in value):
        items = {name: _as_json(item) for name, item in value.items()}
        return _NOT_SIMPLE if any(v is _NOT_SIMPLE for v in items.values()) else items
    return _NOT_SIMPLE


def _from_json(value):
    if isinstance(value, list):
        return [_from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    if _FUNCTION in value:
        return getattr(keras.ops, value[_FUNCTION])
    return {name: _from_json(item) for name, item in value.items()}


@contextlib.contextmanager
def averages_stay(model: keras.Model) -> Iterator[None]:
    """Context manager for a `fit` of one epoch that leaves the optimizer's averages alone.

    At its end, `fit` overwrites the weights with the averages of an optimizer with `use_ema`,
    unless the last `on_epoch_end` has cleared that attribute: `Steps` does.
    """
    optimizer = _without_loss_scale(model.optimizer)
    use_ema = optimizer.use_ema
    try:
        yield
    finally:
        optimizer.use_ema = use_ema


def end_averaging(model: keras.Model) -> None:
    """See `averages_stay`."""
    _without_loss_scale(model.optimizer).use_ema = False


def _without_loss_scale(optimizer):
    """Returns the recipe's optimizer, around which Keras puts another for float16."""
    return getattr(optimizer, "inner_optimizer", optimizer)
