"""What a process says when its backend is the first to notice that another one has ended."""

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest
from distribution.two_processes import PACKAGE, environment, free_address, place

from keras_fcn.distribution import processes
from keras_fcn.training.failures import one_line_for_lost_processes

# The first process is left, as the second one of JAX is ended in C++ when the first is lost.
PROCESS = """
import os, signal
from pathlib import Path
from keras_fcn.distribution import data_parallel, processes, watch
from keras_fcn.training.failures import one_line_for_files, one_line_for_lost_processes

watch.Watch._end_unless_over = lambda self: None
with data_parallel("all"):
    try:
        with one_line_for_lost_processes(Path("RUN")), one_line_for_files():
            processes.gather("both are there")
            if processes.index() == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            processes.gather("one is there")
    except ConnectionError as error:
        print(error, flush=True)
        os._exit(3)
"""


def test_the_backend_is_the_first_to_notice():
    addresses = [free_address(), free_address()]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS],
            env=environment(PACKAGE) | place(number, addresses),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    try:
        told = [process.communicate(timeout=120) for process in started]
    finally:
        for process in started:
            process.kill()
    assert started[0].returncode == 3, told[0][1]
    line = told[0][0].splitlines()[-1]
    assert line.startswith("Another process of this training has ended. What RUN holds")


@pytest.mark.any_backend
def test_a_failed_download_is_not_a_lost_process(monkeypatch):
    monkeypatch.setattr(processes, "count", lambda: 2)
    monkeypatch.setattr(processes, "watched", contextlib.nullcontext)
    error = ValueError("voc2012 could not be downloaded (Connection refused).")
    ends_in_one_line = one_line_for_lost_processes(Path("run"))
    with pytest.raises(ValueError, match="downloaded") as raised, ends_in_one_line:
        raise error
    assert raised.value is error
