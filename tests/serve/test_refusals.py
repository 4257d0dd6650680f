"""Requests that the server refuses: wrong, huge, slow and hostile ones."""

import asyncio
import io
import os
import struct
import threading
import time
import warnings

import httpx2
import pytest
from PIL import Image
from serve.serving import PNG_TYPE, ask, encoded, png_of_size
from starlette.testclient import TestClient

from keras_fcn.serve import check_serve
from keras_fcn.serve.app import create_app
from keras_fcn.serve.guard import HEADERS
from keras_fcn.serve.limits import Limits

pytestmark = pytest.mark.any_backend

LIMITS = Limits(max_megabytes=0.1, max_megapixels=0.01)


@pytest.fixture(scope="module")
def strict(served):
    with TestClient(create_app(served, LIMITS), base_url="http://localhost:8000") as client:
        yield client


def refusal(answer, status):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["error"]
    return answer.json()["error"]


class TestRequests:
    @pytest.mark.parametrize(
        ("query", "headers", "status", "sentence"),
        [
            ("", {"Content-Type": "text/html"}, 415, "must be one of image/jpeg, image/png"),
            ("", {"Content-Type": ""}, 415, "Received: none"),
            ("", {"Accept": "text/html"}, 406, "must allow one of application/json, image/png"),
            ("", {"Accept": "*/*;q=x"}, 400, "`Accept` must have numbers as qualities"),
            ("?output=logits", {}, 400, "`output` must be one of label_map, overlay"),
            (
                "?output=overlay&output=label_map",
                {"Accept": "image/png"},
                400,
                "`output` must be a single one for a PNG",
            ),
            ("?opacity=2", {}, 400, "`opacity` must be a number from 0 to 1. Received: 2"),
            ("?opacity=nan", {}, 400, "`opacity` must be a number from 0 to 1. Received: nan"),
            ("?opacity=half", {}, 400, "`opacity` must be a number. Received: half"),
            ("?max_side=0", {}, 400, "`max_side` must be an integer of at least 1. Received: 0"),
            ("?size=5", {}, 400, "must hold only output, opacity and max_side. Received: size"),
        ],
    )
    def test_that_are_wrong_are_refused_in_a_sentence(
        self, strict, query, headers, status, sentence
    ):
        headers = {**PNG_TYPE, **headers}
        answer = strict.post(f"/predict{query}", content=encoded(), headers=headers)
        assert sentence in refusal(answer, status)

    def test_to_other_routes_and_methods_are_refused_in_json(self, strict):
        refusal(strict.get("/nothing"), 404)
        for method, path, allowed in (
            ("GET", "/predict", "POST"),
            ("PUT", "/predict", "POST"),
            ("POST", "/model", "GET, HEAD"),
            ("DELETE", "/health", "GET, HEAD"),
            ("POST", "/", "GET, HEAD"),
        ):
            answer = strict.request(method, path)
            refusal(answer, 405)
            assert answer.headers["allow"] == allowed
        assert "must be POST for /predict. Received: GET." in strict.get("/predict").text
        assert strict.head("/model").status_code == 200

    def test_every_refusal_is_described(self, strict):
        described = strict.get("/openapi.json").json()["paths"]["/predict"]["post"]["responses"]
        statuses = (200, 400, 403, 406, 408, 413, 415, 421, 422, 429, 500, 503)
        assert set(described) == set(map(str, statuses))

    def test_that_hit_a_fault_get_json_without_its_text(self, served, monkeypatch):
        def fault(*_):
            raise RuntimeError("secret")

        monkeypatch.setattr(type(served), "segment", fault)
        app = create_app(served, LIMITS)
        with TestClient(app, "http://localhost", raise_server_exceptions=False) as client:
            answer = client.post("/predict", content=encoded(), headers=PNG_TYPE)
        assert "secret" not in refusal(answer, 500)
        assert HEADERS.items() <= {k.title(): v for k, v in answer.headers.items()}.items()


class TestBodies:
    @pytest.mark.parametrize(
        ("body", "status", "sentence"),
        [
            (b"", 400, "must be an image. Received: no bytes"),
            (b"no image", 415, "one of the formats JPEG, PNG, WEBP, TIFF, BMP"),
            (encoded(image_format="GIF"), 415, "one of the formats JPEG, PNG, WEBP, TIFF, BMP"),
            # Pillow would start a program for it.
            (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 415, "one of the formats"),
            (encoded()[:300], 422, "The body cannot be read as an image"),
            (png_of_size(100, 101), 413, "at most 10,000 pixels. Received: 100x101"),
            (png_of_size(2**31 - 1, 2**31 - 1), 413, "at most 10,000 pixels"),
            (png_of_size(12_000, 12_000), 413, "at most 10,000 pixels"),
            (os.urandom(100_001), 413, "at most 100,000 bytes"),
        ],
        ids=[*("empty", "text", "GIF", "EPS", "truncated", "pixels", "bomb", "bombs", "bytes")],
    )
    def test_that_are_no_images_or_too_large_are_refused(self, strict, body, status, sentence):
        answer = strict.post("/predict", content=body, headers=PNG_TYPE)
        assert sentence in refusal(answer, status)

    def test_of_any_number_of_chunks_are_read_up_to_the_limit(self, served):
        app = create_app(served, LIMITS)
        status, headers, answer, read = ask(app, [bytes(30_000)] * 10)
        # The rest is dropped after the answer: else the connection is reset under it.
        assert (status, len(read), headers["read-before"]) == (413, 10, "4")
        assert headers["connection"] == "close"
        assert "at most 100,000 bytes" in answer["error"]

    def test_of_a_declared_length_beyond_the_limit_are_refused_unread(self, served):
        app = create_app(served, LIMITS)
        length = {"content-length": "100001"}.items()
        status, headers, _, read = ask(app, [b"x"] * 3, headers=length)
        assert (status, len(read), headers["read-before"]) == (413, 3, "0")

    def test_that_do_not_end_are_dropped_as_long_as_a_body_may_take(self, served):
        app = create_app(served, Limits(max_megabytes=1e-6, timeout=0.3))
        started = time.monotonic()
        status, *_ = ask(app, [b"xx"] * 1000, pause=0.01)
        assert status == 413
        assert time.monotonic() - started < 5

    def test_that_trickle_are_given_up(self, served):
        app = create_app(served, Limits(timeout=0.2))
        started = time.monotonic()
        status, headers, answer, _ = ask(app, [b"x"] * 1000, pause=0.05)
        assert status == 408
        assert headers["connection"] == "close"
        assert answer["error"] == "The body must arrive within 0.2 s."
        assert time.monotonic() - started < 5

    def test_of_refused_requests_are_read_so_that_the_client_gets_the_answer(self, served):
        app = create_app(served, LIMITS)
        parts = [bytes(10_000)] * 5
        status, _, _, read = ask(app, parts, headers={"content-type": "text/plain"}.items())
        assert (status, len(read)) == (415, 5)


class TestGuard:
    @pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "", "[::1", "a@b"])
    @pytest.mark.parametrize("path", ["/", "/model", "/predict"])
    def test_another_host_is_refused(self, strict, host, path):
        answer = strict.request("GET", path, headers={"Host": host})
        assert "`Host` must be an allowed name" in refusal(answer, 421)

    @pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000"])
    def test_own_names_are_allowed(self, strict, host):
        assert strict.get("/health", headers={"Host": host}).status_code == 200

    @pytest.mark.parametrize(
        ("allowed", "host", "status"),
        [
            (["photos.example"], "Photos.Example:443", 200),
            (["photos.example"], "evil.example", 421),
            (["*"], "evil.example", 200),
        ],
    )
    def test_allowed_hosts_are_added(self, served, allowed, host, status):
        client = TestClient(create_app(served, allowed_hosts=allowed))
        assert client.get("/health", headers={"Host": host}).status_code == status

    @pytest.mark.parametrize(
        "origin", ["http://evil.example", "null", "http://localhost:8001", "http://localhost", ""]
    )
    def test_a_post_of_another_site_is_refused(self, strict, origin):
        headers = {**PNG_TYPE, "Origin": origin}
        answer = strict.post("/predict", content=encoded(), headers=headers)
        assert "`Origin` must be this server, localhost:8000" in refusal(answer, 403)

    # Behind a proxy that ends TLS, the scheme is another one.
    @pytest.mark.parametrize("origin", ["http://localhost:8000", "https://localhost:8000"])
    def test_a_post_of_its_own_page_is_answered(self, strict, origin):
        headers = {**PNG_TYPE, "Origin": origin}
        answer = strict.post("/predict", content=encoded(), headers=headers)
        assert answer.status_code == 200

    def test_every_answer_keeps_the_page_to_its_host(self, strict):
        for path in ("/", "/page.js", "/model", "/nothing"):
            headers = strict.get(path).headers
            assert headers["content-security-policy"].startswith("default-src 'self'; ")
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"
            assert not any(name.startswith("access-control") for name in headers)


class TestStaticFiles:
    def test_are_those_of_the_page(self, strict):
        page = strict.get("/")
        assert page.headers["content-type"].startswith("text/html")
        assert page.headers["cache-control"] == "no-cache"
        assert "javascript" in strict.get("/page.js").headers["content-type"]

    @pytest.mark.parametrize(
        "path",
        [
            "/../app.py",
            "/page/../../app.py",
            "/..\\app.py",
            "//etc/passwd",
            "/%2e%2e/app.py",
            "/page.js\0.html",
            f"/{'a' * 5000}",
        ],
    )
    def test_lead_nowhere_else(self, served, path):
        status, _, answer, _ = ask(create_app(served), [b""], path=path, method="GET")
        assert (status, answer) == (404, {"error": "Not Found"})


class TestQueue:
    @pytest.fixture
    def held(self, served, monkeypatch):
        """Predictions that end when the event is set, and how many of them began."""
        segment, event, begun = type(served).segment, threading.Event(), []

        def wait(*args):
            begun.append(args)
            event.wait(20)
            return segment(*args)

        monkeypatch.setattr(type(served), "segment", wait)
        yield event, begun
        event.set()

    @staticmethod
    def client(app):
        transport = httpx2.ASGITransport(app)
        return httpx2.AsyncClient(transport=transport, base_url="http://localhost", timeout=20)

    @staticmethod
    async def until(condition):
        for _ in range(2000):
            if condition():
                return
            await asyncio.sleep(0.005)
        raise TimeoutError

    def test_requests_beyond_it_are_sent_away_and_told_when_to_return(self, served, held):
        event, begun = held

        async def run():
            async with self.client(create_app(served, Limits(queue=2))) as client:

                def post():
                    return client.post("/predict", content=encoded(), headers=PNG_TYPE)

                first, second = asyncio.create_task(post()), asyncio.create_task(post())
                await self.until(lambda: begun)
                await asyncio.sleep(0.1)
                third = await post()
                health = await client.get("/health")
                event.set()
                answers = [await first, await second, await post()]
                return third, health, answers

        third, health, answers = asyncio.run(run())
        assert refusal(third, 429) == "At most 2 requests at a time. Try again later."
        assert int(third.headers["retry-after"]) >= 1
        assert health.status_code == 200
        assert [answer.status_code for answer in answers] == [200, 200, 200]

    def test_a_prediction_that_takes_too_long_is_given_up_and_keeps_its_place(self, served, held):
        event, _ = held

        async def run():
            async with self.client(create_app(served, Limits(queue=1, timeout=0.3))) as client:

                def post():
                    return client.post("/predict", content=encoded(), headers=PNG_TYPE)

                slow, next_one = await post(), await post()
                event.set()
                for _ in range(200):
                    last = await post()
                    if last.status_code == 200:
                        break
                    await asyncio.sleep(0.02)
                return slow, next_one, last

        slow, next_one, last = asyncio.run(run())
        assert "must end within 0.3 s" in refusal(slow, 503)
        refusal(next_one, 429)
        assert last.status_code == 200

    def test_a_client_that_leaves_while_it_waits_frees_its_place(self, served, held):
        event, begun = held
        app = create_app(served, Limits(queue=2))
        first = threading.Thread(target=ask, args=(app, [encoded()]))
        first.start()
        asyncio.run(self.until(lambda: begun))
        for _ in range(3):
            status, *_ = ask(app, [encoded()], stays=False)
            assert status == 400
        event.set()
        first.join()
        assert len(begun) == 1

    def test_a_client_that_leaves_while_it_sends_frees_its_place(self, served):
        app = create_app(served, Limits(queue=1))
        for _ in range(2):
            status, _, answer, _ = ask(app, [], stays=False)
            assert (status, answer) == (400, {"error": "The body must be complete."})


@pytest.mark.parametrize("name", ["max_megabytes", "max_megapixels", "timeout", "queue"])
@pytest.mark.parametrize("value", [0, float("inf"), float("nan")])
def test_limits_must_be_positive_and_finite(name, value):
    option = f"--{name.replace('_', '-')}"
    with pytest.raises(ValueError, match=rf"`{name}` \({option}\) must be a finite number"):
        Limits(**{name: value})


@pytest.mark.parametrize("megapixels", [179, 1e30])
def test_more_pixels_than_pillow_decodes_are_refused(megapixels):
    with pytest.raises(
        ValueError, match=r"\(--max-megapixels\) must be at most 178, .* Received: "
    ):
        Limits(max_megapixels=megapixels)
    assert Limits(max_megapixels=178).max_pixels == 178_000_000
    # Pillow itself opens an image of so many pixels, and none of more.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        image = Image.open(io.BytesIO(bmp_header(178_000, 1000)))
        assert image.size == (178_000, 1000)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(bmp_header(179_000, 1000)))


def bmp_header(width, height):
    """The 54 bytes before the pixels of a BMP."""
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + info


def test_a_missing_package_is_an_error_with_its_remedy(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'keras-fcn\[serve\]'"):
        check_serve()
