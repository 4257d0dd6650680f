"""Kills one of two processes and lets the other one's backend, not the watch, detect the loss."""

import os
import signal
from pathlib import Path

LOST = "Another process of this training has ended. Restart all processes with --or-resume, which"
NOTICED = 3
"""Exit code of the first process; the second is killed."""


def lose_the_second(last=None):
    """Ends both processes; the second is killed, the first reports the loss.

    It cannot be the other way round: JAX ends the second process in C++ when the first is lost.

    Args:
        last: Function that both call and that waits for the other one; `None` gathers a value.
    """
    from keras_fcn.distribution import processes, watch
    from keras_fcn.training.failures import one_line_for_files, one_line_for_lost_processes

    def together():
        processes.gather("both are there")
        if processes.rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        processes.gather("one is there")

    watch.Watch._end_unless_over = lambda self: None
    try:
        with one_line_for_lost_processes(Path("RUN")), one_line_for_files():
            (last or together)()
    except ConnectionError as error:
        print(error, flush=True)
        os._exit(NOTICED)
