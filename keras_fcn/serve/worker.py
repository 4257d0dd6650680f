"""One thread that predicts, and the requests that wait for it."""

import asyncio
import concurrent.futures
import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request

from keras_fcn.serve.limits import Limits
from keras_fcn.spelling import counted


class Worker:
    """One thread that predicts, and a limited number of requests that wait for it.

    A request has its place from before its body is read until its prediction has ended, so the
    limit bounds the memory of the bodies, too.

    Args:
        limits: `queue` places; `timeout` seconds for a prediction, waiting included.
    """

    def __init__(self, limits: Limits):
        self._limits = limits
        self._places = threading.Semaphore(limits.queue)
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "predict")
        self._seconds = 1.0

    @contextlib.contextmanager
    def place(self) -> Iterator["Place"]:
        """Context manager that holds a place.

        Raises:
            HTTPException: 429 if all are taken.
        """
        if not self._places.acquire(blocking=False):
            seconds = math.ceil(self._seconds * self._limits.queue / 2)
            raise HTTPException(
                429,
                f"At most {counted(self._limits.queue, 'request')} at a time. Try again later.",
                {"Retry-After": str(seconds)},
            )
        place = Place(self._limits, self._submit)
        try:
            yield place
        finally:
            place.when_ended(self._places.release)

    def _submit(self, job):
        def timed():
            started = time.monotonic()
            try:
                return job()
            finally:
                self._seconds = time.monotonic() - started

        return self._thread.submit(timed)

    def stop(self) -> None:
        """Drops the predictions that wait; the one that runs ends by itself."""
        self._thread.shutdown(wait=False, cancel_futures=True)


class Place:
    """The place of one request; see `Worker.place`."""

    def __init__(self, limits: Limits, submit: Callable):
        self._limits, self._submit = limits, submit
        self._future: concurrent.futures.Future | None = None

    async def result(self, request: Request, job: Callable[[], Any]) -> Any:
        """Runs `job` in the thread and returns its result.

        Raises:
            HTTPException: 503 if it takes too long; 400 if the client is gone.
        """
        self._future = self._submit(job)
        waiting = asyncio.wrap_future(self._future)
        gone = asyncio.create_task(_disconnected(request))
        seconds = self._limits.timeout
        try:
            await asyncio.wait({waiting, gone}, timeout=seconds, return_when="FIRST_COMPLETED")
            if waiting.done():
                return waiting.result()
            if gone.done():
                raise HTTPException(400, "The client must wait for the answer.")
            raise HTTPException(
                503,
                f"A prediction must end within {seconds:g} s. Send a smaller image, or set "
                "`max_side`.",
            )
        finally:
            # Cancels the prediction if it has not begun.
            waiting.cancel()
            gone.cancel()

    def when_ended(self, release: Callable[[], None]) -> None:
        """Calls `release` once nothing runs for this place, at once if nothing does."""
        if self._future is None:
            release()
        else:
            self._future.add_done_callback(lambda _: release())


async def _disconnected(request):
    """Returns when the client has closed the connection; the body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
