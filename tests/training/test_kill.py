"""Kills a training run of the real command and compares what it then goes on to.

The first time while a checkpoint is being written; by `pytest -m slow`, at random moments, too.

`KILLS=20 pytest -s -m slow tests/training/test_kill.py` for more, `KILL_SEED` for others.
"""

import csv
import os
import random
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from helpers import NARROW_FILTERS, variables_as_numpy, write_pairs

from keras_fcn.cli import main
from keras_fcn.training.run import Run

KILLS = int(os.environ.get("KILLS", "2"))
SEED = int(os.environ.get("KILL_SEED", "0"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    write_pairs(folder, "abcde", size=(8, 10))
    return folder


def arguments(folder, out):
    """Of `train`: a checkpoint after every step; much of the time one is being written."""
    settings = ["num_classes=3", "ignore_class=255", "padding=same", "fc_units=16", "model=fcn32s"]
    settings += ["epochs=2", "batch_size=2", "jitter=true", "ema=0.9"]
    settings += [f"filters={list(NARROW_FILTERS)}"]
    images, labels = str(folder / "images"), str(folder / "labels")
    data = ["--images", images, "--labels", labels, "--val-images", images, "--val-labels", labels]
    changes = [f"--set={setting}" for setting in settings]
    return [*data, *changes, "--checkpoint-every", "1", "--keep-state", "--out", str(out)]


def start(folder, out):
    """The command in a process of its own."""
    with (folder / "log").open("a") as log:
        command = [
            sys.executable,
            "-m",
            "keras_fcn",
            "train",
            *arguments(folder, out),
            "--keep-state",
        ]
        return subprocess.Popen(command, stdout=log, stderr=log)


def state(run):
    with np.load(run / "last.npz", allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files if name != "facts.json"}


def history(run):
    with (run / "metrics.csv").open() as file:
        return [[float(value) for value in row] for row in list(csv.reader(file))[1:]]


def wait_for(folder, pattern, process):
    while not any(folder.glob(pattern)) and process.poll() is None:
        time.sleep(0.002)


@pytest.fixture(scope="module")
def whole(folder):
    """A run that nothing interrupted."""
    assert main(["train", *arguments(folder, folder / "whole")]) == 0
    return folder / "whole"


def assert_goes_on_to(whole, folder, out):
    """Goes on with what a killed process has left, if anything."""
    begun = (folder / out).exists()
    left = sorted(path.name for path in (folder / out).glob("*")) if begun else "nothing yet"
    print(f"killed, leaving {left}")
    again = ["--resume", str(folder / out), "--keep-state"]
    assert main(["train", *(again if begun else arguments(folder, folder / out))]) == 0
    np.testing.assert_allclose(history(folder / out), history(whole), rtol=1e-5)
    found, expected = state(folder / out), state(whole)
    assert found.keys() == expected.keys()
    tolerance = 1e-6 if keras.backend.backend() == "jax" else 0  # Bit for bit on the others.
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=tolerance, err_msg=name)
    model, wanted = (variables_as_numpy(Run(run).load_model()) for run in (folder / out, whole))
    for name, value in wanted.items():
        np.testing.assert_allclose(model[name], value, rtol=0, atol=tolerance, err_msg=name)
    assert (folder / out / "report.html").is_file()
    assert not list(folder.glob(f"{out}/.unfinished*"))


@pytest.mark.gate
def test_a_run_killed_while_it_writes_a_checkpoint_goes_on(folder, whole):
    process = start(folder, folder / "writing")
    wait_for(folder / "writing", ".unfinished-*/last.npz", process)
    process.kill()
    assert process.wait() == -9, (folder / "log").read_text()
    assert_goes_on_to(whole, folder, "writing")


@pytest.fixture(scope="module")
def seconds(folder):
    """From the start of a process to its folder, and to its end."""
    started = time.monotonic()
    process = start(folder, folder / "timed")
    wait_for(folder / "timed", "config.toml", process)
    begun = time.monotonic() - started
    assert process.wait(timeout=300) == 0, (folder / "log").read_text()
    return begun, time.monotonic() - started


@pytest.mark.slow
@pytest.mark.parametrize("kill", range(1, KILLS))
def test_a_run_killed_at_any_moment_goes_on(folder, whole, seconds, kill):
    process = start(folder, folder / f"killed{kill}")
    time.sleep(random.Random(f"{SEED}/{kill}").uniform(*seconds))
    process.kill()
    process.wait()
    assert_goes_on_to(whole, folder, f"killed{kill}")
