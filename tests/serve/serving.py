"""A small model to serve, images for it, and requests that no client library sends."""

import asyncio
import io
import json
import struct
import zlib

import numpy as np
from helpers import NARROW_FILTERS, randomize
from PIL import Image

from keras_fcn import FCN8s
from keras_fcn.label_spaces import LabelSpace
from keras_fcn.serve.segmentation import ServedModel

SPACE = LabelSpace(("road", "car", "tree"), ((128, 64, 128), (64, 0, 128), (0, 128, 0)))
PHOTO = np.random.default_rng(0).integers(0, 256, (30, 41, 3), "uint8")
PNG_TYPE = {"Content-Type": "image/png"}


def small_model():
    model = FCN8s(3, filters=NARROW_FILTERS, fc_units=4, padding="same")
    randomize(model, seed=3)
    return ServedModel("street", model, SPACE)


def encoded(image=PHOTO, image_format="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(image).save(file, image_format, **options)
    return file.getvalue()


def png_of_size(width, height):
    """A file of some hundred bytes that claims to hold an image of any size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(bytes(100_000))), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def png_chunk(name, data):
    checksum = struct.pack(">I", zlib.crc32(name + data))
    return struct.pack(">I", len(data)) + name + data + checksum


def ask(app, parts, *, path="/predict", method="POST", headers=(), pause=0.0, stays=True):
    """Sends a request in parts; returns status, headers, decoded JSON and the parts that were read.

    The header `read-before`, which is added, is the number of parts that were read before the
    answer.

    Args:
        app: ASGI application.
        parts: Parts of the body.
        path: As it is sent: no client has cleaned it.
        method: HTTP method.
        headers: Pairs of names and values, besides `Host` and `Content-Type`.
        pause: Seconds before each part.
        stays: Whether the client waits for the answer.
    """
    sent, read = [], []
    names = {"host": "localhost", "content-type": "image/png", **dict(headers)}
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "http_version": "1.1",
        "headers": [(name.encode(), value.encode()) for name, value in names.items()],
        "extensions": {},
    }

    async def receive():
        if len(read) < len(parts):
            await asyncio.sleep(pause)
            read.append(parts[len(read)])
            return {"type": "http.request", "body": read[-1], "more_body": len(read) < len(parts)}
        if stays:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(message):
        if not sent:
            count = str(len(read)).encode()
            message = {**message, "headers": [*message["headers"], (b"read-before", count)]}
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    body = b"".join(message.get("body", b"") for message in sent)
    answered = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], answered, json.loads(body), read
