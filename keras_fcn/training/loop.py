"""A run from its first step, or its last checkpoint, to its end."""

import contextlib
import dataclasses
import math
import time
import zlib
from collections.abc import Sequence

import keras
import numpy as np

from keras_fcn.backends import backend
from keras_fcn.distribution import data_parallel, processes
from keras_fcn.models.multitask import models_of_tasks
from keras_fcn.training.checkpoint import NotFiniteError, read_facts, restore_state
from keras_fcn.training.early_stopping import has_lost_patience
from keras_fcn.training.environment import code_of_package, warn_of_slow_precision
from keras_fcn.training.final_report import FinalScores, write_final_report
from keras_fcn.training.moved_data import check_data
from keras_fcn.training.moving_average import MovingAverage
from keras_fcn.training.objective import (
    build_model,
    compiled,
    loss_of,
    model_class,
    with_label_map_of_each_head,
)
from keras_fcn.training.progress import duration, progress_bar, say
from keras_fcn.training.recipe import PATHS, Recipe, as_settings
from keras_fcn.training.run_callbacks import RunCallbacks, averages_stay
from keras_fcn.training.run_writer import RunWriter, copy_of, drawing_errors_warn
from keras_fcn.training.schedule import learning_rate, schedule
from keras_fcn.training.splits import Split, check_files, open_splits
from keras_fcn.training.start_checks import (
    check_classes,
    check_divides,
    check_enough_images,
    check_interval,
    check_settings_of_checkpoint,
    check_updates,
    print_mean_loss_rate,
    settings_of_checkpoint,
    warn_of_bad_start,
)
from keras_fcn.training.steps import Steps
from keras_fcn.training.trackers import open_trackers, tracking
from keras_fcn.training.user_code import UserCode
from keras_fcn.training.validation import validate


@dataclasses.dataclass
class State:
    """What changes during a run. Every checkpoint stores it, beside the variables.

    Args:
        epoch: Number of epochs whose steps are done.
        step: Number of steps of the next epoch that are done.
        loss: Mean loss over those steps, or over the last epoch.
        seconds: Time spent on the run so far.
        history: A row for each epoch that was validated or needed no validation.
        class_weights: Weights of the classes in the loss, or `None`.
        callbacks: State of each of the user's callbacks, see `RunCallbacks`.
        stopped: Whether a callback or `patience` has ended the run early.
    """

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    seconds: float = 0.0
    history: list[dict] = dataclasses.field(default_factory=list)
    class_weights: list[float] | None = None
    callbacks: list[dict] = dataclasses.field(default_factory=list)
    stopped: bool = False


class Training:
    """A run from its first step to its end.

    An epoch whose steps are done but which has no row in `state.history` yet is finished first. So
    the state is written once per epoch, before the validation, and a process may end any time.
    """

    def __init__(
        self,
        run: RunWriter,
        recipe: Recipe,
        train_split: Split,
        val_split: Split | None,
        model: keras.Model,
        checkpoint_every: int | None,
        devices: str | Sequence[str] | None,
        user_code: UserCode,
        track: Sequence[str],
    ):
        check_interval(checkpoint_every)
        self.run, self.recipe, self.model = run, recipe, model
        self._models_of_tasks = models_of_tasks(model)
        self.train_split, self.val_split = train_split, val_split
        self.checkpoint_every, self.devices = checkpoint_every, devices
        self.user_code = user_code
        self.trackers = open_trackers(track, run) if processes.rank() == 0 else []
        self.final: FinalScores | None = None
        self.data = train_split.fingerprint()
        self.shard = processes.shard()
        check_divides(recipe.batch_size, processes.world_size())
        check_enough_images(len(train_split), processes.world_size())
        # All ranks get equally many in an epoch.
        self.num_examples = len(train_split) // processes.world_size() * processes.world_size()
        self.num_steps = recipe.num_steps(self.num_examples)
        check_updates(recipe.accumulate, self.num_steps)
        self.steps_per_epoch = min(recipe.steps_per_epoch(self.num_examples), self.num_steps)
        self.num_epochs = math.ceil(self.num_steps / self.steps_per_epoch)
        self.state = State()
        self.average: MovingAverage | None = None
        self._counted_until = time.monotonic()  # End of the time in `state.seconds`.
        self.is_resumed = False
        # End of this process's first step, which compiles: its duration predicts no other.
        self._first_end: tuple[int, float] | None = None

    @classmethod
    def begin(
        cls,
        run: RunWriter,
        recipe: Recipe,
        checkpoint_every: int | None,
        devices: str | Sequence[str] | None,
        gradients: str | None,
        user_code: UserCode,
        track: Sequence[str] = (),
    ) -> "Training":
        train_split, val_split = _open_splits(recipe)
        weights = None
        if recipe.class_weights is not None:
            weights = train_split.class_weights() ** recipe.class_weights_power
            weights = [float(weight) for weight in weights]
        keras.utils.set_random_seed(recipe.seed)
        with scope(devices, gradients):
            model = build_model(recipe, train_split.label_spaces)
            training = cls(
                *(run, recipe, train_split, val_split, model),
                *(checkpoint_every, devices, user_code, track),
            )
            training.state.class_weights = weights
            training.compile()
        if processes.rank() == 0:
            warn_of_bad_start(model, recipe.learning_rate)
            warn_of_slow_precision(recipe.precision)
            print_mean_loss_rate(recipe, train_split)
        training.check_processes(gradients)
        return training

    @classmethod
    def resume(
        cls,
        run: RunWriter,
        checkpoint_every: int | None,
        devices: str | Sequence[str] | None,
        gradients: str | None,
        user_code: UserCode,
        track: Sequence[str] = (),
    ) -> "Training":
        _, recipe = run.recipe()
        user_code.check_names(run.path, run.user_code_names())
        processes.first_before_others(run.clean)
        if not processes.exists(run.state_path):
            say(f"{run.path} holds no checkpoint yet: it starts over.")
            training = cls.begin(
                run, recipe, checkpoint_every, devices, gradients, user_code, track
            )
            training.is_resumed = True
            check_classes(run, training.train_split)
            return training
        facts = read_facts(run.state_path)
        check_settings_of_checkpoint(run, recipe, facts.get("settings", {}))
        train_split, val_split = _open_splits(recipe)
        keras.utils.set_random_seed(recipe.seed)
        with scope(devices, gradients):
            model = model_class(recipe).from_config(facts["model"])
            training = cls(
                *(run, recipe, train_split, val_split, model),
                *(checkpoint_every, devices, user_code, track),
            )
            training.state = State(
                **{f.name: facts[f.name] for f in dataclasses.fields(State) if f.name in facts}
            )
            training.compile()
        training.is_resumed = True
        check_data(run, training.data, facts["data"])
        check_classes(run, train_split)
        restore_state(run.state_path, training.variables())
        run.write_history(training.state.history)
        say(
            f"{run.path}: resumes after {training.state.epoch} of {training.num_epochs} epochs"
            + (f" and {training.state.step} steps" if training.state.step else "")
        )
        training.check_processes(gradients)
        return training

    def check_processes(self, gradients: str | None) -> None:
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
                "place to go on from": (self.state.epoch, self.state.step),
                "weights": f"{zlib.crc32(weights):08x}",
            }
        )

    def compile(self) -> None:
        self.trained = compiled(
            self.model,
            self.recipe,
            label_spaces=self.train_split.label_spaces,
            class_weights=self.state.class_weights,
            num_steps=self.num_steps,
            optimizer_averages=self.user_code.swaps_averages,
        )
        self.callbacks = RunCallbacks(
            self.user_code.callbacks, self.trained, self.num_epochs, self.steps_per_epoch
        )
        if self.recipe.ema is not None and not self.user_code.swaps_averages:
            self.average = MovingAverage(self.trained.trainable_variables, self.recipe.ema)

    def variables(self) -> dict[str, list]:
        return {
            "model": self.trained.variables,
            "optimizer": self.trained.optimizer.variables,
            "average": [] if self.average is None else self.average.variables,
        }

    def time_left(self) -> str:
        """Returns the estimated time left, in words; an empty string before the second step."""
        done = self.state.epoch * self.steps_per_epoch + self.state.step
        if self._first_end is None:
            self._first_end = done, time.monotonic()
            return ""
        first, since = self._first_end
        left = (time.monotonic() - since) / (done - first) * (self.num_steps - done)
        return f", {duration(left)} left"

    def run_to_end(self, keep_state: bool) -> None:
        if self.state.epoch < self.num_epochs and backend.compiles_each_size:
            say("The first step with each image size compiles the network and takes longer.")
        if self.recipe.holds_out and self.val_split is not None:
            # Also of a run that resumes: it may have ended before the file was written.
            self.run.write_split(self.train_split.names(), self.val_split.names())
        with tracking(self.trackers):
            self.callbacks.begin(self.state.callbacks)
            self._finish_epoch()  # Of a run that ended between its last step and its validation.
            while self.state.epoch < self.num_epochs and not self.state.stopped:
                self._train_epoch()
                self.save_state()
                self._finish_epoch()
            # The other ranks wait: until its end the run can be resumed.
            processes.first_before_others(self._write_report)
            logs = _logs(self.state.history[-1])
            self.callbacks.end(logs)
            for tracker in self.trackers:
                tracker.final = self.final
                tracker.on_train_end(logs)
        if not keep_state and self.run.is_finished:
            self.run.remove_state()

    def _write_report(self):
        if processes.rank() == 0:
            with drawing_errors_warn("the report"):
                self.final = write_final_report(
                    self.run, self.recipe, self.val_split, self.state.history, self.state.seconds
                )

    def save_state(self) -> None:
        now = time.monotonic()
        self.state.seconds, self._counted_until = (
            self.state.seconds + now - self._counted_until,
            now,
        )
        self.state.callbacks = self.callbacks.states()
        facts = dataclasses.asdict(self.state)
        facts |= {"data": self.data, "model": self.model.get_config()}
        facts["settings"] = settings_of_checkpoint(self.recipe)
        try:
            self.run.save_state(self.variables(), facts)
        except NotFiniteError as error:
            # ReLU maps NaN to 0 on TensorFlow's CPUs: weights can be NaN while the loss is finite.
            raise ValueError(
                self.not_finite("weights", f"{error} after", self.state.step)
            ) from error

    def not_finite(self, what: str, received: str, step: int) -> str:
        """The message of a run that cannot recover from a step of this epoch, counted from 1."""
        names = self.train_split.names_of_batch(self.recipe, self.state.epoch, step - 1)
        kept = "is removed, as it had no checkpoint yet"
        if self.run.has_state:
            kept = "keeps its last checkpoint and its best model so far"
        elif self.is_resumed:
            kept = "holds no checkpoint yet"
        return (
            f"The {what} must stay finite. Received: {received} step {step} of epoch "
            f"{self.state.epoch + 1}, with {', '.join(names)}. {self.run.path} {kept}. "
            "Train with a smaller learning rate."
        )

    def num_images(self, steps: int) -> int:
        """Of an epoch's first steps; the last batch may be smaller."""
        return min(steps * self.recipe.batch_size, self.num_examples)

    def _steps_of(self, epoch):
        return min(self.steps_per_epoch, self.num_steps - epoch * self.steps_per_epoch)

    def _train_epoch(self):
        self._counted_until, first_step = time.monotonic(), self.state.step
        steps = self._steps_of(self.state.epoch)
        batches = self.train_split.training_batches(
            self.recipe, self.state.epoch, first_step, self.shard, self.user_code.transforms
        )
        title = f"epoch {self.state.epoch + 1}/{self.num_epochs}"
        self.callbacks.begin_epoch(self.state.epoch)
        with progress_bar(title, steps - first_step) as advance, averages_stay(self.trained):
            self.trained.fit(
                with_label_map_of_each_head(self.trained, batches).take(steps - first_step),
                initial_epoch=self.state.epoch,
                epochs=self.state.epoch + 1,
                shuffle=False,  # The batches come shuffled.
                verbose=0,
                callbacks=[Steps(self, steps, advance)],
            )
        if self.trained.stop_training:
            # As in `fit`, the epoch ends here.
            self.state.epoch, self.state.step, self.state.stopped = self.state.epoch + 1, 0, True

    def _finish_epoch(self):
        """Validates and appends a row to the history, once all steps of the epoch are done."""
        state = self.state
        # More steps than the epoch has if the run was resumed on more ranks, whose shards are
        # smaller.
        if state.step and state.step >= self._steps_of(state.epoch):
            state.epoch, state.step = state.epoch + 1, 0
        if state.epoch == len(state.history):
            return
        steps = min(state.epoch * self.steps_per_epoch, self.num_steps)
        row = {
            "epoch": state.epoch,
            "loss": state.loss,
            "learning_rate": self._learning_rate(steps - 1),
        }
        due = state.epoch % self.recipe.validate_every == 0 or state.epoch == self.num_epochs
        with contextlib.nullcontext() if self.average is None else self.average.in_place():
            if self.val_split is None:
                self.run.save_model(self.model)
            elif due:
                self.callbacks.begin_validation()
                row |= self._validated()
                earlier = [past.get("val_mean_iou", -1.0) for past in state.history]
                if row["val_mean_iou"] > max(earlier, default=-1.0):
                    self.run.save_model(self.model)
                self.callbacks.end_validation(_logs(row))
        state.history.append(row)
        self.run.write_history(state.history)
        for tracker in self.trackers:
            tracker.on_epoch_end(state.epoch - 1, _logs(row))
        is_stopped = self.callbacks.end_epoch(state.epoch - 1, _logs(row))
        if is_stopped or has_lost_patience(state.history, self.recipe.patience):
            state.stopped = True
        if state.stopped and state.epoch < self.num_epochs:
            say(f"The run ends early, after {state.epoch} of {self.num_epochs} epochs.")

    def _validated(self):
        def loss(split):
            ignore_class = split.label_space.ignore_class
            return loss_of(self.recipe, ignore_class, self.state.class_weights)

        models = self._models_of_tasks
        if self.devices is not None:
            # Images of different sizes are validated one by one, which several devices cannot
            # share.
            models = models_of_tasks(copy_of(self.model))
        return validate(models, self.val_split, loss, self.shard, self.state.epoch)

    def _learning_rate(self, step):
        """The rate of a step; without a schedule, a callback may have changed it."""
        if self.user_code.callbacks and not callable(schedule(self.recipe, self.num_steps)):
            return float(keras.ops.convert_to_numpy(self.trained.optimizer.learning_rate))
        return learning_rate(self.recipe, self.num_steps, step)


def _logs(row):
    """Returns a row of the history as the logs of Keras's callbacks."""
    return {name: value for name, value in row.items() if name != "epoch"}


def scope(
    devices: str | Sequence[str] | None, gradients: str | None
) -> contextlib.AbstractContextManager:
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
