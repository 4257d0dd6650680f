"""The description of the HTTP API, in OpenAPI 3.1."""

from typing import Any

from keras_fcn.serve.answers import GEOJSON, JSON, OUTPUTS, PNG
from keras_fcn.serve.bodies import MEDIA_TYPES
from keras_fcn.serve.limits import Limits
from keras_fcn.spelling import counted
from keras_fcn.version import __version__

_ERROR: dict[str, Any] = {
    "type": "object",
    "properties": {"error": {"type": "string"}},
    "required": ["error"],
}
_FRACTION = {"type": "number", "minimum": 0, "maximum": 1}
_CLASS_ID = {"type": "integer", "minimum": 0}
_LENGTH = {"type": "integer", "minimum": 1}
_OPTIONAL_LENGTH = {"type": ["integer", "null"], "minimum": 1}
_STRINGS = {"type": "array", "items": {"type": "string"}}
_BASE64_PNG = {"type": "string", "contentEncoding": "base64", "contentMediaType": PNG}

PREDICTION = {
    "type": "object",
    "properties": {
        "height": _LENGTH,
        "width": _LENGTH,
        "predicted_height": _LENGTH,
        "predicted_width": _LENGTH,
        "confidence": _FRACTION,
        "classes": {
            "type": "array",
            "description": "The predicted classes, the largest first.",
            "items": {
                "type": "object",
                "properties": {
                    "id": _CLASS_ID,
                    "name": {"type": "string"},
                    "share": {**_FRACTION, "description": "Fraction of the pixels."},
                    "confidence": {**_FRACTION, "description": "Mean over these pixels."},
                },
                "required": ["id", "name", "share", "confidence"],
            },
        },
        "is_first_of_several": {
            "type": "boolean",
            "description": "Whether the file holds further frames or pages, which are not "
            "predicted.",
        },
        **{name: {**_BASE64_PNG, "description": "If `output` names it."} for name in OUTPUTS},
    },
    "required": [
        "height",
        "width",
        "predicted_height",
        "predicted_width",
        "confidence",
        "classes",
        "is_first_of_several",
    ],
    "additionalProperties": False,
}
MODEL = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "classes": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "id": _CLASS_ID,
                    "name": {"type": "string"},
                    "colour": {"type": "string", "pattern": "^#[0-9a-f]{6}$"},
                },
                "required": ["id", "name", "colour"],
            },
        },
        "license": {"type": ["string", "null"]},
        "sources": _STRINGS,
        "max_side": _OPTIONAL_LENGTH,
        "max_bytes": _LENGTH,
        "max_pixels": _LENGTH,
        "image_types": _STRINGS,
        "answer_types": _STRINGS,
        "version": {"type": "string"},
    },
    "additionalProperties": False,
}
MODEL["required"] = list(MODEL["properties"])  # type: ignore[call-overload]
_HEALTH = {
    "type": "object",
    "properties": {"status": {"const": "ok"}},
    "required": ["status"],
}
_PARAMETERS = (
    {
        "name": "output",
        "in": "query",
        "description": "One map for a PNG, the label map by default; for JSON, the maps that it "
        "holds as base64, none by default. The label map is a palette PNG whose values are class "
        "ids, or a 16-bit grey PNG for more than 256 classes. The confidence map is a grey PNG, "
        "255 for a probability of 1.",
        "schema": {"type": "array", "items": {"enum": list(OUTPUTS)}},
    },
    {
        "name": "opacity",
        "in": "query",
        "description": "Opacity of the overlay.",
        "schema": {**_FRACTION, "default": 0.5},
    },
    {
        "name": "max_side",
        "in": "query",
        "description": "Predict a larger image in a copy whose longest side this is, in pixels, "
        "and enlarge the maps.",
        "schema": _LENGTH,
    },
)


def description(limits: Limits, answer_types: tuple[str, ...]) -> dict[str, Any]:
    """Returns the OpenAPI description of the server.

    Args:
        limits: The limits that its errors name.
        answer_types: Media types that `POST /predict` can answer with.
    """
    contents = {
        JSON: {"schema": PREDICTION},
        PNG: {"schema": {}},
        GEOJSON: {"schema": {"type": "object"}},
    }
    predict = {
        "operationId": "predict",
        "summary": "Predicts the class of every pixel of an image.",
        "parameters": list(_PARAMETERS),
        "requestBody": {
            "required": True,
            "description": "An image file, rotated by its EXIF orientation. Of an animation, or a "
            "TIFF of several pages, the first frame or page is predicted.",
            "content": {media_type: {"schema": {}} for media_type in MEDIA_TYPES},
        },
        "responses": {
            "200": {
                "description": "The prediction, at the size of the image.",
                "content": {media_type: contents[media_type] for media_type in answer_types},
            },
            **{status: _error(text) for status, text in _refusals(limits).items()},
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "keras_fcn",
            "description": "Semantic segmentation of images.",
            "version": __version__,
        },
        "paths": {
            "/predict": {"post": predict},
            "/model": {"get": _get("model", "Name, classes, colours and limits.", MODEL)},
            "/health": {"get": _get("health", "Whether the server answers.", _HEALTH)},
        },
    }


def _refusals(limits):
    return {
        "400": "The query is wrong, or the body is empty or ends early.",
        "403": "`Origin` is another site.",
        "406": "`Accept` allows none of the formats.",
        "408": f"The body did not arrive within {limits.timeout:g} s.",
        "413": f"The body has more than {limits.max_bytes:,} bytes, the image more than "
        f"{limits.max_pixels:,} pixels, or the prediction does not fit in the free memory.",
        "415": "`Content-Type` or the body is no image of these formats.",
        "421": "`Host` is no allowed name of the server.",
        "422": "The image is truncated or damaged, or has other channels than the model takes.",
        "429": f"At most {counted(limits.queue, 'request')} at a time; `Retry-After` has seconds.",
        "500": "The server failed.",
        "503": f"The prediction did not end within {limits.timeout:g} s.",
    }


def _error(text):
    return {"description": text, "content": {JSON: {"schema": _ERROR}}}


def _get(name, summary, schema):
    answer = {"description": summary, "content": {JSON: {"schema": schema}}}
    return {"operationId": name, "summary": summary, "responses": {"200": answer}}
