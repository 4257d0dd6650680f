"""The documentation in a real browser. Run with `pytest -m browser tests/browser`."""

import functools
import http.server
import itertools
import random
import re
import shutil
import subprocess
import sys
import threading
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
PALETTES = "light", "dark"
RULES_ABOUT_COLOURS = ["color-contrast", "link-in-text-block"]
PHONE = {"width": 390, "height": 844}
PATIENCE = 60_000  # Milliseconds; other tests may keep the machine busy.
CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# What a page fetches as soon as it is opened.
LOADED = {"link": "href", "script": "src", "img": "src", "iframe": "src", "source": "src"}


def pages():
    """The address of each page below the site's root."""
    docs = ROOT / "docs"
    for path in sorted(docs.rglob("*.md")):
        page = path.relative_to(docs).with_suffix("").as_posix()
        language = "ko/" if page.endswith(".ko") else ""
        page = page.removesuffix(".ko")
        folder = page.removesuffix("index") if page.split("/")[-1] == "index" else f"{page}/"
        yield language + folder
    yield "ko/architecture/"  # One that is not translated.


PAGES = sorted(set(pages()))
each_page = pytest.mark.parametrize("page_url", PAGES, ids=lambda page: page or "index")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def root_url(site):
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    handler = functools.partial(Handler, directory=site)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("google-chrome")
    assert path, "These tests need Chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def tab(chromium, root_url):
    """Opens a page of the site in the tab for its palette and size."""
    tabs = {}

    def open_page(page_url, palette="light", viewport=None):
        key = palette, bool(viewport)
        if key not in tabs:
            viewport = viewport or {"width": 1280, "height": 900}
            context = chromium.new_context(color_scheme=palette, viewport=viewport)
            context.set_default_timeout(PATIENCE)
            tabs[key] = context.new_page()
        tabs[key].goto(root_url + page_url)
        return tabs[key]

    return open_page


class Page(HTMLParser):
    """What a page links to, loads and can be linked to."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loads, self.images, self.ids = [], [], [], {"__top"}
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids |= {attributes.get("id"), attributes.get("name") if tag == "a" else None}
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])
        if attributes.get(LOADED.get(tag)):
            self.loads.append(attributes[LOADED[tag]])
        if tag == "img":
            self.images.append(attributes)


@pytest.fixture(scope="module")
def parsed(site):
    return {path: Page(path) for path in sorted(site.rglob("*.html"))}


def test_every_page_has_both_languages(site, parsed):
    english = {path.relative_to(site) for path in parsed} - {Path("404.html")}
    english = {path for path in english if path.parts[0] != "ko"}
    assert {Path("ko") / path for path in english} <= {path.relative_to(site) for path in parsed}
    assert {f"{page}index.html" for page in PAGES} <= {
        path.relative_to(site).as_posix() for path in parsed
    }


def test_every_internal_link_and_anchor_resolves(site, parsed):
    broken = []
    for path, page in parsed.items():
        here = "/" + path.relative_to(site).as_posix()
        for link in page.links + page.loads:
            parts = urlsplit(urljoin(here, link))
            if parts.scheme or parts.netloc:
                continue
            target = site / unquote(parts.path).lstrip("/")
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                broken.append(f"{here}: {link} is no file")
                continue
            anchors = parsed[target].ids if target in parsed else {""}
            if parts.fragment and unquote(parts.fragment) not in anchors:
                broken.append(f"{here}: {link} has no such anchor")
    assert not broken, "\n".join(broken)


def test_nothing_is_loaded_from_another_host(site, parsed):
    for path, page in parsed.items():
        hosts = {load: urlsplit(load).netloc for load in page.loads}
        assert not any(hosts.values()), f"{path.relative_to(site)}: {hosts}"
    for path in site.rglob("*.css"):
        for start in ("url(http", "url(//", '@import"http', "@import url"):
            assert start not in path.read_text(), path.relative_to(site)


def test_every_image_has_alternative_text(site, parsed):
    for path, page in parsed.items():
        without = [image.get("src") for image in page.images if not image.get("alt", "").strip()]
        assert not without, f"{path.relative_to(site)}: {without}"


@each_page
def test_page_loads_whole(page_url, root_url, chromium):
    troubles = []
    context = chromium.new_context(service_workers="block")
    context.set_default_timeout(PATIENCE)
    page = context.new_page()

    def watch_request(request):
        if not request.url.startswith((root_url, "data:", "blob:")):
            troubles.append(f"request to another host: {request.url}")

    def watch_response(response):
        if response.status >= 400:
            troubles.append(f"{response.status}: {response.url}")

    page.on("request", watch_request)
    page.on("requestfailed", lambda request: troubles.append(f"failed: {request.url}"))
    page.on("response", watch_response)
    page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
    page.on(
        "console",
        lambda message: message.type == "error" and troubles.append(f"console: {message.text}"),
    )
    page.goto(root_url + page_url, wait_until="networkidle")
    images = page.evaluate(
        """async () => {
            for (const image of document.images) image.loading = "eager";
            await Promise.allSettled([...document.images].map((image) => image.decode()));
            return [...document.images].filter((i) => !i.naturalWidth).map((i) => i.src);
        }"""
    )
    assert not images, f"broken images: {images}"
    assert page.title()
    context.close()
    assert not troubles, "\n".join(troubles)


@each_page
def test_nothing_overflows_at_390_pixels(page_url, tab):
    page = tab(page_url, viewport=PHONE)
    width = page.evaluate("document.scrollingElement.scrollWidth")
    wide = page.evaluate(
        """() => [...document.querySelectorAll("article *")]
            .filter((e) => e.getBoundingClientRect().right > 391)
            .slice(0, 3).map((e) => e.outerHTML.slice(0, 100))"""
    )
    assert width <= PHONE["width"], wide


@pytest.mark.parametrize("palette", PALETTES)
@each_page
def test_axe_finds_nothing_serious(page_url, palette, tab):
    from axe_playwright_python.sync_playwright import Axe

    page = tab(page_url, palette)
    scheme = page.evaluate("document.body.dataset.mdColorScheme")
    assert scheme == {"light": "default", "dark": "slate"}[palette]
    options = {"resultTypes": ["violations"]}
    if palette == "dark":  # All else is as in the light one.
        options["runOnly"] = RULES_ABOUT_COLOURS
    found = Axe().run(page, options=options).response["violations"]
    serious = [
        f"{violation['id']}: {node['target']} {node['failureSummary']}"
        for violation in found
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]
    assert not serious, "\n".join(serious)


@pytest.mark.parametrize("start", ["", "ko/"])
def test_search_finds_crop_offset(start, tab):
    page = tab(start)
    page.locator("input.md-search__input").click()
    page.keyboard.type("crop offset")
    results = page.locator("a.md-search-result__link")
    results.first.wait_for()
    assert any("alignment" in link.get_attribute("href") for link in results.all())


def test_the_language_switch_keeps_the_page(root_url, tab):
    page = tab("guides/metrics/")
    for name, url in (("한국어", "ko/guides/metrics/"), ("English", "guides/metrics/")):
        page.locator(".md-header .md-select button").hover()
        page.locator(".md-select__link", has_text=name).click()
        page.wait_for_url(root_url + url)
        assert page.locator("html").get_attribute("lang") == ("ko" if "ko/" in url else "en")


def test_the_chosen_palette_stays(root_url, chromium):
    context = chromium.new_context(color_scheme="light")
    page = context.new_page()
    page.goto(root_url)
    page.locator("label[title=Dark]").click()
    for page_url in ("", "guides/models/"):
        page.goto(root_url + page_url)
        assert page.evaluate("document.body.dataset.mdColorScheme") == "slate"
    context.close()


SIZES = (1, 1), (33, 64), (375, 500), (224, 217), (1000, 7)
# Of each block the last convolution.
SHOWN_LAYERS = re.compile(
    r"(input_padding|block[12]_conv2|block[345]_conv3|block\d_pool|fc\d|score_|upscore|crop_|fuse_)"
)
MODELS = {"fcn32s": (), "fcn16s": ("pool4",), "fcn8s": ("pool4", "pool3")}


@pytest.mark.parametrize("padding", ["paper", "same"])
@pytest.mark.parametrize("model_name", MODELS)
def test_the_alignment_figure_has_the_sizes_and_offsets_of_the_model(model_name, padding, tab):
    import keras_fcn
    from keras_fcn.models import alignment

    input_padding, fc6_padding = (99, 0) if padding == "paper" else (0, 3)
    skips = MODELS[model_name]
    offsets = alignment.fcn_crop_offsets(
        skips, input_padding=input_padding, fc6_kernel_size=7, fc6_padding=fc6_padding
    )
    pools = alignment.vgg16_pool_maps(input_padding)
    model_class = getattr(keras_fcn, model_name.replace("fcn", "FCN"))

    page = tab("learn/figure-alignment/")
    page.get_by_label("Padding").select_option(padding)
    page.get_by_label("Model").select_option(model_name)
    for height, width in SIZES:
        page.get_by_label("Image height").fill(str(height))
        page.get_by_label("Image width").fill(str(width))
        rows = table_rows(page, "layer")
        shown = {name: cells[0] for name, cells in rows.items()}
        model = model_class(2, input_shape=(height, width, 3), padding=padding, fc_units=1)
        assert shown == expected_sizes(model, f"{height} × {width}")
        for pool, path in pools.items():
            cells = rows[f"block{pool[-1]}_pool"]
            assert [number(cell) for cell in cells[1:3]] == [path.scale, path.offset]
        crops = table_rows(page, "crop")
        assert list(crops) == [*(f"fuse_{skip}" for skip in skips), "logits"]
        assert tuple(number(cells[0]) for cells in crops.values()) == offsets
        assert crops["logits"][3] == f"{height} × {width}"
        said = page.locator(".fcn-alignment output").inner_text()
        assert said.endswith(
            f"{height} × {width}: crop offsets {', '.join(map(str, offsets))}.".replace("-", "−")
        )


def expected_sizes(model, image):
    """The height and width of the image and of the layers that the figure has to show."""
    import keras

    first = 2 if keras.backend.backend() == "torch" else 1
    sizes = {"image": image}
    for layer in model.layers:
        if SHOWN_LAYERS.match(layer.name):
            height, width = layer.output.shape[first : first + 2]
            sizes[layer.name] = f"{height} × {width}"
    if "input_padding" in sizes:
        # The model computes a part of these; the figure shows the maps of the whole padded image.
        whole = [int(side) + 198 for side in image.split(" × ")]
        sizes["input_padding"] = " × ".join(map(str, whole))
        for block, last in ((1, "conv2"), (2, "conv2"), (3, "conv3")):
            sizes[f"block{block}_{last}"] = " × ".join(map(str, whole))
            whole = [-(-side // 2) for side in whole]
            sizes[f"block{block}_pool"] = " × ".join(map(str, whole))
    return sizes


def table_rows(page, kind):
    """The texts of the cells of each row of the alignment figure's table, by name."""
    return page.evaluate(
        """(kind) => Object.fromEntries(
            [...document.querySelectorAll(`.fcn-alignment tr[data-${kind}]`)].map((row) => [
                row.dataset[kind], [...row.querySelectorAll("td")].map((cell) => cell.textContent),
            ]))""",
        kind,
    )


def number(text):
    return float(text.replace("−", "-"))


@pytest.mark.parametrize("value", ["0", "-3", "2.5", "", "5000"])
def test_the_alignment_figure_refuses_what_is_no_size(value, tab):
    page = tab("learn/figure-alignment/")
    height = page.get_by_label("Image height")
    height.fill(value)
    assert height.get_attribute("aria-invalid") == "true"
    assert "must be whole numbers" in page.locator(".fcn-alignment output").inner_text()
    assert page.locator(".fcn-alignment tr[data-layer]").count() == 0


def test_the_alignment_figure_works_by_keyboard(tab):
    page = tab("learn/figure-alignment/")
    page.get_by_label("Image height").focus()
    page.keyboard.press("Control+a")
    page.keyboard.type("240")
    page.keyboard.press("Tab")
    page.keyboard.type("320")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    said = page.locator(".fcn-alignment output")
    assert said.get_attribute("aria-live") == "polite"
    assert said.inner_text() == "FCN-8s, image 240 × 320: crop offsets −1, −1, 4."


def matrices():
    yield [[0] * 3] * 3
    yield [[50, 2, 0], [0, 0, 0], [1, 0, 9]]  # A class absent from the truth alone.
    yield [[50, 0, 2], [0, 0, 0], [1, 0, 9]]  # From truth and prediction.
    yield [[999_999_999, 0, 1], [3, 7, 0], [0, 0, 0]]
    draw = random.Random(0)
    for _ in range(5):
        yield [[draw.choice([0, draw.randrange(100)]) for _ in range(3)] for _ in range(3)]


def test_the_metrics_figure_has_the_scores_of_the_metrics(tab):
    from keras_fcn import metrics

    page = tab("learn/figure-metrics/")
    cells = page.locator(".fcn-metrics table input")
    assert cells.count() == 9
    for matrix in matrices():
        for index, value in enumerate(itertools.chain(*matrix)):
            cells.nth(index).fill(str(value))
        shown = scores(page)
        assert len(shown) == 4
        for name, value in shown.items():
            assert value == pytest.approx(float(getattr(metrics, name)(matrix)), abs=1e-12), matrix
        said = page.locator(".fcn-metrics output").inner_text()
        assert f"mean IoU {metrics.mean_iou(matrix):.4f}" in said
    page.get_by_label("Pixels of ignore_class").fill("77")
    assert scores(page) == shown
    cells.nth(4).fill("-1")
    assert scores(page) == {}
    assert "must be a whole number" in page.locator(".fcn-metrics output").inner_text()


def scores(page):
    return page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll(".fcn-metrics tr[data-score]")]
            .map((row) => [row.dataset.score, Number(row.dataset.value)]))"""
    )
