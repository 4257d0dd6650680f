"""Runs the application on a socket until a signal stops it."""

import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Iterator

import numpy as np
import uvicorn
from starlette.types import ASGIApp

from keras_fcn.serve.segmentation import ServedModel


def listen(host: str, port: int) -> socket.socket:
    """Returns a socket on which connections wait from now on.

    Args:
        host: Name or address of a network interface.
        port: Port; 0 for a free one.

    Raises:
        OSError: If the address cannot be used.
        ValueError: If the port is no port.
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"`port` (--port) must be from 0 to 65535. Received: port={port}.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise OSError(
            "`host` and `port` (--host, --port) must be an address that is free. Received: "
            f"{host}, {port}: {error.strerror}."
        ) from None


@contextlib.contextmanager
def sigterm_exits() -> Iterator[None]:
    """Context manager in which SIGTERM ends the process with 0.

    Service managers and containers stop a server so, which is no failure.
    """
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def warm_up(served: ServedModel) -> None:
    """Predicts a small image, which compiles and loads what the first request would wait for."""
    served.segment(np.zeros((64, 64, served.model.num_channels), "uint8"))


def run(app: ASGIApp, listening: socket.socket, patience: float) -> None:
    """Serves until SIGINT or SIGTERM, which are raised again after the last answer.

    Args:
        app: The application.
        listening: See `listen`.
        patience: Seconds that running requests have to end after a signal.
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        timeout_graceful_shutdown=max(1, round(patience)),
    )
    logging.getLogger("uvicorn.error").addFilter(_is_no_cancellation)
    uvicorn.Server(config).run(sockets=[listening])


def _is_no_cancellation(record):
    """A second signal cancels the requests, and each of them would print its traceback."""
    return "CancelledError" not in f"{record.getMessage()} {record.exc_info}"
