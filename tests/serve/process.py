"""Runs `keras-fcn serve` as a process."""

import contextlib
import os
import subprocess
import sys


@contextlib.contextmanager
def serving(folder, model, *options):
    """A process that works in an empty folder; yields it and the address that it prints."""
    for name in ("work", "home", "tmp"):
        (folder / name).mkdir()
    command = [sys.executable, "-m", "keras_fcn", "serve", model, "--port", "0", *options]
    environment = {**os.environ, "HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp")}
    process = subprocess.Popen(
        command,
        cwd=folder / "work",
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process, process.stdout.readline().rpartition(" ")[2].strip()
    finally:
        process.kill()
        process.communicate()
