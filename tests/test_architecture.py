"""The map for newcomers agrees with the tree."""

import re
from pathlib import Path

import programs
import pytest
from test_package import PACKAGE, ROOMS

pytestmark = pytest.mark.any_backend

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
ANSWERS = re.findall(r"^\| ([^|]+) \| `(\S+\.py)`: `(\w+)` \|$", PAGE, re.MULTILINE)


def test_ten_questions_have_an_answer():
    assert len(ANSWERS) >= 10


@pytest.mark.parametrize(("question", "path", "name"), ANSWERS, ids=[a[0] for a in ANSWERS])
def test_where_is(question, path, name):
    assert re.search(rf"\b{name}\b", (PACKAGE / path).read_text())


def test_every_room_is_in_the_table_and_in_the_drawing():
    named = set(re.findall(r"`(\w+)(?:\.py|/)`", PAGE.split("## Where is")[0]))
    rooms = programs.load(".mkdocs/rooms.py")
    svg = rooms.on_page_markdown("<!-- rooms -->")
    drawn = set(re.findall(r">(\w+)</text>", svg))
    assert drawn == {room for row in rooms.rows(rooms.imports()) for room in row}
    assert drawn <= set(ROOMS)
    assert drawn <= named


def test_an_arrow_that_others_imply_is_left_out():
    graph = {"a": set(), "b": {"a"}, "c": {"a", "b"}}
    rooms = programs.load(".mkdocs/rooms.py")
    assert rooms.needed(graph) == [("b", "a"), ("c", "b")]
    assert rooms.rows(graph) == [["a"], ["b"], ["c"]]
