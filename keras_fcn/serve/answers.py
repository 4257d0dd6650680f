"""What a request may be answered with: JSON, one PNG, or GeoJSON."""

import base64
import dataclasses
import io
import json

import numpy as np
from PIL import Image
from starlette.exceptions import HTTPException
from starlette.requests import Request

from keras_fcn.polygons import polygons
from keras_fcn.serve.segmentation import Segmentation, ServedModel
from keras_fcn.visualization import overlay, save_label_map

JSON, PNG, GEOJSON = "application/json", "image/png", "application/geo+json"
OUTPUTS = ("label_map", "overlay", "confidence_map")


@dataclasses.dataclass(frozen=True)
class Wish:
    """What a request asks for.

    Args:
        media_type: `JSON`, `PNG` or `GEOJSON`.
        outputs: Names from `OUTPUTS`.
        opacity: Opacity of the overlay, from 0 to 1.
        max_side: See `ServedModel.segment`.
    """

    media_type: str
    outputs: tuple[str, ...]
    opacity: float = 0.5
    max_side: int | None = None

    @classmethod
    def of(cls, request: Request, media_types: tuple[str, ...]) -> "Wish":
        """Reads the header `Accept` and the query.

        Args:
            request: The request.
            media_types: Those that the server can answer with.

        Raises:
            HTTPException: 406 if `Accept` has none of `media_types`, 400 for a wrong query.
        """
        query = request.query_params
        if unknown := sorted(query.keys() - {"output", "opacity", "max_side"}):
            raise _bad_query("the query", "hold only output, opacity and max_side", unknown[0])
        media_type = preferred(request.headers.get("accept", "*/*"), media_types)
        outputs = tuple(dict.fromkeys(query.getlist("output")))
        for name in outputs:
            if name not in OUTPUTS:
                raise _bad_query("`output`", f"be one of {', '.join(OUTPUTS)}", name)
        if media_type == PNG and len(outputs) > 1:
            raise _bad_query("`output`", "be a single one for a PNG", ", ".join(outputs))
        opacity = _number(query, "opacity", float, 0.5)
        if not 0 <= opacity <= 1:
            raise _bad_query("`opacity`", "be a number from 0 to 1", query["opacity"])
        max_side = _number(query, "max_side", int, None)
        if max_side is not None and max_side < 1:
            raise _bad_query("`max_side`", "be an integer of at least 1", query["max_side"])
        return cls(media_type, outputs, opacity, max_side)

    def answer(
        self, found: Segmentation, served: ServedModel, is_first_of_several: bool = False
    ) -> bytes:
        """Returns the body of the answer in `media_type`.

        Args:
            found: What is predicted.
            served: The model.
            is_first_of_several: Whether the file of the image holds further ones; JSON says so.
        """
        if self.media_type == PNG:
            return self._png(self.outputs[0] if self.outputs else "label_map", found, served)
        if self.media_type == GEOJSON:
            return json.dumps(polygons(found.label_map, served.label_space)).encode()
        maps = {
            name: base64.b64encode(self._png(name, found, served)).decode() for name in self.outputs
        }
        about = summary(found, served) | {"is_first_of_several": is_first_of_several}
        return json.dumps(about | maps).encode()

    def _png(self, output, found, served):
        file, space = io.BytesIO(), served.label_space
        if output == "label_map":
            save_label_map(file, found.label_map, space)
        elif output == "confidence_map":
            Image.fromarray(np.rint(255 * found.confidence).astype("uint8")).save(file, "PNG")
        else:
            blended = overlay(found.image, found.label_map, space, self.opacity)
            Image.fromarray(blended).save(file, "PNG")
        return file.getvalue()


def summary(found: Segmentation, served: ServedModel) -> dict:
    """Returns sizes, mean confidence, and share and confidence of each predicted class."""
    label_map, confidence = found.label_map.ravel(), found.confidence.ravel()
    pixels = np.bincount(label_map, minlength=served.label_space.num_classes)
    sums = np.bincount(label_map, weights=confidence, minlength=len(pixels))
    return {
        "height": found.label_map.shape[0],
        "width": found.label_map.shape[1],
        "predicted_height": found.predicted_size[0],
        "predicted_width": found.predicted_size[1],
        "confidence": float(confidence.mean(dtype="float64")),
        "classes": [
            {
                "id": int(label),
                "name": served.label_space.class_names[label],
                "share": pixels[label] / label_map.size,
                "confidence": sums[label] / pixels[label],
            }
            for label in np.argsort(-pixels, kind="stable")
            if pixels[label]
        ],
    }


def preferred(accept: str, media_types: tuple[str, ...]) -> str:
    """Returns the media type that the header `Accept` prefers; the first one among equals.

    Raises:
        HTTPException: 406 if it accepts none.

    Examples:
        >>> preferred("image/*, application/json;q=0.5", ("application/json", "image/png"))
        'image/png'
    """
    qualities = {}
    for part in accept.lower().split(","):
        pattern, *parameters = (word.strip() for word in part.split(";"))
        quality = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        try:
            qualities[pattern] = float(quality)
        except ValueError:
            raise _bad_query("`Accept`", "have numbers as qualities", quality) from None

    def quality_of(media_type):
        # The most specific pattern counts.
        patterns = media_type, f"{media_type.partition('/')[0]}/*", "*/*"
        return next((qualities[p] for p in patterns if p in qualities), 0)

    best = max(media_types, key=quality_of)
    if quality_of(best) <= 0:
        raise HTTPException(
            406, f"`Accept` must allow one of {', '.join(media_types)}. Received: {accept}."
        )
    return best


def _number(query, name, kind, default):
    try:
        return kind(query[name]) if name in query else default
    except ValueError:
        raise _bad_query(f"`{name}`", "be a number", query[name]) from None


def _bad_query(subject, rule, received):
    subject = subject[0].upper() + subject[1:]
    return HTTPException(400, f"{subject} must {rule}. Received: {received}.")
