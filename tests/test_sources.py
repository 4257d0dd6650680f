"""Links to the source code lead to the line where a name is defined."""

import inspect
import re
from html.parser import HTMLParser
from pathlib import Path

import programs
import pytest

import keras_fcn.alignment.maps
import keras_fcn.layers.crop_to_reference
import keras_fcn.models.fcn

# The extra `docs` has MkDocs, which the hook imports.
pytestmark = [pytest.mark.any_backend, pytest.mark.gate]

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def sources():
    return programs.load(".mkdocs/sources.py")


def first_line(value):
    """As Python's own tools find it; of a decorated class, the line of `class`."""
    lines, start = inspect.getsourcelines(value)
    decorators = next(n for n, line in enumerate(lines) if re.match(r"\s*(class|def) ", line))
    return start + decorators


class TestAPlace:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("alignment.maps.crop_offset", keras_fcn.alignment.maps.crop_offset),
            ("alignment.maps.CoordinateMap", keras_fcn.alignment.maps.CoordinateMap),
            ("alignment.maps.CoordinateMap.then", keras_fcn.alignment.maps.CoordinateMap.then),
            (
                "layers.crop_to_reference.CropToReference",
                keras_fcn.layers.crop_to_reference.CropToReference,
            ),
            ("models.fcn.FCN8s", keras_fcn.models.fcn.FCN8s),
        ],
    )
    def test_it_is_where_inspect_finds_the_name(self, sources, name, value):
        path, line = sources.place(f"keras_fcn.{name}")
        assert (ROOT / path).samefile(inspect.getsourcefile(value))
        assert line == first_line(value)

    def test_a_constant_has_one(self, sources):
        path, line = sources.place("keras_fcn.alignment.maps.IMAGE")
        assert (ROOT / path).read_text("utf-8").splitlines()[line - 1].startswith("IMAGE = ")

    def test_a_module_begins_with_its_first_line(self, sources):
        assert sources.place("keras_fcn.alignment.maps") == ("keras_fcn/alignment/maps.py", 1)
        assert sources.place("keras_fcn.alignment") == ("keras_fcn/alignment/__init__.py", 1)

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("keras_fcn.alignment.maps.moved", "maps.py must define moved"),
            ("keras_fcn.alignment.moved.crop_offset", "must define moved"),
            ("elsewhere.crop_offset", "must be followed by a name of the package"),
        ],
    )
    def test_a_name_that_moved_is_an_error(self, sources, name, message):
        with pytest.raises(ValueError, match=message):
            sources.place(name)


class Lines(HTMLParser):
    """The text of each line of a listing, by its id."""

    def __init__(self, page):
        super().__init__()
        self.lines, self.current = {}, None
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        if name := dict(attributes).get("id", "").removeprefix("line-"):
            self.current = int(name)
            self.lines[self.current] = ""

    def handle_data(self, data):
        if self.current is not None:
            self.lines[self.current] += data


@pytest.mark.parametrize("module", ["keras_fcn/alignment/maps.py", "keras_fcn/layers/__init__.py"])
def test_a_listing_has_every_line_under_its_number(sources, module):
    code = (ROOT / module).read_text("utf-8").splitlines()
    lines = Lines(sources.listing(module)).lines
    assert [lines[number].rstrip() for number in range(1, 1 + len(code))] == code


def test_every_linked_name_exists(sources):
    pages = sorted((ROOT / "docs").rglob("*.md"))
    linked = {n for page in pages for n in sources.LINK.findall(page.read_text("utf-8"))}
    assert len(linked) > 15
    for name in linked:
        assert sources.place(name)[1] > 1


def test_the_label_of_a_link_is_the_name(sources):
    label = re.compile(r"\[`(\w+)`\]\(source:([\w.]+)\)")
    for page in sorted((ROOT / "docs").rglob("*.md")):
        text = page.read_text("utf-8")
        assert len(label.findall(text)) == len(sources.LINK.findall(text)), page
        assert all(name.endswith(f".{words}") for words, name in label.findall(text)), page
