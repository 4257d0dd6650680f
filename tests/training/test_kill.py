"""Kills a training run and compares what it then goes on to.

The first time while a checkpoint is being written, then at random moments after it has begun.

Twice by default; `KILLS=20 pytest -s tests/training/test_kill.py` for more, `KILL_SEED` for others.
"""

import csv
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from helpers import variables_as_numpy, write_pairs

from keras_fcn.training.run import Run

pytestmark = pytest.mark.usefixtures("narrow_blocks")

COMMAND = Path(__file__).parents[1] / "narrow_command.py"
KILLS = int(os.environ.get("KILLS", "2"))
SEED = int(os.environ.get("KILL_SEED", "0"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    write_pairs(folder, "abcde")
    return folder


def start(folder, *arguments):
    """The command in a process of its own."""
    command = [sys.executable, str(COMMAND), "train", *arguments]
    log = (folder / "log").open("a")
    return subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)


def train(folder, out):
    """A checkpoint after every step: about half of the time one is being written."""
    settings = ["num_classes=3", "ignore_class=255", "padding=same", "fc_units=16", "model=fcn32s"]
    settings += ["epochs=2", "batch_size=2", "jitter=true", "ema=0.9"]
    data = ["--images", "images", "--labels", "labels"]
    data += ["--val-images", "images", "--val-labels", "labels"]
    changes = [argument for setting in settings for argument in ("--set", setting)]
    return start(folder, *data, *changes, "--checkpoint-every", "1", "--out", out)


def resume(folder, out):
    return start(folder, "--resume", out, "--checkpoint-every", "1")


def end_of(process, folder):
    assert process.wait(timeout=300) == 0, (folder / "log").read_text()


def state(run):
    with np.load(run / "last.npz", allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files if name != "facts.json"}


def history(run):
    with (run / "metrics.csv").open() as file:
        return [[float(value) for value in row] for row in list(csv.reader(file))[1:]]


def wait_for(path, process):
    while not path.exists() and process.poll() is None:
        time.sleep(0.002)


@pytest.fixture(scope="module")
def unbroken(folder):
    """A run that nothing interrupted, and the seconds from its start to its folder and its end."""
    started = time.monotonic()
    process = train(folder, "unbroken")
    wait_for(folder / "unbroken" / "config.toml", process)
    begun = time.monotonic() - started
    end_of(process, folder)
    return folder / "unbroken", begun, time.monotonic() - started


@pytest.mark.parametrize("kill", range(KILLS))
def test_a_killed_run_goes_on_to_the_weights_of_an_unbroken_one(folder, unbroken, kill):
    whole, begun, duration = unbroken
    out = f"killed{kill}"
    started = time.monotonic()
    process = train(folder, out)
    if kill == 0:
        wait_for(folder / out / ".unfinished-last.npz", process)
    else:
        time.sleep(random.Random(f"{SEED}/{kill}").uniform(begun, duration))
    process.kill()
    process.wait()
    has_begun = (folder / out).exists()
    left = sorted(path.name for path in (folder / out).glob("*")) if has_begun else "nothing yet"
    print(f"killed after {time.monotonic() - started:.1f} of {duration:.1f} s, leaving {left}")

    end_of(resume(folder, out) if has_begun else train(folder, out), folder)
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
