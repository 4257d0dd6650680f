"""The routes of the server, as an ASGI application."""

import asyncio
import contextlib
import functools
import importlib.util
from collections.abc import Iterable
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route, request_response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from keras_fcn.inference.caches import BoundedCaches
from keras_fcn.serve import bodies
from keras_fcn.serve.answers import GEOJSON, JSON, PNG, Wish
from keras_fcn.serve.guard import Guard
from keras_fcn.serve.limits import Limits
from keras_fcn.serve.openapi import description
from keras_fcn.serve.segmentation import ServedModel
from keras_fcn.serve.worker import Worker
from keras_fcn.version import __version__

STATIC = Path(__file__).parent / "static"


def create_app(
    served: ServedModel, limits: Limits | None = None, *, allowed_hosts: Iterable[str] = ()
) -> ASGIApp:
    """Returns the server's application: the page and the routes that `/openapi.json` describes.

    Args:
        served: The model.
        limits: The `Limits`; `None` for their defaults.
        allowed_hosts: See `keras_fcn.serve.guard.Guard`.
    """
    limits = limits or Limits()
    routes = _Routes(served, limits, Worker(limits))

    @contextlib.asynccontextmanager
    async def lifespan(_):
        yield
        routes.worker.stop()

    app = Starlette(
        routes=[
            Route("/predict", _Only(routes.predict, "POST")),
            Route("/model", _Only(routes.model, "GET", "HEAD")),
            Route("/health", _Only(routes.health, "GET", "HEAD")),
            Route("/openapi.json", _Only(routes.openapi, "GET", "HEAD")),
            Mount("/", _Page(directory=STATIC, html=True)),
        ],
        exception_handlers={HTTPException: _as_json, Exception: _fault},
        lifespan=lifespan,
    )
    return Guard(app, allowed_hosts)


class _Routes:
    def __init__(self, served, limits, worker):
        self.served, self.limits, self.worker = served, limits, worker
        # Strangers send photos of many sizes.
        self.caches = BoundedCaches()
        # Polygons need the extra `large`.
        has_polygons = importlib.util.find_spec("rasterio") is not None
        self.media_types = (JSON, PNG, *((GEOJSON,) if has_polygons else ()))

    async def predict(self, request: Request) -> Response:
        try:
            bodies.check_media_type(request)
            wish = Wish.of(request, self.media_types)
            with self.worker.place() as place:
                body = await bodies.read_body(request, self.limits)
                await asyncio.to_thread(bodies.check_image, body, self.limits)
                job = functools.partial(self._answer, body, wish)
                content = await place.result(request, job)
        except HTTPException as error:
            if "Connection" in (error.headers or {}):
                return bodies.LastAnswer(_content(error), error.status_code, self.limits)
            await bodies.skip_body(request, self.limits)
            raise
        return Response(content, media_type=wish.media_type)

    def _answer(self, body, wish):
        image = bodies.decode_image(body, self.served.model.num_channels)
        found = self.served.segment(image, wish.max_side)
        self.caches.add(found.predicted_size)
        return wish.answer(found, self.served, bodies.is_first_of_several(body))

    async def model(self, request: Request) -> Response:
        space = self.served.label_space
        colours = (f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in space.palette)
        return JSONResponse(
            {
                "name": self.served.name,
                "classes": [
                    {"id": label, "name": name, "colour": colour}
                    for label, (name, colour) in enumerate(
                        zip(space.class_names, colours, strict=True)
                    )
                ],
                "license": self.served.license,
                "sources": self.served.sources,
                "max_side": self.served.max_side,
                "max_bytes": self.limits.max_bytes,
                "max_pixels": self.limits.max_pixels,
                "image_types": bodies.MEDIA_TYPES,
                "answer_types": self.media_types,
                "version": __version__,
            }
        )

    async def health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def openapi(self, request: Request) -> Response:
        return JSONResponse(description(self.limits, self.media_types))


class _Page(StaticFiles):
    """Static files that a browser asks for again after an update of the package."""

    def file_response(self, *args, **kwargs):
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        return response


class _Only:
    """An endpoint that refuses other methods than its own.

    Starlette's route leaves them to the page, which knows no such file.
    """

    def __init__(self, endpoint, *methods):
        self._app, self._methods = request_response(endpoint), methods

    async def __call__(self, scope, receive, send):
        if scope["method"] not in self._methods:
            allowed = ", ".join(self._methods)
            raise HTTPException(
                405,
                f"The method must be {self._methods[0]} for {scope['path']}. Received: "
                f"{scope['method']}.",
                {"Allow": allowed},
            )
        await self._app(scope, receive, send)


def _content(error):
    return {"error": error.detail}


async def _as_json(request, error):
    headers = error.headers
    if error.status_code == 405 and "Allow" not in (headers or {}):  # Of the page's files.
        headers = {"Allow": "GET, HEAD"}
    return JSONResponse(_content(error), error.status_code, headers)


async def _fault(request, error):
    # Starlette raises the error again, so that its traceback is printed.
    return JSONResponse({"error": "The server failed; its log states the reason."}, 500)
