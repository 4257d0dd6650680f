"""What the server answers is what the model predicts."""

import base64
import io
import json

import jsonschema
import numpy as np
import openapi_spec_validator
import pytest
from PIL import Image
from serve.serving import PHOTO, PNG_TYPE, SPACE, encoded
from starlette.testclient import TestClient

from keras_fcn.backends import backend
from keras_fcn.inference import predict
from keras_fcn.inference.caches import BoundedCaches
from keras_fcn.models import prediction_memory
from keras_fcn.serve import app
from keras_fcn.serve.app import create_app

pytestmark = pytest.mark.any_backend


@pytest.fixture(scope="module")
def expected(served):
    return predict(served.model, PHOTO)


def post(client, query="", accept="application/json", body=None, **headers):
    headers = {**PNG_TYPE, "Accept": accept, **headers}
    return client.post(f"/predict{query}", content=body or encoded(), headers=headers)


def decoded(png):
    return np.asarray(Image.open(io.BytesIO(png)))


def schema(client, path, method="get"):
    answer = client.get("/openapi.json").json()["paths"][path][method]["responses"]["200"]
    return answer["content"]["application/json"]["schema"]


class TestJson:
    def test_shares_and_confidence_are_those_of_the_model(self, client, expected):
        answer = post(client).json()
        assert (answer["height"], answer["width"]) == (30, 41)
        assert answer["confidence"] == pytest.approx(expected.confidence.mean(), abs=1e-5)
        assert len(answer["classes"]) > 1
        assert [found["share"] for found in answer["classes"]] == sorted(
            (found["share"] for found in answer["classes"]), reverse=True
        )
        for found in answer["classes"]:
            pixels = expected.label_map == found["id"]
            assert found["name"] == SPACE.class_names[found["id"]]
            assert found["share"] == pytest.approx(pixels.mean())
            mean = expected.confidence[pixels].mean()
            assert found["confidence"] == pytest.approx(mean, abs=1e-5)
        assert sum(found["share"] for found in answer["classes"]) == pytest.approx(1)

    def test_maps_come_as_base64_if_the_query_names_them(self, client, expected):
        answer = post(client, "?output=label_map&output=confidence_map").json()
        assert "overlay" not in answer
        label_map = decoded(base64.b64decode(answer["label_map"]))
        np.testing.assert_array_equal(label_map, expected.label_map)
        confidence = decoded(base64.b64decode(answer["confidence_map"]))
        assert abs(confidence - 255 * expected.confidence).max() <= 0.51

    def test_answers_have_the_described_shape(self, client):
        document = client.get("/openapi.json").json()
        openapi_spec_validator.validate(document)
        jsonschema.validate(client.get("/model").json(), schema(client, "/model"))
        jsonschema.validate(client.get("/health").json(), schema(client, "/health"))
        for query in ("", "?output=label_map&output=overlay&output=confidence_map"):
            jsonschema.validate(post(client, query).json(), schema(client, "/predict", "post"))


class TestPng:
    def test_the_label_map_is_a_palette_of_class_ids(self, client, expected):
        answer = post(client, accept="image/png")
        assert answer.headers["content-type"] == "image/png"
        picture = Image.open(io.BytesIO(answer.content))
        np.testing.assert_array_equal(np.asarray(picture), expected.label_map)
        assert picture.mode == "P"
        assert tuple(picture.getpalette()[3:6]) == SPACE.palette[1]

    @pytest.mark.parametrize("opacity", [0, 0.25, 1])
    def test_the_overlay_has_the_opacity_that_is_asked_for(self, client, expected, opacity):
        answer = post(client, f"?output=overlay&opacity={opacity}", "image/png")
        colours = np.array(SPACE.palette)[expected.label_map]
        blended = (1 - opacity) * PHOTO + opacity * colours
        assert abs(decoded(answer.content) - blended).max() <= 0.51


def test_polygons_cover_the_pixels_of_each_class(client, expected):
    answer = post(client, accept="application/geo+json")
    pixels = np.zeros(3)
    for feature in json.loads(answer.content)["features"]:
        pixels[feature["properties"]["class_id"]] += feature["properties"]["pixels"]
    np.testing.assert_array_equal(pixels, np.bincount(expected.label_map.ravel(), minlength=3))


class TestImage:
    def test_the_exif_orientation_counts(self, client, served):
        exif = Image.Exif()
        exif[0x0112] = 6  # Shown turned by 90 degrees to the right.
        answer = post(client, accept="image/png", body=encoded(exif=exif))
        upright = np.rot90(PHOTO, -1)
        expected = predict(served.model, np.ascontiguousarray(upright)).label_map
        np.testing.assert_array_equal(decoded(answer.content), expected)

    @pytest.mark.parametrize("image_format", ["JPEG", "WEBP", "TIFF", "BMP"])
    def test_formats_that_are_named_are_read(self, client, image_format):
        body = encoded(image_format=image_format)
        assert f"image/{image_format.lower()}" in client.get("/model").json()["image_types"]
        headers = {"Content-Type": f"image/{image_format.lower()}"}
        answer = client.post("/predict", content=body, headers=headers).json()
        assert (answer["height"], answer["width"]) == (30, 41)

    @pytest.mark.parametrize("image_format", ["PNG", "WEBP", "TIFF"])
    def test_the_first_of_several_is_predicted_and_said_to_be(self, client, served, image_format):
        others = {"save_all": True, "append_images": [Image.fromarray(255 - PHOTO)] * 2}
        body = encoded(image_format=image_format, **others, **LOSSLESS.get(image_format, {}))
        headers = {"Content-Type": f"image/{image_format.lower()}"}
        answer = client.post("/predict?output=label_map", content=body, headers=headers).json()
        assert answer["is_first_of_several"] is True
        label_map = decoded(base64.b64decode(answer["label_map"]))
        np.testing.assert_array_equal(label_map, predict(served.model, PHOTO).label_map)
        assert post(client).json()["is_first_of_several"] is False


LOSSLESS = {"WEBP": {"lossless": True}}


class TestMaxSide:
    def test_a_copy_is_predicted_and_its_label_map_enlarged(self, client, served):
        image = np.random.default_rng(1).integers(0, 256, (60, 40, 3), "uint8")
        answer = post(client, "?max_side=30&output=label_map", body=encoded(image)).json()
        assert (answer["height"], answer["width"]) == (60, 40)
        assert (answer["predicted_height"], answer["predicted_width"]) == (30, 20)
        copy = np.asarray(Image.fromarray(image).resize((20, 30), Image.Resampling.LANCZOS))
        expected = predict(served.model, copy).label_map
        label_map = decoded(base64.b64decode(answer["label_map"]))
        np.testing.assert_array_equal(label_map, expected.repeat(2, axis=0).repeat(2, axis=1))

    @pytest.mark.parametrize(
        ("own", "asked", "side"), [(None, 100, 41), (20, None, 20), (20, 30, 20), (30, 20, 20)]
    )
    def test_the_smaller_limit_counts_and_nothing_is_enlarged(self, served, own, asked, side):
        model = type(served)(served.name, served.model, SPACE, max_side=own)
        assert max(model.segment(PHOTO, asked).predicted_size) == side

    def test_must_be_positive(self, served):
        with pytest.raises(ValueError, match=r"`max_side` \(--max-side\) must be at least 1\."):
            type(served)(served.name, served.model, SPACE, max_side=0)


def test_a_photo_that_does_not_fit_in_memory_is_refused(client, monkeypatch):
    monkeypatch.setattr(prediction_memory, "free_memory", lambda: 1000)
    answer = post(client)
    assert answer.status_code == 413
    assert "must fit in the free memory" in answer.json()["error"]


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("*/*", "application/json"),
        ("image/*", "image/png"),
        ("image/png;q=0.2, application/json;q=0.9", "application/json"),
        ("application/json;q=0.2, IMAGE/PNG", "image/png"),
        ("application/*;q=0.1, application/geo+json", "application/geo+json"),
        ("application/json;q=0, */*", "image/png"),
    ],
)
def test_accept_chooses_the_format(client, accept, media_type):
    assert post(client, accept=accept).headers["content-type"] == media_type


def test_the_model_is_described_without_its_folder(served):
    described = {"license": "CC0-1.0", "sources": ("https://example.org/",), "max_side": 50}
    model = type(served)("street", served.model, SPACE, **described)
    with TestClient(create_app(model), base_url="http://localhost") as client:
        answer = client.get("/model").json()
    assert answer["classes"][1] == {"id": 1, "name": "car", "colour": "#400080"}
    assert answer["name"] == "street"
    assert answer["sources"] == ["https://example.org/"]
    assert (answer["license"], answer["max_side"]) == ("CC0-1.0", 50)


def test_caches_are_cleared_after_so_many_sizes(served, monkeypatch):
    """JAX's alone would grow for ever; the same size again counts once."""
    cleared = []
    monkeypatch.setattr(backend, "clear_caches", lambda: cleared.append(None))
    monkeypatch.setattr(app, "BoundedCaches", lambda: BoundedCaches(2))
    with TestClient(create_app(served), base_url="http://localhost") as client:
        for sides, count in (
            (10, 0),
            (11, 0),
            (10, 0),
            (11, 0),
            (12, 1),
            (13, 1),
            (14, 1),
            (15, 2),
        ):
            post(client, body=encoded(PHOTO[:sides]))
            assert len(cleared) == count


def test_without_rasterio_there_are_no_polygons(served, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with TestClient(create_app(served), base_url="http://localhost") as client:
        assert "application/geo+json" not in client.get("/model").json()["answer_types"]
        answer = post(client, accept="application/geo+json")
        content = client.get("/openapi.json").json()["paths"]["/predict"]["post"]["responses"]
    assert answer.status_code == 406
    assert set(content["200"]["content"]) == {"application/json", "image/png"}
