"""The documentation in a real browser. Run with `pytest -m browser tests/browser`."""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from browser.visits import PAGES, PALETTES, SCHEME, TOO_WIDE, Axe

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
# What a page fetches as soon as it is opened.
LOADED = {"link": "href", "script": "src", "img": "src", "iframe": "src", "source": "src"}


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
