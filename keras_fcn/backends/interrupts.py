"""Steps of a training that Ctrl-C does not cut in two."""

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def interrupts_wait() -> Iterator[None]:
    """Context manager at whose end a Ctrl-C of meanwhile raises its KeyboardInterrupt.

    Python would raise it as soon as a compiled step returns, before anything has taken the new
    weights, whose old memory the step has used up.
    """
    handler = signal.getsignal(signal.SIGINT)
    # Signals reach the main thread alone; without a handler in Python none raises anything.
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    received = []
    signal.signal(signal.SIGINT, lambda *arguments: received.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if received:
            handler(*received[-1])
