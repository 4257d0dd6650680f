"""`keras-fcn train` in two processes gives the run of one process, also when a process is lost."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from distribution.two_processes import BACKEND, PACKAGE, TRAIN, TwoProcesses, environment, torchrun
from helpers import NARROW_FILTERS, write_pairs

from keras_fcn.cli import main
from keras_fcn.training.run import Run
from keras_fcn.training.splits import Split

gate_on_torch = pytest.mark.gate if BACKEND == "torch" else pytest.mark.slow
LOST = (
    "keras-fcn: error: Another process of this training has ended. Restart all processes with "
    "--or-resume, which resumes from the last checkpoint in {}, or starts over if there is none "
    "(torchrun restarts them with --max-restarts)."
)


def arguments_of(folder, names):
    """Options of four steps, in two epochs of two."""
    images, labels = write_pairs(folder, names, size=(8, 10))
    settings = {"num_classes": 3, "ignore_class": 255, "padding": "same", "fc_units": 16}
    settings |= {"filters": list(NARROW_FILTERS)}
    settings |= {"model": "fcn32s", "freeze": "block4", "dropout_rate": 0.0, "steps": 4}
    # Adam divides by the gradient's magnitude, which amplifies rounding errors.
    settings |= {"batch_size": 2, "optimizer": "coupled_sgd", "learning_rate": 0.1}
    return [
        *("--images", str(images), "--labels", str(labels)),
        *("--val-images", str(images), "--val-labels", str(labels)),
        *(f"--set={name}={value}" for name, value in settings.items()),
        "--keep-state",
    ]


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """Five images: each process gets two per epoch."""
    return arguments_of(tmp_path_factory.mktemp("data"), "abcde")


@pytest.fixture(scope="module")
def unbroken(settings, tmp_path_factory):
    """The run folder of two processes without interruption."""
    folder = tmp_path_factory.mktemp("unbroken")
    out = folder / "run"
    with TwoProcesses(folder, [*settings, "--devices=all", "--out", str(out)]) as two:
        assert two.end() == [0, 0], two.told()
    assert (folder / "out0").read_text().count("Run: ") == 1
    assert (folder / "out1").read_text().count("Run: ") == 0
    return out


def assert_same_run(folder, wanted, atol):
    found, expected = (np.load(run / "last.npz") for run in (folder, wanted))
    assert set(found.files) == set(expected.files)
    for name in set(expected.files) - {"facts.json"}:
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=atol, err_msg=name)
    found, expected = (Run(run).history() for run in (folder, wanted))
    for row, wanted_row in zip(found, expected, strict=True):
        assert row == pytest.approx(wanted_row, rel=1e-4)
    assert (folder / "report.html").is_file()
    assert not list(folder.glob(".unfinished*"))


@gate_on_torch
def test_two_processes_write_the_same_run_as_one(settings, unbroken, tmp_path, monkeypatch):
    # A single process would take the fifth image, too.
    read = Split.__len__
    monkeypatch.setattr(Split, "__len__", lambda split: read(split) // 2 * 2)
    assert main(["train", *settings, "--out", str(tmp_path / "one")]) == 0
    assert_same_run(unbroken, tmp_path / "one", atol=1e-5)


def kill_one_of_two(options, killed, folder, out):
    """Kills a process after the first checkpoint and checks how the other one ends."""
    with TwoProcesses(folder, [*options, "--devices=all", "--out", str(out)]) as two:
        two.wait_for(out / "last.npz")
        two.processes[killed].kill()
        started = time.monotonic()
        assert two.processes[1 - killed].wait(60) not in (0, -signal.SIGKILL)
        print(f"{BACKEND}: the other process ended {time.monotonic() - started:.1f} s later")
        told = two.errors(1 - killed)
    assert told.splitlines()[-1] == LOST.format(out)
    assert told.count("error: ") == 1
    assert "Traceback" not in told
    assert not (out / "report.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1], ids=["first", "second"])
def test_killed_processes_resume_when_started_again(settings, unbroken, tmp_path, killed):
    out = tmp_path / "run"
    options = [*settings, "--checkpoint-every=1"]
    kill_one_of_two(options, killed, tmp_path / "killed", out)
    again = [*options, "--devices=all", "--out", str(out), "--or-resume"]
    with TwoProcesses(tmp_path / "again", again) as two:
        assert two.end() == [0, 0], two.told()
    assert re.search(r"resumes after \d of 2 epochs", two.errors(0))
    assert_same_run(out, unbroken, atol=1e-6)


@pytest.mark.slow
def test_sigterm_ends_both_processes(settings, tmp_path):
    out = tmp_path / "run"
    options = [*settings, "--set=steps=4000", "--devices=all", "--out", str(out)]
    with TwoProcesses(tmp_path / "ended", options) as two:
        two.wait_for(out / "last.npz")
        two.processes[1].terminate()
        assert two.end() == [1, 143]
        assert "keras-fcn: terminated" in two.errors(1)
        # Either the watch reports it, or TensorFlow's error, whose line does not name torchrun.
        assert two.errors(0).splitlines()[-1].startswith(LOST.format(out).partition(" (")[0])


@pytest.fixture
def ctrl_c_is_not_ignored():
    """A shell ignores it in what it starts with `&`, and so do all that are started there."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        pytest.param(signal.SIGTERM, 143, id="SIGTERM", marks=pytest.mark.gate),
        pytest.param(signal.SIGINT, 130, id="Ctrl-C", marks=pytest.mark.slow),
    ],
)
def test_a_signal_to_all_processes_is_the_exit_code_of_each(
    settings, tmp_path, number, code, ctrl_c_is_not_ignored
):
    """As Slurm and Kubernetes send SIGTERM, and a terminal Ctrl-C."""
    out = tmp_path / "run"
    options = [*settings, "--set=steps=4000", "--devices=all", "--out", str(out)]
    with TwoProcesses(tmp_path / "ended", options) as two:
        two.wait_for(out / "last.npz")
        for process in two.processes:
            process.send_signal(number)
        assert two.end() == [code, code], two.told()
    assert (out / "config.toml").exists()


@pytest.mark.slow
@pytest.mark.skipif(BACKEND != "torch", reason="torchrun is of PyTorch")
def test_torchrun_starts_killed_processes_again(settings, unbroken, tmp_path):
    out = tmp_path / "run"
    options = [*settings, "--devices=all", "--checkpoint-every=1", "--out", str(out)]
    process = torchrun(*options, "--or-resume", restarts=1)
    try:
        while not (out / "last.npz").exists():
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.002)
        os.kill(last_child_of(process.pid), signal.SIGKILL)
        errors = process.communicate(timeout=300)[1]
    finally:
        process.kill()
    assert process.returncode == 0, errors
    assert re.search(r"resumes after \d of 2 epochs", errors)
    assert_same_run(out, unbroken, atol=1e-6)


def last_child_of(pid):
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[-1])


class TestOtherNumberOfProcesses:
    """Four images, so that one process and two take the same images in an epoch."""

    @pytest.fixture(scope="class")
    @classmethod
    def options(cls, tmp_path_factory):
        return arguments_of(tmp_path_factory.mktemp("data"), "abcd")

    @pytest.fixture(scope="class")
    @classmethod
    def whole(cls, options, tmp_path_factory):
        out = tmp_path_factory.mktemp("whole") / "run"
        assert main(["train", *options, "--out", str(out)]) == 0
        return out

    @pytest.mark.parametrize(
        "killed",
        [
            pytest.param(0, id="first", marks=pytest.mark.gate),
            pytest.param(1, id="second", marks=pytest.mark.slow),
        ],
    )
    def test_killed_with_two_and_ended_by_one(self, options, whole, tmp_path, killed):
        out = tmp_path / "run"
        kill_one_of_two(options, killed, tmp_path / "killed", out)
        assert main(["train", "--resume", str(out), "--keep-state"]) == 0
        assert_same_run(out, whole, atol=1e-5)

    @pytest.mark.slow
    def test_killed_alone_and_ended_by_two(self, options, whole, tmp_path):
        out = tmp_path / "run"
        command = [sys.executable, *TRAIN, *options, "--out", str(out)]
        one = subprocess.Popen(command, env=environment(PACKAGE))
        while not (out / "last.npz").exists():
            assert one.poll() is None
            time.sleep(0.002)
        one.kill()
        one.wait()
        with TwoProcesses(
            tmp_path / "two", ["--resume", str(out), "--devices=all", "--keep-state"]
        ) as two:
            assert two.end() == [0, 0], two.told()
        assert_same_run(out, whole, atol=1e-5)
