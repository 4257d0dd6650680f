"""Delays Ctrl-C until a training step is complete."""

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def interrupts_wait() -> Iterator[None]:
    """Context manager that defers the KeyboardInterrupt of a Ctrl-C to the end of the block.

    Python would raise it as soon as a compiled step returns, before the new weights are assigned.
    The old weights would be lost as well: the step reuses their memory (buffer donation).
    """
    handler = signal.getsignal(signal.SIGINT)
    # Only the main thread receives signals, and only a Python handler raises an exception.
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
