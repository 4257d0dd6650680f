"""The errors that backends raise when another process has ended become one line.

`test_devices.py` and `test_torch.py` test a real lost process that a backend detects first.
"""

import contextlib
from pathlib import Path

import pytest

from keras_fcn.distribution import processes
from keras_fcn.training import failures
from keras_fcn.training.failures import one_line_for_lost_processes

pytestmark = pytest.mark.any_backend


@pytest.fixture(autouse=True)
def one_of_two(monkeypatch):
    monkeypatch.setattr(processes, "world_size", lambda: 2)
    monkeypatch.setattr(processes, "watched", lambda final_message: contextlib.nullcontext())
    monkeypatch.setattr(failures, "SECONDS_TO_FAIL", 0)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[gloo/transport/tcp/pair.cc] Connection closed by peer [127.0.0.1]:1234"),
        RuntimeError("NCCL error: remote process exited"),
        ValueError("UNAVAILABLE: failed to connect to all addresses"),
        ValueError("INTERNAL: Gloo all-reduce failed: Connection reset by peer"),
    ],
)
def test_every_backend_error_for_a_lost_process_becomes_the_same_line(error):
    with (
        pytest.raises(ConnectionError, match=r"^Another process .* in run, or") as raised,
        one_line_for_lost_processes(Path("run")),
    ):
        raise error
    assert raised.value.__cause__ is error


def test_a_failed_download_is_not_a_lost_process():
    error = ValueError("voc2012 could not be downloaded (Connection refused).")
    ends_in_one_line = one_line_for_lost_processes(Path("run"))
    with pytest.raises(ValueError, match="downloaded") as raised, ends_in_one_line:
        raise error
    assert raised.value is error


def test_a_single_process_reports_no_lost_process(monkeypatch):
    monkeypatch.setattr(processes, "world_size", lambda: 1)
    error = RuntimeError("Connection reset by peer")
    ends_in_one_line = one_line_for_lost_processes(Path("run"))
    with pytest.raises(RuntimeError, match="reset") as raised, ends_in_one_line:
        raise error
    assert raised.value is error
