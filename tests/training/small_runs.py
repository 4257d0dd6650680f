"""Runs of a few steps, and what they leave."""

import contextlib
import csv
import functools

import keras
import numpy as np
import pytest
from helpers import NARROW_FILTERS, write_pairs

from keras_fcn.training import Recipe, trainer

# Two steps an epoch, the second of one image.
FAST = {"num_classes": 3, "ignore_class": 255, "padding": "same", "fc_units": 16, "epochs": 2}
FAST |= {"filters": NARROW_FILTERS}
STEPS = 2
HEIGHT, WIDTH = SIZE = (8, 10)
# Their last checkpoints are what is compared.
train = functools.partial(trainer.train, keep_state=True)
resume = functools.partial(trainer.resume, keep_state=True)
of_three_layers = pytest.mark.usefixtures("three_layers", "blank_plots")


def small_recipe(folder):
    images, labels = write_pairs(folder / "train", "abc", SIZE)
    val_images, val_labels = write_pairs(folder / "val", "de", SIZE, seed=1)
    return Recipe(
        images=str(images),
        labels=str(labels),
        val_images=str(val_images),
        val_labels=str(val_labels),
        model="fcn32s",
        batch_size=2,
        **FAST,
    )


def arrays(run):
    """What is in the last checkpoint, by name."""
    with np.load(run.path / "last.npz", allow_pickle=False) as state:
        return {name: state[name] for name in state.files if name != "facts.json"}


def assert_equal(states, others):
    """Bit for bit on TensorFlow and PyTorch."""
    assert states.keys() == others.keys()
    for name, value in states.items():
        if keras.backend.backend() == "jax":
            np.testing.assert_allclose(value, others[name], rtol=0, atol=1e-6, err_msg=name)
        else:
            np.testing.assert_array_equal(value, others[name], err_msg=name)


def rows(run):
    with (run.path / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


class Stop(BaseException):
    """An interruption that nothing handles, like Ctrl-C."""


@contextlib.contextmanager
def interrupted_at(monkeypatch, owner, name, call):
    """Ends the run when a function is called for the `call`-th time."""
    function, calls = getattr(owner, name), []

    def interrupting(*args, **kwargs):
        calls.append(name)
        if len(calls) == call:
            raise Stop
        return function(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, interrupting)
        with pytest.raises(Stop):
            yield


def vars_of(recipe):
    """The settings of the fixture as options of the command line."""
    names = ("images", "labels", "num_classes", "ignore_class", "padding", "fc_units", "model")
    return {name.replace("_", "-"): getattr(recipe, name) for name in names}


def error_of(capsys):
    """The only error that a command has written, whatever else stands beside it."""
    lines = capsys.readouterr().err.strip().splitlines()
    errors = [line for line in lines if line.startswith("keras-fcn: error: ")]
    assert len(errors) == 1, lines
    return errors[0]
