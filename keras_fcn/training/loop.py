"""A run from its first step, or its last checkpoint, to its end."""

import contextlib
import math
import time
import zlib

import keras
import numpy as np

from keras_fcn.backends import backend
from keras_fcn.distribution import data_parallel, processes
from keras_fcn.training.checkpoint import NotFiniteError, read_facts, restore_state
from keras_fcn.training.environment import code_of_package
from keras_fcn.training.evaluate import Scores, evaluate
from keras_fcn.training.final_report import write_final_report
from keras_fcn.training.first_words import (
    print_mean_loss_rate,
    warn_of_bad_start,
    warn_of_slow_precision,
)
from keras_fcn.training.moving_average import MovingAverage
from keras_fcn.training.objective import MODELS, build_model, compiled, learning_rate, loss_of
from keras_fcn.training.progress import duration, progress_bar, say
from keras_fcn.training.recipe import PATHS, as_settings
from keras_fcn.training.run import copy_of, drawing_errors_warn
from keras_fcn.training.splits import check_files, open_splits


class Training:
    """A run between its beginning and its end.

    `history` holds a row for each epoch that was validated or passed over; an epoch whose steps are
    done but which has no row yet is finished first. So the state is written once per epoch, before
    the validation, and a process may end at any moment.
    """

    def __init__(self, run, recipe, train_split, val_split, model, checkpoint_every, devices):
        if checkpoint_every is not None and checkpoint_every < 1:
            raise ValueError(
                f"`checkpoint_every` must be at least 1. Received: {checkpoint_every=}."
            )
        self.run, self.recipe, self.model = run, recipe, model
        self.train_split, self.val_split = train_split, val_split
        self.checkpoint_every, self.devices = checkpoint_every, devices
        self.data = train_split.fingerprint()
        self.shard = processes.shard()
        _check_divides(recipe.batch_size, processes.world_size())
        # All processes get equally many in an epoch.
        self.num_examples = len(train_split) // processes.world_size() * processes.world_size()
        self.num_steps = recipe.num_steps(self.num_examples)
        self.steps_per_epoch = min(recipe.steps_per_epoch(self.num_examples), self.num_steps)
        self.num_epochs = math.ceil(self.num_steps / self.steps_per_epoch)
        # What changes, and is written with each state.
        self.epoch, self.step, self.loss, self.seconds = 0, 0, 0.0, 0.0
        self.history, self.class_weights = [], None
        self.average = None
        self._counted_until = time.monotonic()  # What `seconds` holds.
        # Of the first step of this process, which compiles and says nothing of those that follow.
        self._first_end = None

    @classmethod
    def begin(cls, run, recipe, checkpoint_every, devices, gradients):
        train_split, val_split = _open_splits(recipe)
        weights = None
        if recipe.class_weights is not None:
            weights = train_split.class_weights() ** recipe.class_weights_power
            weights = [float(weight) for weight in weights]
        keras.utils.set_random_seed(recipe.seed)
        with scope(devices, gradients):
            model = build_model(recipe, train_split.label_space)
            training = cls(run, recipe, train_split, val_split, model, checkpoint_every, devices)
            training.class_weights = weights
            training.compile()
        if processes.rank() == 0:
            warn_of_bad_start(model, recipe.learning_rate)
            warn_of_slow_precision(recipe)
            print_mean_loss_rate(recipe, train_split)
        training.check_processes(gradients)
        return training

    @classmethod
    def resume(cls, run, checkpoint_every, devices, gradients):
        _, recipe = run.recipe()
        processes.first_before_others(run.clean)
        if not run.has_state:
            say(f"{run.path} holds no checkpoint yet: it begins anew.")
            return cls.begin(run, recipe, checkpoint_every, devices, gradients)
        facts = read_facts(run.state_path)
        train_split, val_split = _open_splits(recipe)
        keras.utils.set_random_seed(recipe.seed)
        with scope(devices, gradients):
            model = MODELS[recipe.model].from_config(facts["model"])
            training = cls(run, recipe, train_split, val_split, model, checkpoint_every, devices)
            training.class_weights = facts["class_weights"]
            training.compile()
        if training.data != facts["data"]:
            raise ValueError(
                f"{run.path} must go on with the data it began with, {facts['data']}. "
                f"Received: {training.data}."
            )
        for fact in _CHANGING_FACTS:
            setattr(training, fact, facts[fact])
        restore_state(run.state_path, training.variables())
        run.write_history(training.history)
        say(
            f"{run.path}: goes on after {training.epoch} of {training.num_epochs} epochs"
            + (f" and {training.step} steps" if training.step else "")
        )
        training.check_processes(gradients)
        return training

    def check_processes(self, gradients):
        """Compares code, data, settings and weights of several processes before the first step."""
        if processes.world_size() == 1:
            return
        weights = b"".join(np.ascontiguousarray(w).tobytes() for w in self.model.get_weights())
        processes.check_equal(
            {
                "code": code_of_package(),
                "data": self.data,
                "settings": {k: v for k, v in as_settings(self.recipe).items() if k not in PATHS},
                "gradients": gradients,
                "place to go on from": (self.epoch, self.step),
                "weights": f"{zlib.crc32(weights):08x}",
            }
        )

    def compile(self):
        self.trained = compiled(
            self.model,
            self.recipe,
            ignore_class=self.train_split.label_space.ignore_class,
            class_weights=self.class_weights,
            num_steps=self.num_steps,
        )
        if self.recipe.ema is not None:
            self.average = MovingAverage(self.trained.trainable_variables, self.recipe.ema)

    def variables(self):
        return {
            "model": self.trained.variables,
            "optimizer": self.trained.optimizer.variables,
            "average": [] if self.average is None else self.average.variables,
        }

    def time_left(self):
        """How long the run may still take, in words; nothing before its second step."""
        done = self.epoch * self.steps_per_epoch + self.step
        if self._first_end is None:
            self._first_end = done, time.monotonic()
            return ""
        first, since = self._first_end
        left = (time.monotonic() - since) / (done - first) * (self.num_steps - done)
        return f", {duration(left)} left"

    def run_to_end(self, keep_state):
        if self.epoch < self.num_epochs and backend.compiles_each_size:
            say("The first step with each image size compiles the network and takes longer.")
        while True:
            # More than that if the run goes on with more processes, which share out fewer images.
            if self.step and self.step >= self._steps_of(self.epoch):
                self.epoch, self.step = self.epoch + 1, 0
            if self.epoch > len(self.history):
                self._finish_epoch()
            if self.epoch == self.num_epochs:
                break
            self._train_epoch()
        # The others wait: until its end the run can be taken up again.
        processes.first_before_others(self._write_report)
        if not keep_state and self.run.is_finished:
            self.run.remove_state()

    def _write_report(self):
        if processes.rank() == 0:
            with drawing_errors_warn("the report"):
                write_final_report(
                    self.run, self.recipe, self.val_split, self.history, self.seconds
                )

    def save_state(self):
        now = time.monotonic()
        self.seconds, self._counted_until = self.seconds + now - self._counted_until, now
        facts = {fact: getattr(self, fact) for fact in _CHANGING_FACTS}
        facts |= {"data": self.data, "model": self.model.get_config()}
        try:
            self.run.save_state(self.variables(), facts)
        except NotFiniteError as error:
            # ReLU makes 0 of what is not a number on TensorFlow's CPUs, so that it can be found
            # in weights before it is in the loss.
            raise ValueError(self.not_finite("weights", f"{error} after", self.step)) from error

    def not_finite(self, what, received, step):
        """The message of a run that is beyond repair at a step of this epoch, from 1."""
        names = self.train_split.names_of_batch(self.recipe, self.epoch, step - 1)
        kept = "keeps its last checkpoint and its best model so far"
        return (
            f"The {what} must stay finite. Received: {received} step {step} of epoch "
            f"{self.epoch + 1}, with {', '.join(names)}. {self.run.path} "
            f"{kept if self.run.has_state else 'goes, as it had no checkpoint yet'}. "
            "Train with a smaller learning rate."
        )

    def num_images(self, steps):
        """Of an epoch's first steps; the last batch may be smaller."""
        return min(steps * self.recipe.batch_size, self.num_examples)

    def _steps_of(self, epoch):
        return min(self.steps_per_epoch, self.num_steps - epoch * self.steps_per_epoch)

    def _train_epoch(self):
        self._counted_until, first_step = time.monotonic(), self.step
        steps = self._steps_of(self.epoch)
        batches = self.train_split.training_batches(self.recipe, self.epoch, first_step, self.shard)
        if (heads := len(self.trained.outputs)) > 1:
            batches = batches.map(lambda image, label_map: (image, (label_map,) * heads))
        title = f"epoch {self.epoch + 1}/{self.num_epochs}"
        with progress_bar(title, steps - first_step) as advance:
            self.trained.fit(
                batches.take(steps - first_step),
                initial_epoch=self.epoch,
                epochs=self.epoch + 1,
                shuffle=False,  # The batches come shuffled.
                verbose=0,
                callbacks=[Steps(self, steps, advance)],
            )
        self.save_state()

    def _finish_epoch(self):
        steps = min(self.epoch * self.steps_per_epoch, self.num_steps)
        rate = learning_rate(self.recipe, self.num_steps, steps - 1)
        row = {"epoch": self.epoch, "loss": self.loss, "learning_rate": rate}
        due = self.epoch % self.recipe.validate_every == 0 or self.epoch == self.num_epochs
        with contextlib.nullcontext() if self.average is None else self.average.in_place():
            if self.val_split is None:
                self.run.save_model(self.model)
            elif due:
                row |= self._validate()
                earlier = [past.get("val_mean_iou", -1.0) for past in self.history]
                if row["val_mean_iou"] > max(earlier, default=-1.0):
                    self.run.save_model(self.model)
        self.history.append(row)
        self.run.write_history(self.history)

    def _validate(self):
        space = self.val_split.label_space
        # Images of their own sizes come one by one, which several devices cannot share.
        model = self.model if self.devices is None else copy_of(self.model)
        batches = self.val_split.batches(self.shard)
        loss = loss_of(self.recipe, space.ignore_class, self.class_weights)
        with progress_bar("validation", int(batches.cardinality())) as advance:
            scores = evaluate(
                model,
                batches,
                num_classes=space.num_classes,
                ignore_class=space.ignore_class,
                loss=loss,
                progress=advance,
            )
        # Batches of one image, of which a process may have none.
        count = int(batches.cardinality())
        loss, count = processes.sum_of_all(np.array([count * (scores.loss or 0.0), count]))
        scores = Scores(processes.sum_of_all(scores.matrix), loss=float(loss / count))
        say(
            f"epoch {self.epoch}: validation loss {scores.loss:.4g}, "
            + ", ".join(f"{name} {value:.4f}" for name, value in scores.as_dict().items())
        )
        row = {"val_loss": scores.loss}
        row |= {f"val_{name}": value for name, value in scores.as_dict().items()}
        for name, iou in zip(space.class_names, scores.class_iou, strict=True):
            row[f"val_iou/{name}"] = float(iou)
        return row


# Attributes of a training that its state keeps.
_CHANGING_FACTS = ("epoch", "step", "loss", "seconds", "history", "class_weights")


class Steps(keras.callbacks.Callback):
    """Watches the loss, shows the steps of an epoch, and writes the checkpoints within it."""

    def __init__(self, training, num_steps, advance):
        super().__init__()
        self._training, self._num_steps, self._advance = training, num_steps, advance
        self._first_step, self._loss_before = training.step, training.loss

    def on_train_batch_end(self, batch, logs=None):
        training = self._training
        loss = float(logs["loss"])
        if not math.isfinite(loss):
            raise ValueError(
                training.not_finite("loss", f"{loss} in", self._first_step + batch + 1)
            )
        training.step = self._first_step + batch + 1
        # Keras's is the mean over the images since its `fit` began.
        before, so_far = (training.num_images(step) for step in (self._first_step, training.step))
        training.loss = (self._loss_before * before + loss * (so_far - before)) / so_far
        self._advance(note=f"loss {training.loss:.4g}{training.time_left()}")
        every = training.checkpoint_every
        done = training.epoch * training.steps_per_epoch + training.step
        checkpoint_due = every and done % every == 0 and training.step < self._num_steps
        if training.average or checkpoint_due:
            # On JAX this brings the variables up to date, whose values are elsewhere in an epoch.
            training.trained = self.model
        if training.average:
            training.average.update()
        if checkpoint_due:
            training.save_state()


def _check_divides(batch_size, num_processes):
    if batch_size % num_processes:
        raise ValueError(
            f"`batch_size` must divide by the number of processes, {num_processes}, which share "
            f"each batch. Received: batch_size={batch_size}."
        )


def scope(devices, gradients):
    """`data_parallel` for `devices`; without any, nothing changes."""
    if devices is None and gradients is not None:
        raise ValueError(
            "`gradients` must be None without `devices` to send them to (--devices). Received: "
            f"{gradients=}."
        )
    return contextlib.nullcontext() if devices is None else data_parallel(devices, gradients)


def _open_splits(recipe):
    splits = processes.first_before_others(lambda: open_splits(recipe))
    check_files(splits, recipe)
    return splits
