"""What search engines, previews of links and language models read of the built documentation."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree import ElementTree

import pytest
import yaml
from PIL import Image

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
SITEMAP = "{http://www.sitemaps.org/schemas/sitemap/0.9}"


class Head(HTMLParser):
    """The meta tags of a page by name or property, and its canonical address."""

    def __init__(self, path):
        super().__init__()
        self.meta, self.canonical = {}, None
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "meta":
            name = attributes.get("name") or attributes.get("property")
            self.meta.setdefault(name, []).append(attributes.get("content"))
        if tag == "link" and attributes.get("rel") == "canonical":
            self.canonical = attributes["href"]


@pytest.fixture(scope="module")
def heads(site):
    paths = [path for path in sorted(site.rglob("*.html")) if path.name != "404.html"]
    return {path.relative_to(site).as_posix(): Head(path) for path in paths}


@pytest.fixture(scope="module")
def address(heads):
    """The address that the site was built for."""
    return heads["index.html"].canonical


def file_of(site, url, address):
    """The file that is published at a URL of this site."""
    assert url.startswith(address), url
    path = site / urlsplit(url[len(address) :]).path
    return path / "index.html" if path.is_dir() else path


def pages_of_navigation():
    loader = type("Loader", (yaml.SafeLoader,), {})
    loader.add_constructor("!ENV", lambda *_: None)

    def pages(item):
        if isinstance(item, str):
            yield item
        else:
            for child in item.values() if isinstance(item, dict) else item:
                yield from pages(child)

    return sorted(pages(yaml.load((ROOT / "mkdocs.yml").read_text("utf-8"), loader)["nav"]))


def built(page):
    page = page.removesuffix(".md")
    return f"{page}.html" if page.split("/")[-1] == "index" else f"{page}/index.html"


def test_every_page_has_one_short_description(heads):
    for path, head in heads.items():
        (description,) = head.meta["description"]
        assert 0 < len(description) <= 200, path
        assert head.meta["og:description"] == [description], path
    korean = [head.meta["description"][0] for path, head in heads.items() if path[:3] == "ko/"]
    assert sum(bool(re.search("[가-힣]", text)) for text in korean) > 30


def test_descriptions_of_guides_differ(heads):
    guides = [h.meta["description"][0] for path, h in heads.items() if "guides/" in path]
    assert len(guides) > 20
    assert len(set(guides)) == len(guides)


def test_every_page_names_its_own_address_and_title(site, heads, address):
    for path, head in heads.items():
        assert file_of(site, head.canonical, address) == site / path
        assert head.meta["og:url"] == [head.canonical]
        (title,) = head.meta["og:title"]
        assert title, path


def test_the_picture_of_every_link_is_in_the_site(site, heads, address):
    urls = {url for head in heads.values() for url in head.meta["og:image"]}
    (picture,) = {file_of(site, url, address) for url in urls}
    with Image.open(picture) as image:
        assert image.size == (1200, 630)
    assert picture.stat().st_size < 150_000


def test_the_sitemap_has_every_page_in_both_languages(site, heads, address):
    entries = ElementTree.parse(site / "sitemap.xml").getroot().findall(f"{SITEMAP}url")
    listed = [entry.findtext(f"{SITEMAP}loc") for entry in entries]
    files = [file_of(site, url, address).relative_to(site).as_posix() for url in listed]
    # Source code that pages link to is no page to search for.
    pages = [path for path in heads if "source" not in Path(path).parts[:2]]
    assert sorted(files) == sorted(pages)


@pytest.mark.parametrize(
    ("language", "summary"),
    [("", "Fully Convolutional Networks"), ("ko/", "TensorFlow, JAX, PyTorch에서")],
)
def test_llms_txt_lists_every_page_of_the_navigation(language, summary, site, heads, address):
    text = (site / language / "llms.txt").read_text("utf-8")
    assert text.startswith(f"# keras_fcn\n\n> {summary}")
    links = re.findall(r"^- \[(.+)\]\((\S+)\): (.+)$", text, re.MULTILINE)
    files = [file_of(site, url, address).relative_to(site).as_posix() for _, url, _ in links]
    assert sorted(files) == sorted(language + built(page) for page in pages_of_navigation())
    assert [heads[file].meta["description"][0] for file in files] == [link[2] for link in links]
