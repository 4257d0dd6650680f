"""Notices at once that another process of a training has ended, on every backend.

The backends notice it late, some by ending the process in C++ with a log of their own, and wait
for a first process that builds a data set no longer than their collective operations take. Here
every process holds a TCP connection with the first one, which the operating system closes however
a process ends, and tests when a machine falls silent.
"""

import atexit
import os
import secrets
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

SECONDS_TO_FAIL = 5
"""What a process has to fail by itself after another one has told that it fails."""

_SECONDS_TO_CONNECT = 60
_MAY_GO_ON, _IS_DONE, _FAILS = b"p", b".", b"!"
# A silent machine is found after 10 s and four tests of 5 s.
_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}


class Watch:
    """The connections of this process with the first one, or of the first one with the others.

    Args:
        is_first: Whether this is the first process.
        count: How many there are.
        host: Name or address of the first process's machine.
        gather: Function that gives the values of all processes, see `processes.gather`.
        last_words: What is written to standard error when another process has ended.

    Raises:
        ConnectionError: If the processes do not find each other.
    """

    def __init__(
        self,
        is_first: bool,
        count: int,
        host: str,
        gather: Callable[[Any], list],
        last_words: str,
    ):
        self._is_first, self._last_words = is_first, last_words
        self._turns, self._is_over = threading.Semaphore(0), threading.Event()
        server = _server() if is_first else None
        # Whoever else finds the port does not know the password.
        told = (server.getsockname()[1], secrets.token_bytes(16)) if server else None
        port, password = gather(told)[0]
        try:
            if server:
                self._peers = _accepted(server, count - 1, password)
            else:
                self._peers = [_connected(host, port, password)]
        except OSError as error:
            raise ConnectionError(
                f"The processes of a training must reach the first one on any port. Received: "
                f"{error}, at {host}:{port}."
            ) from error
        self._thread = threading.Thread(target=self._listen, name="watch", daemon=True)
        self._thread.start()

    def wait_for_first(self) -> None:
        """Returns when the first process has called this, too; it does not wait."""
        if self._is_first:
            self._tell(_MAY_GO_ON)
        else:
            self._turns.acquire()

    def end(self, failed: bool) -> None:
        """Takes leave of the other processes; after a failure they fail, too."""
        self._is_over.set()
        self._tell(_FAILS if failed else _IS_DONE)
        if failed:
            # The last to be registered is the first to be called: JAX would wait for the others
            # there, and write a log over the message if the first process has ended before.
            atexit.register(self._end_process)
            return
        for peer in self._peers:
            _quietly(peer.shutdown, socket.SHUT_WR)

    def _tell(self, byte):
        for peer in self._peers:
            _quietly(peer.sendall, byte)

    def _end_process(self):
        if self._is_first:
            self._thread.join(SECONDS_TO_FAIL)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)

    def _listen(self):
        with selectors.DefaultSelector() as selector:
            for peer in self._peers:
                selector.register(peer, selectors.EVENT_READ)
            done = set()
            while selector.get_map():
                for key, _ in selector.select():
                    byte = _received(key.fileobj)
                    if byte == _MAY_GO_ON:
                        self._turns.release()
                    elif byte == _IS_DONE:
                        done.add(key.fileobj)
                    elif byte == _FAILS:
                        # Its error may be one that this process finds, too.
                        self._is_over.wait(SECONDS_TO_FAIL)
                        self._end_unless_over()
                    else:
                        if key.fileobj not in done:
                            self._end_unless_over()
                        selector.unregister(key.fileobj)
                        key.fileobj.close()

    def _end_unless_over(self):
        """Ends the process: its main thread may wait for the other one in C++ for ever."""
        if not self._is_over.is_set():
            _say_last(f"keras-fcn: error: {self._last_words}\n")
            os._exit(1)


def _say_last(text):
    """Writes to standard error what no log of a backend's threads is to follow."""
    # Not by sys.stderr, whose lock another thread may hold.
    standard_error = os.dup(2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    os.write(standard_error, text.encode())


def _server():
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", 0))


def _accepted(server, count, password):
    """Connections with all others."""
    peers, until = [], time.monotonic() + _SECONDS_TO_CONNECT
    with server:
        while len(peers) < count:
            server.settimeout(max(until - time.monotonic(), 0.01))
            peer, _ = server.accept()
            peer.settimeout(5)
            if _quietly(peer.recv, len(password), socket.MSG_WAITALL) == password:
                peers.append(_kept_alive(peer))
            else:
                peer.close()
    return peers


def _connected(host, port, password):
    peer = socket.create_connection((host, port), _SECONDS_TO_CONNECT)
    peer.sendall(password)
    return _kept_alive(peer)


def _kept_alive(peer):
    peer.settimeout(None)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):  # Not on every system.
            peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return peer


def _received(peer):
    return _quietly(peer.recv, 1) or b""


def _quietly(function, *arguments):
    """What a function returns, or `None` if the other side has gone."""
    try:
        return function(*arguments)
    except OSError:
        return None
