"""One process at a time holds a lock, and those that it forks do not hold it on."""

import os
import signal
import subprocess
import sys

import pytest

from keras_fcn.io.lock import locked

pytestmark = pytest.mark.any_backend

# util-linux's `flock` is another program that takes the same lock.
IS_FREE = ("flock", "--nonblock")


def is_free(folder):
    return subprocess.run([*IS_FREE, str(folder), "true"], check=False).returncode == 0


def test_the_lock_lasts_as_long_as_the_block(tmp_path):
    with locked(tmp_path):
        assert not is_free(tmp_path)
        (tmp_path / "config.toml").write_text("new")
        assert not is_free(tmp_path)
    assert is_free(tmp_path)


def test_a_lock_of_another_program_is_refused(tmp_path):
    holds = [*IS_FREE, "--close", str(tmp_path), "sh", "-c", "echo held; sleep 60"]
    with subprocess.Popen(holds, stdout=subprocess.PIPE, text=True, process_group=0) as other:
        try:
            assert other.stdout.readline() == "held\n"
            with pytest.raises(BlockingIOError), locked(tmp_path):
                pass
        finally:
            os.killpg(other.pid, signal.SIGKILL)
    with locked(tmp_path):
        pass


def test_a_forked_child_does_not_hold_the_lock_of_its_killed_parent(tmp_path):
    """As a worker of `multiprocessing` that outlives a training."""
    parent = f"""
import os, signal, time
from pathlib import Path
from keras_fcn.io.lock import locked
with locked(Path({str(tmp_path)!r})):
    if not os.fork():
        print(os.getpid(), flush=True)
    time.sleep(60)
"""
    command = [sys.executable, "-c", parent]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        child = int(process.stdout.readline())
        try:
            assert not is_free(tmp_path)
            process.kill()
            process.wait()
            assert is_free(tmp_path)
        finally:
            os.kill(child, signal.SIGKILL)
