"""The page of `keras-fcn serve` in Chromium, with the model of the package and real photos."""

import base64
import io
import json
import re
import struct
import zlib
from pathlib import Path

import httpx2
import numpy as np
import pytest
from browser.conftest import PATIENCE
from browser.visits import ANIMATIONS_END, DESKTOP, PALETTES, PHONE, serious
from PIL import Image
from serve.process import serving
from serve.serving import png_chunk

from keras_fcn.data import street_scenes as scenes
from keras_fcn.label_spaces import CAMVID

pytestmark = pytest.mark.browser

PHOTOS = sorted(Path(scenes.__file__).parent.glob("*[0-9].png"))
LANGUAGES = {"en-US": "Drop photos here", "ko-KR": "사진을 여기에 놓으세요"}


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve")
    with serving(folder, "camvid", "--max-megabytes", "1") as (_, url):
        yield url


@pytest.fixture
def open_page(chromium, url):
    """Opens the page in a context of its own, and watches what it asks for and prints."""
    contexts, wrong = [], []

    def make(palette="light", locale="en-US", viewport=DESKTOP, expect=()):
        context = chromium.new_context(color_scheme=palette, locale=locale, viewport=viewport)
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page = context.new_page()
        page.on(
            "request",
            lambda request: (
                request.url.startswith((url, "blob:", "data:"))
                or wrong.append(f"request to another host: {request.url}")
            ),
        )
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on(
            "console",
            lambda message: (
                message.type == "error"
                and not any(status in message.text for status in expect)
                and wrong.append(f"console: {message.text}")
            ),
        )
        page.goto(url)
        page.locator("#known li").first.wait_for()
        return page

    yield make
    for context in contexts:
        context.close()
    assert not wrong


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A part of a photo that is predicted in no time, and its file."""
    path = tmp_path_factory.mktemp("photo") / "street.png"
    image = Image.open(PHOTOS[0]).crop((200, 150, 360, 270))
    image.save(path)
    return np.asarray(image), path


@pytest.fixture(scope="module")
def label_map(url, photo):
    return predicted(url, photo[1], "label_map")


def predicted(url, path, output):
    """The map that the server predicts for the file of a photo."""
    headers = {"Content-Type": "image/png", "Accept": "image/png"}
    query = f"predict?output={output}"
    answer = httpx2.post(url + query, content=path.read_bytes(), headers=headers, timeout=60)
    return np.asarray(Image.open(io.BytesIO(answer.content)))


def choose(page, *paths):
    page.locator("#file").set_input_files([str(path) for path in paths])
    page.locator("#strip li").nth(len(paths) - 1).wait_for()


def predict(page, *paths):
    """Chooses files and waits until each is predicted or refused."""
    choose(page, *paths)
    ended = page.locator("#strip :is([data-state=done], [data-state=failed])")
    ended.nth(len(paths) - 1).wait_for()


def download(page, action, folder):
    with page.expect_download() as started:
        page.locator(f"[data-action={action}]").click()
    path = folder / started.value.suggested_filename
    started.value.save_as(path)
    return path


def drawn(page, folder):
    return np.asarray(Image.open(download(page, "overlay", folder)).convert("RGB"))


def rows(page):
    return dict(
        re.match(r"(.+?)\s+([\d.]+)%", row).groups()
        for row in page.locator("#classes tbody tr").all_inner_texts()
    )


class TestPrediction:
    def test_classes_and_shares_are_those_of_the_label_map(self, open_page, photo, label_map):
        page = open_page()
        predict(page, photo[1])
        pixels = np.bincount(label_map.ravel(), minlength=11)
        expected = {
            CAMVID.class_names[label]: f"{100 * pixels[label] / label_map.size:.1f}"
            for label in np.argsort(-pixels, kind="stable")
            if pixels[label]
        }
        assert rows(page) == expected
        assert list(rows(page)) == list(expected)
        absent = page.locator("#absent").inner_text()
        assert all((name in absent) != (name in expected) for name in CAMVID.class_names)
        assert page.locator("#readout").inner_text().startswith("160×120, ")

    def test_the_overlay_has_the_colours_of_the_classes(
        self, open_page, photo, label_map, tmp_path
    ):
        page = open_page()
        predict(page, photo[1])
        page.locator("#opacity").fill("100")
        colours = np.array(CAMVID.palette)[label_map]
        np.testing.assert_array_equal(drawn(page, tmp_path), colours)
        page.locator("#opacity").fill("40")
        blended = 0.6 * photo[0] + 0.4 * colours
        assert abs(drawn(page, tmp_path) - blended).max() <= 2
        page.locator("#opacity").fill("0")
        np.testing.assert_array_equal(drawn(page, tmp_path), photo[0])

    def test_a_hidden_class_shows_the_photo(self, open_page, photo, label_map, tmp_path):
        page = open_page()
        predict(page, photo[1])
        page.locator("#opacity").fill("100")
        page.get_by_label("car", exact=True).uncheck()
        is_car = (label_map == CAMVID.class_names.index("car"))[..., None]
        assert 0 < is_car.mean() < 1
        colours = np.array(CAMVID.palette)[label_map]
        expected = np.where(is_car, photo[0], colours)
        np.testing.assert_array_equal(drawn(page, tmp_path), expected)
        page.get_by_role("button", name="Show none").click()
        np.testing.assert_array_equal(drawn(page, tmp_path), photo[0])
        page.get_by_role("button", name="Show all").click()
        np.testing.assert_array_equal(drawn(page, tmp_path), colours)

    def test_outlines_run_where_classes_meet(self, open_page, photo, label_map, tmp_path):
        page = open_page()
        predict(page, photo[1])
        page.locator("#opacity").fill("100")
        page.get_by_label("Outlines").check()
        meets = np.zeros(label_map.shape, bool)
        below, right = np.diff(label_map, axis=0) != 0, np.diff(label_map, axis=1) != 0
        meets[:-1] |= below
        meets[1:] |= below
        meets[:, :-1] |= right
        meets[:, 1:] |= right
        colours = np.array(CAMVID.palette)[label_map]
        expected = np.where(meets[..., None], colours, photo[0])
        np.testing.assert_array_equal(drawn(page, tmp_path), expected)

    def test_uncertain_pixels_are_orange(self, open_page, url, photo, tmp_path):
        confidence = predicted(url, photo[1], "confidence_map").astype(float)
        page = open_page()
        predict(page, photo[1])
        page.locator("#opacity").fill("100")
        page.get_by_label("Uncertainty").check()
        alpha = np.minimum(255, 2 * (255 - confidence))[..., None] / 255
        expected = (1 - alpha) * photo[0] + alpha * np.array([255, 140, 0])
        assert alpha.max() > 0.9
        assert abs(drawn(page, tmp_path) - expected).max() <= 2

    def test_downloads_are_the_servers_files(self, open_page, photo, label_map, tmp_path):
        page = open_page()
        predict(page, photo[1])
        path = download(page, "labelMap", tmp_path)
        assert path.name == "street.png"
        np.testing.assert_array_equal(np.asarray(Image.open(path)), label_map)
        path = download(page, "polygons", tmp_path)
        assert path.name == "street.geojson"
        features = json.loads(path.read_text())["features"]
        assert sum(feature["properties"]["pixels"] for feature in features) == label_map.size

    def test_the_class_under_the_pointer_is_named(self, open_page, photo, label_map):
        page = open_page()
        predict(page, photo[1])
        box = page.locator("#canvas").bounding_box()
        assert box["width"] / box["height"] == pytest.approx(160 / 120, rel=0.01)
        for row, column in ((5, 5), (60, 20), (110, 150)):
            x = box["x"] + (column + 0.5) / 160 * box["width"]
            page.mouse.move(x, box["y"] + (row + 0.5) / 120 * box["height"])
            name = CAMVID.class_names[label_map[row, column]]
            assert page.locator("#readout").inner_text().startswith(f"{name}, confidence ")

    def test_a_smaller_copy_is_predicted_if_asked_for(self, open_page, photo):
        page = open_page()
        page.locator("#size").evaluate("(select) => select.add(new Option('64', 64))")
        predict(page, photo[1])
        page.locator("#size").select_option("64")
        page.get_by_text("160×120, predicted at 64×48").wait_for()


class TestPhotos:
    def test_several_are_predicted_shown_and_removed(self, open_page, photo, tmp_path):
        second = tmp_path / "second.jpg"
        Image.open(PHOTOS[2]).crop((0, 100, 90, 220)).save(second)
        page = open_page()
        predict(page, photo[1], second)
        assert page.locator("#photo-name").inner_text() == "street.png"
        page.locator("#strip button").nth(1).click()
        page.locator("#photo-name", has_text="second.jpg").wait_for()
        assert page.locator("#readout").inner_text().startswith("90×120, ")
        assert page.locator("#strip [aria-current=true]").get_attribute("title") == "second.jpg"
        page.get_by_role("button", name="Remove").click()
        page.locator("#photo-name", has_text="street.png").wait_for()
        page.get_by_role("button", name="Remove").click()
        page.get_by_role("heading", name="Drop photos here").wait_for()

    @pytest.mark.parametrize(
        ("event", "data"), [("drop", "dataTransfer"), ("paste", "clipboardData")]
    )
    def test_dropped_and_pasted_ones_are_predicted(self, open_page, photo, event, data):
        page = open_page()
        page.evaluate(
            """([event, data, base64]) => {
                const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
                const files = new DataTransfer();
                files.items.add(new File([bytes], "given.png", { type: "image/png" }));
                const made = new Event(event, { bubbles: true, cancelable: true });
                made[data] = files;
                document.body.dispatchEvent(made);
            }""",
            [event, data, base64.b64encode(photo[1].read_bytes()).decode()],
        )
        page.locator("#classes tbody tr").first.wait_for()
        assert page.locator("#photo-name").inner_text() == "given.png"

    def test_one_of_the_camera_is_predicted(self, open_page):
        page = open_page()
        page.locator("#intake").get_by_role("button", name="Camera").click()
        page.wait_for_timeout(500)
        page.get_by_role("button", name="Take photo").click()
        page.locator("#classes tbody tr").first.wait_for()
        assert page.locator("#photo-name").inner_text().startswith("camera-")
        assert page.locator("video").evaluate("(video) => video.srcObject") is None

    def test_one_that_is_shown_turned_is_predicted_turned(self, open_page, photo, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.open(photo[1]).save(tmp_path / "turned.jpg", exif=exif, quality=95)
        page = open_page()
        predict(page, tmp_path / "turned.jpg")
        assert page.locator("#readout").inner_text().startswith("120×160, ")
        page.locator("#opacity").fill("0")
        shown = drawn(page, tmp_path).astype(float)
        assert abs(shown - np.rot90(photo[0], -1)).mean() < 5


class TestRefusals:
    @pytest.fixture
    def broken(self, tmp_path):
        (tmp_path / "broken.jpg").write_text("no image")
        return tmp_path / "broken.jpg"

    def test_the_servers_sentence_is_shown_and_the_next_photo_predicted(
        self, open_page, broken, photo
    ):
        page = open_page(expect=["415"])
        predict(page, broken, photo[1])
        alert = page.get_by_role("alert")
        assert alert.locator("p").first.inner_text() == "This is no photo that the server can read."
        assert "must be an image in one of the formats" in alert.inner_text()
        assert page.locator("[data-action=labelMap]").is_disabled()
        page.locator("#strip button").nth(1).click()
        page.locator("#classes tbody tr").first.wait_for()
        assert not page.locator("#error").is_visible()

    def test_a_file_that_is_too_large_is_not_sent(self, open_page, tmp_path):
        noise = np.random.default_rng(0).integers(0, 256, (700, 700, 3), "uint8")
        Image.fromarray(noise).save(tmp_path / "noise.png")
        page = open_page()
        sent = []
        page.on("request", lambda request: sent.append(request.url))
        predict(page, tmp_path / "noise.png")
        assert "This photo is too large." in page.get_by_role("alert").inner_text()
        assert not [address for address in sent if "predict" in address]

    def test_a_photo_beyond_the_memory_is_predicted_smaller_on_request(self, open_page, photo):
        page = open_page(expect=["413"])
        refusal = {"status": 413, "json": {"error": "The photo must fit."}}
        page.route("**/predict?*", lambda route: route.fulfill(**refusal))
        predict(page, photo[1])
        assert "The photo must fit." in page.get_by_role("alert").inner_text()
        page.unroute("**/predict?*")
        with page.expect_request("**/predict?*") as sent:
            page.get_by_role("button", name="Predict at 512 pixels").click()
        assert "max_side=512" in sent.value.url
        page.locator("#classes tbody tr").first.wait_for()

    def test_a_busy_server_is_asked_again(self, open_page, photo):
        page = open_page(expect=["429"])
        answers = [{"status": 429, "headers": {"Retry-After": "1"}, "json": {"error": "Later."}}]
        page.route(
            "**/predict?*",
            lambda route: route.fulfill(**answers.pop()) if answers else route.continue_(),
        )
        choose(page, photo[1])
        page.get_by_text("The server is busy; next try in 1 s").first.wait_for()
        page.locator("#classes tbody tr").first.wait_for()

    def test_a_server_that_is_gone_is_said_to_be(self, open_page, photo):
        page = open_page(expect=["ERR_FAILED"])
        page.route("**/predict?*", lambda route: route.abort())
        predict(page, photo[1])
        assert "The server does not answer." in page.get_by_role("alert").inner_text()
        page.unroute("**/predict?*")
        page.get_by_role("button", name="Try again").click()
        page.locator("#classes tbody tr").first.wait_for()


class TestForEverybody:
    def test_everything_works_by_keyboard(self, open_page, photo):
        page = open_page()
        # Chromium intercepts the dialog from here on: `expect_file_chooser` asks it to at the
        # moment when the key is pressed, which may be too late.
        page.on("filechooser", lambda chooser: chooser.set_files(str(photo[1])))

        def tab_to(selector):
            for _ in range(60):
                page.keyboard.press("Tab")
                if page.evaluate("(s) => document.activeElement.matches(s)", selector):
                    outline = "getComputedStyle(document.activeElement).outlineStyle"
                    assert page.evaluate(outline) == "solid", selector
                    return
            raise AssertionError(selector)

        tab_to("#intake [data-action=choose]")
        page.keyboard.press("Enter")
        page.locator("#classes tbody tr").first.wait_for()
        tab_to("[name=view]")
        page.keyboard.press("ArrowRight")
        assert page.get_by_label("Outlines").is_checked()
        tab_to("#opacity")
        page.keyboard.press("ArrowRight")
        assert page.locator("#opacity-value").inner_text() == "56%"
        tab_to("tbody input")
        page.keyboard.press("Space")
        assert not page.locator("tbody input").first.is_checked()
        tab_to("#size")
        tab_to("[data-action=labelMap]")
        with page.expect_download():
            page.keyboard.press("Enter")
        tab_to("#strip button")
        tab_to("[data-action=remove]")
        page.keyboard.press("Enter")
        page.locator("#intake").wait_for()
        assert page.evaluate("document.activeElement.dataset.action") == "choose"

    def test_what_happens_is_announced(self, open_page, photo):
        page = open_page()
        predict(page, photo[1])
        name, share = next(iter(rows(page).items()))
        said = page.locator("p[role=status]").text_content()
        assert said.startswith(f"street.png: {name} {share}%, ")

    @pytest.mark.parametrize("locale", LANGUAGES)
    @pytest.mark.parametrize("palette", PALETTES)
    def test_axe_finds_nothing_and_nothing_overflows(
        self, open_page, photo, tmp_path, palette, locale
    ):
        from axe_playwright_python.base import AXE_SCRIPT

        (tmp_path / f"{'long-' * 20}name.jpg").write_text("no image")
        page = open_page(palette, locale, expect=["415"])
        page.evaluate(AXE_SCRIPT)

        def look():
            page.evaluate(ANIMATIONS_END)
            for viewport in (PHONE, DESKTOP):
                page.set_viewport_size(viewport)
                width = page.evaluate("document.scrollingElement.scrollWidth")
                assert width <= viewport["width"]
                found = page.evaluate("() => axe.run(document, { resultTypes: ['violations'] })")
                assert not serious(found["violations"])

        look()
        predict(page, photo[1], *tmp_path.iterdir())
        look()
        page.locator("#strip button").nth(1).click()
        page.get_by_role("alert").wait_for()
        look()
        page.locator(".photos [data-action=camera]").click()
        page.locator("dialog[open]").wait_for()
        look()

    def test_both_palettes_differ(self, open_page):
        ground = "getComputedStyle(document.body).backgroundColor"
        light, dark = (open_page(palette).evaluate(ground) for palette in PALETTES)
        channels = [int(re.search(r"\d+", colour)[0]) for colour in (light, dark)]
        assert channels[0] > 230
        assert channels[1] < 40

    @pytest.mark.parametrize("locale", LANGUAGES)
    def test_the_page_speaks_the_language_of_the_browser(self, open_page, locale):
        page = open_page(locale=locale)
        assert page.locator("h2").first.inner_text() == LANGUAGES[locale]
        assert page.locator("html").get_attribute("lang") == locale[:2]

    def test_the_chosen_language_stays(self, open_page, photo):
        page = open_page()
        predict(page, photo[1])
        page.get_by_role("button", name="한국어").click()
        assert page.locator("#panel-title").inner_text() == "클래스"
        assert page.get_by_text("160×120").inner_text().endswith("초")
        page.reload()
        page.get_by_role("heading", name=LANGUAGES["ko-KR"]).wait_for()
        page.get_by_role("button", name="English").click()
        page.get_by_role("heading", name=LANGUAGES["en-US"]).wait_for()

    def test_both_languages_say_the_same_things(self, open_page):
        page = open_page()
        text = httpx2.get(f"{page.url}texts.js", timeout=60).text
        english, korean = (
            set(re.findall(r"^    (\w+):", part, re.MULTILINE)) for part in text.split("  ko: {")
        )
        assert len(english) > 40
        assert english == korean


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_png_is_read_as_it_is_stored(open_page, dtype):
    """Each way in which a row may be stored, in a photo; and class ids of more than 8 bits."""
    values = np.asarray(Image.open(PHOTOS[0]).convert("L")).astype(dtype)
    if dtype == "uint16":
        values = values * 257 + np.arange(480, dtype="uint16")
    png = with_every_filter(values)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), values)
    decoded = open_page().evaluate(
        """async (base64) => {
            const { bytesOfBase64, decodePng } = await import("./png.js");
            const { width, height, values } = await decodePng(bytesOfBase64(base64));
            return [width, height, [...values]];
        }""",
        base64.b64encode(png).decode(),
    )
    assert decoded[:2] == [480, 360]
    np.testing.assert_array_equal(np.reshape(decoded[2], (360, 480)), values)


def with_every_filter(values):
    """A grey PNG whose rows are stored in the five ways in turn; Pillow uses three of them."""
    step = values.itemsize
    height, width = values.shape
    rows = np.zeros((height + 1, (width + 1) * step), int)  # Around the image are zeros.
    stored = values.astype(values.dtype.newbyteorder(">")).tobytes()
    rows[1:, step:] = np.frombuffer(stored, "uint8").reshape(height, -1)
    data = b""
    for number in range(height):
        raw, above = rows[number + 1, step:], rows[number, step:]
        left, corner = rows[number + 1, :-step], rows[number, :-step]
        distances = [abs(above - corner), abs(left - corner), abs(left + above - 2 * corner)]
        paeth = np.choose(np.argmin(distances, axis=0), [left, above, corner])
        predicted = (0, left, above, (left + above) // 2, paeth)[number % 5]
        data += bytes([number % 5]) + ((raw - predicted) % 256).astype("uint8").tobytes()
    header = struct.pack(">IIBBBBB", width, height, 8 * step, 0, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(data)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)
