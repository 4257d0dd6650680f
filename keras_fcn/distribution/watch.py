"""Detects immediately that another process of a training has ended, on every backend.

The backends detect it late, and some then end the process in C++ with a log of their own. While
process 0 builds a dataset, they wait no longer than the timeout of their collective operations.
Here every process keeps a TCP connection to process 0. The operating system closes it however a
process ends, and TCP keepalive detects a machine that no longer answers.
"""

import atexit
import os
import secrets
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

SECONDS_TO_FAIL = 5
"""Grace period for a process to raise its own error after another process has reported one."""

_SECONDS_TO_CONNECT = 60
_CONTINUE, _DONE, _FAILED = b"p", b".", b"!"
# A machine that no longer answers is detected after 10 s and four probes of 5 s.
_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}


class Watch:
    """Connections of this process to process 0, or of process 0 to all others.

    Args:
        is_first: Whether this is process 0.
        world_size: Number of processes.
        host: Name or address of the machine of process 0.
        gather: Function that returns the values of all processes, see `processes.gather`.
        final_message: Line written to standard error when another process has ended.

    Raises:
        ConnectionError: If the processes cannot connect to each other.
    """

    def __init__(
        self,
        is_first: bool,
        world_size: int,
        host: str,
        gather: Callable[[Any], list],
        final_message: str,
    ):
        self._is_first, self._final_message = is_first, final_message
        self._turns, self._is_over = threading.Semaphore(0), threading.Event()
        self._exit_code = 1
        server = _server() if is_first else None
        # The password keeps out any other program that connects to the port.
        address = (server.getsockname()[1], secrets.token_bytes(16)) if server else None
        port, password = gather(address)[0]
        try:
            if server:
                self._connections = _accept(server, world_size, password)
            else:
                self._connections = [_connect(host, port, password)]
        except OSError as error:
            raise ConnectionError(
                f"All processes of a training must be able to connect to process 0 on any port. "
                f"Received: {error}, at {host}:{port}."
            ) from error
        self._signals = _Signals()
        self._thread = threading.Thread(target=self._listen, name="watch", daemon=True)
        self._thread.start()

    def wait_for_first(self) -> None:
        """Blocks until process 0 has called this, too; process 0 itself does not wait."""
        if self._is_first:
            self._send(_CONTINUE)
        else:
            self._turns.acquire()

    def end(self, exit_code: int = 0) -> None:
        """Ends the watch.

        Args:
            exit_code: The exit code of this process. If it is not 0, the other processes fail, too.
        """
        self._is_over.set()
        self._signals.end()
        self._send(_FAILED if exit_code else _DONE)
        if exit_code:
            self._exit_code = exit_code
            # Exit handlers run in reverse order of registration, so this one precedes JAX's, which
            # would wait for the others and log over the message if process 0 had already ended.
            atexit.register(self._end_process)
            return
        for connection in self._connections:
            _ignore_errors(connection.shutdown, socket.SHUT_WR)

    def _send(self, byte):
        for connection in self._connections:
            _ignore_errors(connection.sendall, byte)

    def _end_process(self):
        if self._is_first:
            self._thread.join(SECONDS_TO_FAIL)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(self._exit_code)

    def _listen(self):
        with selectors.DefaultSelector() as selector:
            for connection in self._connections:
                selector.register(connection, selectors.EVENT_READ)
            done = set()
            while selector.get_map():
                for key, _ in selector.select():
                    byte = _receive(key.fileobj)
                    if byte == _CONTINUE:
                        self._turns.release()
                    elif byte == _DONE:
                        done.add(key.fileobj)
                    elif byte == _FAILED:
                        # This process may be about to raise the same error itself.
                        self._is_over.wait(SECONDS_TO_FAIL)
                        self._end_unless_over()
                    else:
                        if key.fileobj not in done:
                            self._end_unless_over()
                        selector.unregister(key.fileobj)
                        key.fileobj.close()

    def _end_unless_over(self):
        """Ends the process: its main thread may wait in C++ for the other process forever."""
        if not self._is_over.is_set():
            _write_final_message(f"keras-fcn: error: {self._final_message}\n")
            os._exit(self._signals.exit_code() or 1)


class _Signals:
    """Which signals this process has received, as Python knows only once C++ has returned."""

    def __init__(self):
        self._received, self._written = socket.socketpair()
        self._received.setblocking(False)
        self._written.setblocking(False)
        # Only the main thread receives signals.
        self._is_used = threading.current_thread() is threading.main_thread()
        if self._is_used:
            self._last = signal.set_wakeup_fd(self._written.fileno(), warn_on_full_buffer=False)

    def end(self) -> None:
        """Passes signals on to whoever asked for them before."""
        if self._is_used:
            signal.set_wakeup_fd(self._last)

    def exit_code(self) -> int:
        """Returns the exit code for the first of Ctrl-C and SIGTERM, 0 without either."""
        numbers = _ignore_errors(self._received.recv, 64) or b""
        ends = [number for number in numbers if number in (signal.SIGINT, signal.SIGTERM)]
        return 128 + ends[0] if ends else 0


def _write_final_message(text):
    """Writes to standard error and then silences it, so that no backend log follows the text."""
    # Not with sys.stderr: another thread may hold its lock.
    standard_error = os.dup(2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    os.write(standard_error, text.encode())


def _server():
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", 0))


def _accept(server, world_size, password):
    """Returns the connections of all other processes, which send the password."""
    connections, until = [], time.monotonic() + _SECONDS_TO_CONNECT
    with server:
        while len(connections) < world_size - 1:
            server.settimeout(max(until - time.monotonic(), 0.01))
            connection, _ = server.accept()
            connection.settimeout(5)
            received = _ignore_errors(connection.recv, len(password), socket.MSG_WAITALL)
            if received == password:
                connections.append(_keep_alive(connection))
            else:
                connection.close()
    return connections


def _connect(host, port, password):
    connection = socket.create_connection((host, port), _SECONDS_TO_CONNECT)
    connection.sendall(password)
    return _keep_alive(connection)


def _keep_alive(connection):
    connection.settimeout(None)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):  # Not on every system.
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return connection


def _receive(connection):
    return _ignore_errors(connection.recv, 1) or b""


def _ignore_errors(function, *arguments):
    """Returns the function's result, or `None` if the other side has closed the connection."""
    try:
        return function(*arguments)
    except OSError:
        return None
