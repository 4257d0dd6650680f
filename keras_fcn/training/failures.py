"""Errors of a run: one line for the user, and no run folder without a checkpoint."""

import contextlib
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import tensorflow as tf

from keras_fcn.distribution import processes
from keras_fcn.distribution.watch import SECONDS_TO_FAIL

# Errors of gloo and NCCL, of TensorFlow's gRPC, and of JAX's coordination service.
_LOST = re.compile(
    r"closed by peer|Connection reset|Connection refused|Broken pipe|NCCL error|remote process|"
    r"UNAVAILABLE|Collective ops is aborted|heartbeat|preempted|Gloo",
    re.IGNORECASE,
)
# JAX's errors of a collective operation start with a status code.
_STATUS = re.compile(r"[A-Z_]+: ")


@contextlib.contextmanager
def removed_unless_resumable(folder: Path, is_resumable: Callable[[], bool]) -> Iterator[None]:
    """Removes a folder when the block fails before anything resumable was written."""
    try:
        yield
    except BaseException as error:
        # A plain OSError is a failed write to the disk: --resume starts over once writing works.
        if type(error) is not OSError and processes.rank() == 0 and not is_resumable():
            shutil.rmtree(folder)
        raise


@contextlib.contextmanager
def one_line_for_files() -> Iterator[None]:
    """Turns TensorFlow's error about a file that was lost or damaged into a ValueError."""
    try:
        yield
    except tf.errors.OpError as error:
        if _reports_lost_process(error):
            raise
        found = re.search(r"\w+Error: (.*)", error.message)
        raise ValueError(found[1] if found else error.message) from error


@contextlib.contextmanager
def one_line_for_lost_processes(path: Path) -> Iterator[None]:
    """Ends this process with one line when another one has ended.

    If a backend detects the loss first, this raises a ConnectionError with the same message.
    """
    final_message = (
        "Another process of this training has ended. Restart all processes with --or-resume, which "
        f"resumes from the last checkpoint in {path}, or starts over if there is none (torchrun "
        "restarts them with --max-restarts)."
    )
    with processes.watched(final_message):
        try:
            yield
        except (RuntimeError, ValueError, tf.errors.OpError) as error:
            if not _reports_lost_process(error):
                raise
            # If another process has really ended, the watch ends this one in the meantime.
            time.sleep(SECONDS_TO_FAIL / 2)
            raise ConnectionError(final_message) from error


def _reports_lost_process(error):
    if processes.world_size() == 1:
        return False
    message = str(error)
    # Outside compiled functions JAX raises a ValueError, as many unrelated checks do.
    if isinstance(error, ValueError) and not _STATUS.match(message):
        return False
    return bool(_LOST.search(message))
