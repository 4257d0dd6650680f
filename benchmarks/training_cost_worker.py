"""Trains the recipe `camvid_fcn8s` for few steps and times its parts.

`benchmarks.training_cost` imports it, once KERAS_BACKEND is set.
"""

import argparse
import dataclasses
import functools
import math
import os
import tempfile
import time
from pathlib import Path

import keras
import tensorflow as tf

from keras_fcn.data import load, training_batches
from keras_fcn.training import evaluate, loop, recipes, train
from keras_fcn.training.augmentation import transforms
from keras_fcn.training.environment import environment
from keras_fcn.training.objective import build_model, compiled
from keras_fcn.training.run_writer import RunWriter
from keras_fcn.training.splits import Split
from keras_fcn.training.steps import Steps


def measure(options: argparse.Namespace, imports: float) -> dict:
    """Trains in a temporary folder; returns durations in seconds, in phases.

    The phases are the start of the run, each epoch, and the report. In each, `cycles` are the times
    from step to step, `waits` those that the training waits for a batch, and `gaps` those before a
    prediction; the others are those of the functions that `_watch` names.

    Args:
        options: Those of the command line.
        imports: Seconds that importing this module took, which count to the start.
    """
    with tempfile.TemporaryDirectory() as folder:
        data = {"data_dir": folder, "manual_dir": options.data}
        load("camvid", "train", **data)  # Builds the data set, which is no part of a training.
        whole = recipes.CamvidFCN8s(**data, weights=options.weights)
        images, validation_images = loop.open_splits(whole)
        recipe = dataclasses.replace(
            whole,
            train_split=f"train[:{options.images}]",
            val_split=f"validation[:{options.validation_images}]",
            epochs=options.epochs,
            validate_every=1,
        )
        processor = _processor_seconds(whole, images)
        phases = _Phases(recipe, loop.open_splits(recipe)[0], options.rounds)
        train(recipe, Path(folder) / "run", callbacks=[phases])
    start, *epochs, report = phases.phases
    return {
        "backend": options.backend,
        "recipe": {
            "images": len(images),
            "steps": whole.steps_per_epoch(len(images)),
            "validation_images": len(validation_images),
            "epochs": whole.epochs,
            "validations": math.ceil(whole.epochs / whole.validate_every),
        },
        "validation_images": options.validation_images,
        "start": imports + start["wall"][0],
        "epochs": epochs,
        "report": report,
        "alone": phases.alone,
        "processor": processor,
        "load_average": os.getloadavg(),
        "environment": environment(),
    }


class _Phases(keras.callbacks.Callback):
    """Collects the times of each phase, and runs the parts of a step after each epoch."""

    def __init__(self, recipe, split, rounds):
        super().__init__()
        self._recipe, self._split, self._rounds = recipe, split, rounds
        self.phases, self.alone, self._parts = [], {}, {}
        self._times = _watch()
        self._start = time.perf_counter()

    def on_train_begin(self, logs=None):
        self._end_phase()

    def on_train_end(self, logs=None):
        self._end_phase()

    def on_epoch_end(self, epoch, logs=None):
        self._end_phase()
        is_first = not self._parts
        if is_first:
            self._parts = _parts_of_step(self._recipe, self._split)
            self.alone = {name: [] for name in self._parts}
        for turn in range(self._rounds):
            for name, part in self._parts.items():
                start = time.perf_counter()
                part()
                if turn or not is_first:  # The first turn compiles.
                    self.alone[name].append(time.perf_counter() - start)
        self._begin_phase()

    def _end_phase(self):
        self._times["wall"].append(time.perf_counter() - self._start)
        self.phases.append({name: list(seconds) for name, seconds in self._times.items()})
        self._begin_phase()

    def _begin_phase(self):
        for seconds in self._times.values():
            seconds.clear()
        self._start = time.perf_counter()


def _watch():
    """Replaces functions by ones that append their durations to lists; returns these by name."""
    times = {name: [] for name in ("wall", "cycles", "waits", "gaps")}
    for name, owner, function in (
        ("checkpoints", loop.Training, "save_state"),
        ("models", RunWriter, "save_model"),
        ("validations", loop, "validate"),
        ("predictions", evaluate, "predict_scores"),
        ("predictions", evaluate, "predict_label_maps"),
    ):
        seconds = times.setdefault(name, [])
        gaps = times["gaps"] if name == "predictions" else []
        setattr(owner, function, _timed(getattr(owner, function), seconds, gaps))
    Steps.on_train_batch_end = _with_cycles(Steps.on_train_batch_end, times["cycles"])
    Split.training_batches = _with_waits(Split.training_batches, times["waits"])
    return times


def _timed(function, seconds, gaps):
    """Notes the duration of each call, and the time since the last one."""
    last = time.perf_counter()

    @functools.wraps(function)
    def timed_function(*args, **kwargs):
        nonlocal last
        start = time.perf_counter()
        gaps.append(start - last)
        try:
            return function(*args, **kwargs)
        finally:
            last = time.perf_counter()
            seconds.append(last - start)

    return timed_function


def _with_cycles(on_train_batch_end, seconds):
    """Notes the time since the last step, whose callbacks are a part of it, but for the first."""
    last = 0.0

    def timed(self, batch, logs=None):
        nonlocal last
        float(logs["loss"])  # JAX computes the step in the background until its loss is read.
        now = time.perf_counter()
        if batch:
            seconds.append(now - last)
        last = now
        on_train_batch_end(self, batch, logs)

    return timed


def _with_waits(batches_of_epoch, seconds):
    """Notes how long the dataset takes to pass on each batch to the training."""

    def note(asked, received):
        seconds.append(float(received - asked))
        return True

    def pass_on(asked, batch, received):
        with tf.control_dependencies([tf.numpy_function(note, [asked, received], bool)]):
            return tf.nest.map_structure(tf.identity, batch)

    def timed_batches(*args, **kwargs):
        clock = tf.data.Dataset.counter().map(lambda _: tf.timestamp())
        # `zip` reads its datasets one after the other.
        batches = tf.data.Dataset.zip(clock, batches_of_epoch(*args, **kwargs), clock)
        options = tf.data.Options()
        # Else TensorFlow adds a thread that prefetches, for which the dataset would be timed.
        options.experimental_optimization.inject_prefetch = False
        return batches.map(pass_on).with_options(options)

    return timed_batches


class StoreGradients(keras.optimizers.Optimizer):
    """Stores the gradients instead of using them, so that no compiler leaves them out."""

    def build(self, variables):
        if not self.built:
            super().build(variables)
            self.gradients = self.add_optimizer_variables(variables, "gradient")

    def apply(self, grads, trainable_variables=None):
        for stored, gradient in zip(self.gradients, grads, strict=True):
            stored.assign(gradient)


def _parts_of_step(recipe, split):
    """Returns functions: the forward pass, that with the gradients, and the whole step."""

    def new_model():
        model = build_model(recipe, split.label_spaces)
        spaces = {"label_spaces": split.label_spaces, "class_weights": None}
        return compiled(model, recipe, **spaces, num_steps=1000)

    whole, without_update = new_model(), new_model()
    without_update.compile(StoreGradients(learning_rate=0.0), without_update.loss)
    without_update.optimizer.build(without_update.trainable_variables)
    image, label_map = next(split.training_batches(recipe, 0, 0).as_numpy_iterator())
    return {
        "forward": lambda: whole.test_on_batch(image, label_map),
        "gradients": lambda: without_update.train_on_batch(image, label_map),
        "step": lambda: whole.train_on_batch(image, label_map),
    }


def _processor_seconds(recipe, split):
    """Returns the processor seconds per image, of all threads, of reading and of transforms."""
    seconds = {}
    for name, chosen in {"reading": (), "both": transforms(recipe, split.label_space)}.items():
        batches = training_batches(
            split.examples, **split.classes, batch_size=recipe.batch_size, seed=0, transforms=chosen
        )
        for _ in range(2):  # The last counts.
            start = time.process_time()
            images = sum(len(image) for image, _ in batches.as_numpy_iterator())
            seconds[name] = (time.process_time() - start) / images
    return {"reading": seconds["reading"], "transforms": seconds["both"] - seconds["reading"]}
