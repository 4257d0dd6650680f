"""What happens at each step of a run."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import keras

from keras_fcn.training.run_callbacks import end_averaging

if TYPE_CHECKING:
    from keras_fcn.training.loop import Training


class Steps(keras.callbacks.Callback):
    """Checks the loss, shows progress, and writes the checkpoints within an epoch."""

    def __init__(self, training: Training, num_steps: int, advance: Callable[..., None]):
        super().__init__()
        self._training, self._num_steps, self._advance = training, num_steps, advance
        self._first_step, self._loss_before = training.state.step, training.state.loss

    def on_train_batch_begin(self, batch, logs=None):
        self._training.callbacks.begin_batch(self._first_step + batch)

    def on_train_batch_end(self, batch, logs=None):
        training = self._training
        loss = float(logs["loss"])
        if not math.isfinite(loss):
            raise ValueError(
                training.not_finite("loss", f"{loss} in", self._first_step + batch + 1)
            )
        training.state.step = self._first_step + batch + 1
        # Keras logs the mean over the images since `fit` was called.
        before, so_far = (
            training.num_images(step) for step in (self._first_step, training.state.step)
        )
        training.state.loss = (self._loss_before * before + loss * (so_far - before)) / so_far
        self._advance(note=f"loss {training.state.loss:.4g}{training.time_left()}")
        every = training.checkpoint_every
        done = training.state.epoch * training.steps_per_epoch + training.state.step
        checkpoint_due = every and done % every == 0 and training.state.step < self._num_steps
        training.callbacks.end_batch(training.state.step - 1, {"loss": training.state.loss})
        if training.average or checkpoint_due:
            # On JAX this writes the values of the training state back to the variables.
            training.trained = self.model
        if training.average:
            training.average.update()
        if checkpoint_due:
            training.save_state()

    def on_epoch_end(self, epoch, logs=None):
        end_averaging(self.model)
