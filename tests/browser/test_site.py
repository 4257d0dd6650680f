"""The documentation in a real browser. Run with `pytest -m browser tests/browser`."""

import dataclasses
import functools
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
PALETTES = "light", "dark"
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
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
    yield "source/keras_fcn/alignment/maps/"  # Source code that a page links to.


PAGES = sorted(set(pages()))
each_page = pytest.mark.parametrize("page_url", PAGES, ids=lambda page: page or "index")


class Page(HTMLParser):
    """What a page links to, loads and can be linked to; its formulas, and its text but for code."""

    NO_TEXT = "code", "script", "style"

    def __init__(self, path):
        super().__init__()
        self.links, self.loads, self.images, self.ids = [], [], [], {"__top"}
        self.formulas, self.text, self.within = [], "", 0
        self.feed(path.read_text())

    def handle_endtag(self, tag):
        self.within -= tag in self.NO_TEXT

    def handle_data(self, data):
        self.text += "" if self.within else data

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.within += tag in self.NO_TEXT
        if tag == "math":
            self.formulas.append(attributes.get("alttext"))
        self.ids |= {attributes.get("id"), attributes.get("name") if tag == "a" else None}
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])
        # The canonical address is a name: it is not loaded. test_summaries.py looks at it.
        if attributes.get(LOADED.get(tag)) and attributes.get("rel") != "canonical":
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


def test_every_formula_is_typeset_and_has_alternative_text(site, parsed):
    formulas = 0
    for path, page in parsed.items():
        assert "$" not in page.text, path.relative_to(site)
        assert all(page.formulas), path.relative_to(site)
        formulas += len(page.formulas)
    assert formulas > 50


@dataclasses.dataclass
class Visit:
    """What was found wrong with a page, by the test that looks for it."""

    title: str
    loading: list
    images: list
    wide: list
    schemes: list
    serious: list


@pytest.fixture(scope="module")
def visit(new_tab, root_url):
    """Opens a page once, for all tests of it."""
    page = new_tab()
    happened = []
    axe = Axe(page)

    def watch_request(request):
        if not request.url.startswith((root_url, "data:", "blob:")):
            happened.append(f"request to another host: {request.url}")

    def watch_response(response):
        if response.status >= 400:
            happened.append(f"{response.status}: {response.url}")

    page.on("request", watch_request)
    page.on("requestfailed", lambda request: happened.append(f"failed: {request.url}"))
    page.on("response", watch_response)
    page.on("pageerror", lambda error: happened.append(f"error: {error}"))
    page.on(
        "console",
        lambda message: message.type == "error" and happened.append(f"console: {message.text}"),
    )

    @functools.cache
    def look(page_url):
        page.set_viewport_size(DESKTOP)
        happened.clear()
        page.goto(root_url + page_url, wait_until="networkidle")
        images = page.evaluate(BROKEN_IMAGES)
        schemes = [page.evaluate(SCHEME)]
        serious = axe.all_but_colours() + axe.colours("light")
        page.locator(PALETTE_SWITCH).click()
        page.evaluate(ANIMATIONS_END)
        schemes.append(page.evaluate(SCHEME))
        serious += axe.colours("dark")
        page.set_viewport_size(PHONE)
        wide = page.evaluate(TOO_WIDE, PHONE["width"])
        title = page.title()
        page.evaluate("localStorage.clear()")  # The next page shall begin in light, too.
        return Visit(title, list(happened), images, wide, schemes, serious)

    yield look
    page.context.close()


class Axe:
    """Runs axe's rules on a page.

    Those about colours take most of the time, for thousands of words of highlighted code in few
    colours. They look at each way in which text is shown, such as links on the ground of a table,
    until axe could judge it, on whatever page, and not again on the next.
    """

    RULES_ABOUT_COLOURS = ("color-contrast", "link-in-text-block")

    def __init__(self, page):
        from axe_playwright_python.base import AXE_SCRIPT

        self.page, self.script = page, AXE_SCRIPT
        self.judged = {palette: set() for palette in PALETTES}

    def all_but_colours(self):
        self.page.evaluate(self.script)
        rules = {rule: {"enabled": False} for rule in self.RULES_ABOUT_COLOURS}
        options = {"resultTypes": ["violations"], "rules": rules}
        found = self.page.evaluate("(options) => axe.run(document, options)", options)
        return serious(found["violations"])

    def colours(self, palette):
        found = self.page.evaluate(
            COLOURS, [self.RULES_ABOUT_COLOURS, sorted(self.judged[palette])]
        )
        self.judged[palette] |= set(found["judged"])
        return [f"{palette}: {violation}" for violation in serious(found["violations"])]


def serious(violations):
    return [
        f"{violation['id']}: {node['target']} {node['failureSummary']}"
        for violation in violations
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]


SCHEME = "document.body.dataset.mdColorScheme"
PALETTE_SWITCH = "[data-md-component=palette] label:not([hidden])"
ANIMATIONS_END = "Promise.allSettled(document.getAnimations().map((each) => each.finished))"
BROKEN_IMAGES = """async () => {
    for (const image of document.images) image.loading = "eager";
    await Promise.allSettled([...document.images].map((image) => image.decode()));
    return [...document.images].filter((i) => !i.naturalWidth).map((i) => i.src);
}"""
TOO_WIDE = """(width) => document.scrollingElement.scrollWidth <= width ? [] : [
    `${document.scrollingElement.scrollWidth} pixels`,
    ...[...document.querySelectorAll("article *")]
        .filter((e) => e.getBoundingClientRect().right > width + 1)
        .slice(0, 3).map((e) => e.outerHTML.slice(0, 100)),
]"""
COLOURS = """async ([rules, judged]) => {
    const grounds = new Map([[null, ""]]);
    const ground = (element) => {
        if (!grounds.has(element)) {
            const style = getComputedStyle(element);
            const own = [
                style.backgroundColor, style.backgroundImage, style.opacity, style.filter,
                style.mixBlendMode, style.position,
            ].join();
            const plain = own === "rgba(0, 0, 0, 0),none,1,none,normal,static";
            grounds.set(element, (plain ? "" : own + " on ") + ground(element.parentElement));
        }
        return grounds.get(element);
    };
    const look = (element) => {
        const style = getComputedStyle(element), around = getComputedStyle(element.parentElement);
        return [
            element.localName, element.getAttribute("aria-disabled"), element.disabled,
            style.color, style.fontSize, style.fontWeight, style.fontStyle, style.textShadow,
            style.textDecoration, style.borderBottom, around.color, around.textDecoration,
            ground(element),
        ].join("; ");
    };
    const known = new Set(judged), looks = new Map(), counts = new Map();
    for (const element of document.querySelectorAll("body *")) {
        const has_text = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
        if (!has_text && !element.matches("input, select, textarea, button")) continue;
        if (!element.checkVisibility({ visibilityProperty: true })) continue;
        const found = look(element), count = counts.get(found) ?? 0;
        if (known.has(found) || count === 3) continue;
        counts.set(found, count + 1);
        looks.set(element, found);
    }
    if (!looks.size) return { judged: [], violations: [] };
    const results = await axe.run(
        { include: [...looks.keys()] },
        { runOnly: rules, resultTypes: ["violations", "passes"], elementRef: true },
    );
    const nodes = [...results.passes, ...results.violations].flatMap((result) => result.nodes);
    const seen = new Set(nodes.map((node) => looks.get(node.element)).filter(Boolean));
    const violations = results.violations.map(({ id, impact, nodes }) => ({
        id, impact, nodes: nodes.map(({ target, failureSummary }) => ({ target, failureSummary })),
    }));
    return { judged: [...seen], violations };
}"""


@each_page
def test_page_loads_whole(page_url, visit):
    found = visit(page_url)
    assert not found.loading, "\n".join(found.loading)
    assert not found.images, f"broken images: {found.images}"
    assert found.title


@each_page
def test_nothing_overflows_at_390_pixels(page_url, visit):
    assert not visit(page_url).wide


@each_page
def test_axe_finds_nothing_serious_in_either_palette(page_url, visit):
    found = visit(page_url)
    assert found.schemes == ["default", "slate"]
    assert not found.serious, "\n".join(found.serious)


def test_the_keyboard_scrolls_a_wide_formula(new_tab, root_url):
    page = new_tab()
    page.set_viewport_size({"width": 320, "height": 844})
    page.goto(root_url + "learn/metrics/")
    formula = page.locator(".fcn-formula[tabindex='0']")
    formula.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("(e) => e.scrollLeft > 0", arg=formula.element_handle())
    assert page.evaluate(TOO_WIDE, 320) == []
    page.context.close()


@pytest.mark.parametrize("palette", PALETTES)
def test_axe_sees_one_pale_word_in_pages_seen_before(palette, new_tab, root_url):
    page = new_tab(palette)
    axe = Axe(page)
    page.goto(root_url + "guides/metrics/")
    page.evaluate(axe.script)
    assert axe.colours(palette) == []
    assert len(axe.judged[palette]) > 10
    page.locator("article p").nth(3).evaluate("(e) => { e.style.opacity = 0.4 }")
    assert axe.colours(palette)
    page.context.close()


@pytest.mark.parametrize("palette", PALETTES)
@pytest.mark.parametrize("page_url", ["", "ko/guides/metrics/"])
def test_a_page_begins_in_the_palette_of_the_system(page_url, palette, new_tab, root_url):
    page = new_tab(palette)
    page.goto(root_url + page_url)
    assert page.evaluate(SCHEME) == {"light": "default", "dark": "slate"}[palette]
    page.context.close()


@pytest.mark.parametrize("start", ["", "ko/"])
def test_search_finds_crop_offset(start, tab):
    page = tab(start)
    page.locator("input.md-search__input").click()
    page.keyboard.type("crop offset")
    results = page.locator("a.md-search-result__link")
    results.first.wait_for()
    assert any("alignment" in link.get_attribute("href") for link in results.all())


@pytest.mark.parametrize("language", ["", "ko/"])
def test_a_link_into_the_source_shows_its_line(language, tab):
    page = tab(f"{language}learn/build/")
    page.locator("article a", has_text="crop_offset").click()
    line = page.locator(".fcn-source :target")
    line.wait_for()
    assert line.text_content().startswith("def crop_offset(")
    # Below the header, which stays in place.
    header = page.locator(".md-header").bounding_box()
    box = line.bounding_box()
    assert header["height"] < box["y"] < page.viewport_size["height"]


def test_the_language_switch_keeps_the_page(root_url, tab):
    page = tab("guides/metrics/")
    for name, url in (("한국어", "ko/guides/metrics/"), ("English", "guides/metrics/")):
        page.locator(".md-header .md-select button").hover()
        page.locator(".md-select__link", has_text=name).click()
        page.wait_for_url(root_url + url)
        assert page.locator("html").get_attribute("lang") == ("ko" if "ko/" in url else "en")


def test_the_chosen_palette_stays(root_url, new_tab):
    page = new_tab()
    page.goto(root_url)
    page.locator("label[title=Dark]").click()
    for page_url in ("", "guides/models/"):
        page.goto(root_url + page_url)
        assert page.evaluate(SCHEME) == "slate"
    page.context.close()
