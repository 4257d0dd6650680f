"""The Korean README has the commands, the scores and the links of the English one."""

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.any_backend

ROOT = Path(__file__).parents[1]
ENGLISH, KOREAN = (
    (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.ko.md")
)


def code(text):
    return re.findall(r"^```\w+\n.*?^```$|(?<!`)`[^`\n]+`", text, re.MULTILINE | re.DOTALL)


def rows_of_numbers(text):
    """What the cells of the tables hold, if a cell is numbers and nothing else."""
    rows = re.findall(r"^\|(.+)\|$", text, re.MULTILINE)
    return [re.findall(r"(?<=\|) ([\d., –]+) (?=\||$)", row + "|") for row in rows]


def linked_files(text):
    links = re.findall(r"\]\(([^)]+)\)", text)
    return [link for link in links if "://" not in link and not link.startswith("README")]


def test_both_have_the_same_code():
    assert sum(block.startswith("```") for block in code(ENGLISH)) == 3
    assert code(KOREAN) == code(ENGLISH)


def test_both_have_the_same_scores():
    assert sum(map(len, rows_of_numbers(ENGLISH))) == 26
    assert rows_of_numbers(KOREAN) == rows_of_numbers(ENGLISH)


def test_the_korean_one_links_the_same_pages_in_korean_where_there_is_a_translation():
    def translated(link):
        path, _, anchor = link.partition("#")
        korean = path.removesuffix(".md") + ".ko.md"
        path = korean if (ROOT / korean).is_file() else path
        return f"{path}#{anchor}" if anchor else path

    english = linked_files(ENGLISH)
    assert len(english) > 20
    assert sorted(linked_files(KOREAN)) == sorted(map(translated, english))


@pytest.mark.parametrize("text", [ENGLISH, KOREAN], ids=["README.md", "README.ko.md"])
def test_every_linked_file_exists(text):
    assert not [link for link in linked_files(text) if not (ROOT / link.split("#")[0]).is_file()]


def test_each_links_the_other():
    assert "[한국어](README.ko.md)" in ENGLISH
    assert "[English](README.md)" in KOREAN
