"""Reads the body of a request within the limits, and the image in it."""

import asyncio
import contextlib
import io
from typing import Any

import numpy as np
from PIL import Image
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from keras_fcn.data.image_files import DECODING_ERRORS, count_pages, read_image
from keras_fcn.serve.limits import Limits

# Pillow's names. Its other formats stay closed to strangers: some start programs.
_FORMATS = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "TIFF": "image/tiff",
    "BMP": "image/bmp",
}
MEDIA_TYPES = tuple(_FORMATS.values())


def check_media_type(request: Request) -> None:
    """Raises an HTTPException if the body is not declared as an image."""
    declared = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if declared not in MEDIA_TYPES:
        raise HTTPException(
            415,
            f"`Content-Type` must be one of {', '.join(MEDIA_TYPES)}. Received: "
            f"{declared or 'none'}.",
        )


async def read_body(request: Request, limits: Limits) -> bytes:
    """Reads the body, and stops as soon as it is too large or too slow.

    Raises:
        HTTPException: 413 for too many bytes, 408 if they do not arrive in time, 400 for none.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(limits.timeout):
            async for part in _parts(request, limits):
                body += part
    except TimeoutError:
        raise HTTPException(
            408, f"The body must arrive within {limits.timeout:g} s.", {"Connection": "close"}
        ) from None
    except ClientDisconnect:
        raise HTTPException(400, "The body must be complete.") from None
    if not body:
        raise HTTPException(400, "The body must be an image. Received: no bytes.")
    return bytes(body)


async def skip_body(request: Request, limits: Limits) -> None:
    """Reads what is left of a body within the limits, and drops it.

    A server that answers and closes while the client still sends resets the connection, and many
    clients then lose the answer.
    """
    with contextlib.suppress(HTTPException, TimeoutError, ClientDisconnect, RuntimeError):
        async with asyncio.timeout(limits.timeout):
            async for _ in _parts(request, limits):
                pass


class LastAnswer(JSONResponse):
    """A refusal before the end of the body: the connection closes once the rest has been dropped.

    A server that closes while the client still sends resets the connection, and most clients then
    lose the answer (the lingering close of RFC 9112, section 9.6).

    Args:
        content: What becomes JSON.
        status: Status code.
        limits: The rest of the body has the time of a body.
    """

    def __init__(self, content: Any, status: int, limits: Limits):
        super().__init__(content, status, {"Connection": "close"})
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the answer, and ends it when the body has ended."""
        start = {"type": "http.response.start", "status": self.status_code}
        await send({**start, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.timeout):
                while (await receive()).get("more_body"):
                    pass
        await send({"type": "http.response.body", "body": b""})


async def _parts(request, limits):
    received, declared = 0, request.headers.get("content-length", "0")
    too_many = HTTPException(
        413,
        f"The body must have at most {limits.max_bytes:,} bytes.",
        {"Connection": "close"},
    )
    if int(declared) > limits.max_bytes:
        raise too_many
    async for part in request.stream():
        received += len(part)
        # A body in chunks declares no length.
        if received > limits.max_bytes:
            raise too_many
        yield part


class _Body(io.BytesIO):
    """A file in memory that messages about it call by this name."""

    def __repr__(self):
        return "The body"


def check_image(body: bytes, limits: Limits) -> None:
    """Checks format and size of an image by its header, without decoding the pixels.

    Raises:
        HTTPException: 415 for another format, 413 for too many pixels.
    """
    most = f"The image must have at most {limits.max_pixels:,} pixels."
    try:
        with Image.open(_Body(body), formats=tuple(_FORMATS)) as image:
            width, height = image.size
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise HTTPException(413, most) from None
    except DECODING_ERRORS:
        raise HTTPException(
            415, f"The body must be an image in one of the formats {', '.join(_FORMATS)}."
        ) from None
    if width * height > limits.max_pixels:
        raise HTTPException(413, f"{most} Received: {width}x{height}.")


def is_first_of_several(body: bytes) -> bool:
    """Returns whether a body that `check_image` has accepted holds further frames or pages."""
    return count_pages(_Body(body), most=2) > 1


def decode_image(body: bytes, channels: int) -> np.ndarray:
    """Returns the image of a body that `check_image` has accepted, as `read_image` reads it.

    Args:
        body: The bytes.
        channels: See `keras_fcn.data.image_files.read_image`.

    Output shape:
        (height, width, channels), uint8.

    Raises:
        HTTPException: 422 if the image is truncated or damaged, or has other channels.
    """
    try:
        return read_image(_Body(body), channels)
    except ValueError as error:
        raise HTTPException(422, str(error)) from None
