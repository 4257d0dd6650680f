"""What Chromium finds wrong with a page of the documentation. One file of tests for each language,
so that two workers share the pages."""

import dataclasses
import functools
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PALETTES = "light", "dark"
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}


def _pages():
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


PAGES = sorted(set(_pages()))


def each_page(korean):
    """Mark that runs a test for each page in Korean, or for each other one."""
    pages = [page for page in PAGES if page.startswith("ko/") == korean]
    return pytest.mark.parametrize("page_url", pages, ids=lambda page: page or "index")


@dataclasses.dataclass
class Visit:
    """What was found wrong with a page, by the test that looks for it."""

    title: str
    loading: list
    images: list
    wide: list
    schemes: list
    serious: list


def visitor(page, root_url):
    """Function that opens a page of the site once, for all tests of it."""
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

    return look


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


class EachPage:
    """The tests of a page."""

    def test_loads_whole(self, page_url, visit):
        found = visit(page_url)
        assert not found.loading, "\n".join(found.loading)
        assert not found.images, f"broken images: {found.images}"
        assert found.title

    def test_does_not_overflow_at_390_pixels(self, page_url, visit):
        assert not visit(page_url).wide

    def test_axe_finds_nothing_serious_in_either_palette(self, page_url, visit):
        found = visit(page_url)
        assert found.schemes == ["default", "slate"]
        assert not found.serious, "\n".join(found.serious)
