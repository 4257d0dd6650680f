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

# Of gloo and NCCL, of gRPC below TensorFlow, and of JAX's coordination service.
_LOST = re.compile(
    r"closed by peer|Connection reset|Connection refused|Broken pipe|NCCL error|remote process|"
    r"UNAVAILABLE|Collective ops is aborted|heartbeat|preempted|Gloo",
    re.IGNORECASE,
)
# How JAX begins what it says of a collective operation.
_STATUS = re.compile(r"[A-Z_]+: ")


@contextlib.contextmanager
def removed_unless_resumable(folder: Path, is_resumable: Callable[[], bool]) -> Iterator[None]:
    """Removes a folder when the block fails before anything resumable was written."""
    try:
        yield
    except BaseException as error:
        # An OSError itself is a disk that refused a write: --resume starts over once it does not.
        if type(error) is not OSError and processes.rank() == 0 and not is_resumable():
            shutil.rmtree(folder)
        raise


@contextlib.contextmanager
def one_line_for_files() -> Iterator[None]:
    """Turns TensorFlow's error about a file that was lost or damaged into a ValueError."""
    try:
        yield
    except tf.errors.OpError as error:
        if _tells_of_a_lost_process(error):
            raise
        found = re.search(r"\w+Error: (.*)", error.message)
        raise ValueError(found[1] if found else error.message) from error


@contextlib.contextmanager
def one_line_for_lost_processes(path: Path) -> Iterator[None]:
    """Ends this process with one line when another one has ended.

    Where a backend is the first to say so, this raises a ConnectionError of the same words.
    """
    last_words = (
        f"Another process of this training has ended. What {path} holds is whole: start all "
        "processes again with --or-resume, which goes on from its last checkpoint (torchrun "
        "starts them by itself with --max-restarts)."
    )
    with processes.watched(last_words):
        try:
            yield
        except (RuntimeError, ValueError, tf.errors.OpError) as error:
            if not _tells_of_a_lost_process(error):
                raise
            # The watch ends this process meanwhile, if another one has really ended.
            time.sleep(SECONDS_TO_FAIL / 2)
            raise ConnectionError(last_words) from error


def _tells_of_a_lost_process(error):
    if processes.world_size() == 1:
        return False
    message = str(error)
    # A ValueError is what JAX makes of it outside of compiled functions, and of much else here.
    if isinstance(error, ValueError) and not _STATUS.match(message):
        return False
    return bool(_LOST.search(message))
