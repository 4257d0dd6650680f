"""Delays Ctrl-C and SIGTERM until a training step is complete."""

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def interrupts_wait() -> Iterator[None]:
    """Context manager that defers what Ctrl-C and SIGTERM raise to the end of the block.

    Python would raise it as soon as a compiled step returns, before the new weights are assigned.
    The old weights would be lost as well: the step reuses their memory (buffer donation).
    """
    # Only the main thread receives signals, and only a Python handler raises an exception.
    handlers = {}
    if threading.current_thread() is threading.main_thread():
        found = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        handlers = {number: handler for number, handler in found.items() if callable(handler)}
    received = []
    for number in handlers:
        signal.signal(number, lambda *arguments: received.append(arguments))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if received:
            number, frame = received[-1]
            handlers[number](number, frame)
