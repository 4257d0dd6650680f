"""Finds translations that are older than their English page, or show other code.

    python .mkdocs/translations.py                        # lists what changed since
    python .mkdocs/translations.py --stamp PAGE.ko.md …   # after the translation was updated

Each section of `page.ko.md` has a comment `<!-- en: 1a2b3c … -->` under its heading, or at the head
of the page: the hashes of the blocks of the same section of `page.md`. A section begins at a
heading. A block is what stands between blank lines: a heading, paragraph, table or item; a fenced
block is one with its blank lines. What is between the markers of a snippet counts by its name,
since translations include it.
"""

import argparse
import dataclasses
import difflib
import hashlib
import itertools
import re
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_HEADING = re.compile(r"(#{1,6})\s+(.*?)\s*(?:\{\s*#([^\s}]+)[^}]*\})?\s*$")
_FENCE = re.compile(r"\s*(`{3,}|~{3,})(.*)")
_STAMP = re.compile(r"<!-- en:([ 0-9a-f]*)-->")
_SNIPPET = re.compile(
    r"<!-- (--8<-- \[)start(:(\S+)\]) -->.*?<!-- --8<-- \[end:\3\] -->", re.DOTALL
)


@dataclasses.dataclass
class Section:
    """A heading and what follows it; the first section of a page has no heading and level 0."""

    level: int = 0
    title: str = ""
    id: str = ""  # Only an explicit one.
    stamp: list[str] | None = None
    blocks: list[str] = dataclasses.field(default_factory=list)

    @property
    def hashes(self) -> list[str]:
        """One hash per block; changes of white space alone leave it."""
        return [hashlib.sha256(words(block).encode()).hexdigest()[:6] for block in self.blocks]


def words(text: str) -> str:
    """Returns the text with single spaces."""
    return " ".join(text.split())


def sections(page: str) -> list[Section]:
    """Splits the text of a page."""
    found, block = [Section()], []
    for line, is_code in _lines(_SNIPPET.sub(r"\1include\2", page)):
        heading = None if is_code else _HEADING.match(line)
        stamp = None if is_code else _STAMP.match(line)
        if stamp:
            found[-1].stamp = stamp[1].split()
        if heading or stamp or not (line.strip() or is_code):
            if block:
                found[-1].blocks.append("\n".join(block))
            block = []
        elif line.strip() or is_code:
            block.append(line)
        if heading:
            found.append(Section(len(heading[1]), heading[2], heading[3] or "", None, [line]))
    return found


def _lines(page: str) -> Iterator[tuple[str, bool]]:
    """Yields each line, and whether it belongs to fenced code; a blank line ends the page."""
    fence = ""
    for line in [*page.splitlines(), ""]:
        mark = _FENCE.match(line)
        if fence and mark and mark[1].startswith(fence) and not mark[2].strip():
            fence = ""
            yield line, True
            continue
        if not fence and mark:
            fence = mark[1]
        yield line, bool(fence)


def difference(english: list[Section], translated: list[Section]) -> str:
    """Returns one sentence if the sections do not correspond, otherwise an empty text."""
    if len(english) != len(translated):
        headings = [len(page) - 1 for page in (english, translated)]
        return "must have {} headings, as in English. Received: {}.".format(*headings)
    used: dict[str, int] = {}
    for one, other in zip(english, translated, strict=True):
        if one.level != other.level:
            return f'"{other.title}" must have level {one.level}, as "{one.title}" in English.'
        expected = one.id or _automatic_id(one.title, used)
        if (one.id or other.id) and other.id != expected:
            return f'"{other.title}" must have the id {{#{expected}}}, as "{one.title}" in English.'
    return ""


def _automatic_id(title: str, used: dict[str, int]) -> str:
    """Returns the id that Python-Markdown gives to a heading."""
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title)
    text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    slug = re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", text).strip().lower())
    used[slug] = used.get(slug, -1) + 1
    return f"{slug}_{used[slug]}" if used[slug] else slug


def changes(english: str, translated: str) -> list[str]:
    """Returns a line for each block of the English page that the translation does not reflect."""
    pages = sections(english), sections(translated)
    if problem := difference(*pages):
        return [problem]
    found = []
    for one, other in zip(*pages, strict=True):
        place = f'"{one.title}"' if one.level else "the head of the page"
        if other.stamp is None and one.blocks:
            found.append(f"{place}: not stamped")
        else:
            found += [f"{place}: {change}" for change in _changed_blocks(one, other.stamp or [])]
    for code, translated_code in itertools.zip_longest(_code(english), _code(translated)):
        if _without_comments(code) != _without_comments(translated_code):
            found.append(f"other code than in English: {words(translated_code or code)[:60]}")
            break
    return found


def _changed_blocks(section: Section, stamp: list[str]) -> Iterator[str]:
    blocks = [words(block)[:60] for block in section.blocks]
    matcher = difflib.SequenceMatcher(None, stamp, section.hashes, autojunk=False)
    for kind, old, old_end, new, end in matcher.get_opcodes():
        if kind == "delete":
            yield f"{old_end - old} removed" + (f" after: {blocks[new - 1]}" if new else "")
        elif kind != "equal":
            yield from (
                f"{'changed' if kind == 'replace' else 'added'}: {block}"
                for block in blocks[new:end]
            )


def _code(page: str) -> list[str]:
    """Returns the fenced blocks, some with their neighbours."""
    groups = itertools.groupby(_lines(page), lambda line: line[1])
    return ["\n".join(line for line, _ in lines) for is_code, lines in groups if is_code]


def _without_comments(code: str | None) -> str:
    """Translations may translate comments."""
    return re.sub(r"\s*#.*", "", code or "")


def stamped(english: str, translated: str) -> str:
    """Returns the translation with the hashes of the English page as it is now."""
    pages = sections(english), sections(translated)
    if problem := difference(*pages):
        raise ValueError(problem)
    head, *stamps = [f"<!-- en: {' '.join(section.hashes)} -->" for section in pages[0]]
    lines = [head, ""] if pages[0][0].blocks else []
    is_begun = False
    for line, is_code in _lines(translated):
        is_begun = is_begun or bool(line.strip() and not _STAMP.match(line))
        if not is_begun or (not is_code and _STAMP.match(line)):
            continue
        lines.append(line)
        if not is_code and _HEADING.match(line):
            lines.append(stamps.pop(0))
    return "\n".join(lines)


def english_of(page: Path) -> Path:
    """Returns the path of the page that `page.ko.md` translates."""
    return page.with_name(page.name.replace(".ko.md", ".md"))


def translations() -> list[Path]:
    """Returns the translated pages."""
    return sorted([*ROOT.glob("*.ko.md"), *(ROOT / "docs").rglob("*.ko.md")])


def main(arguments: list[str] | None = None) -> int:
    """Lists outdated blocks, or stamps pages; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stamp", nargs="+", type=Path, metavar="PAGE.ko.md", default=[])
    status = 0
    for page in (pages := parser.parse_args(arguments).stamp) or translations():
        name = page.resolve().relative_to(ROOT) if page.resolve().is_relative_to(ROOT) else page
        if not page.name.endswith(".ko.md") or not english_of(page).is_file() or not page.is_file():
            problems = ["must be a file PAGE.ko.md beside its PAGE.md."]
        elif pages:
            english, translated = english_of(page).read_text("utf-8"), page.read_text("utf-8")
            problems = []
            try:
                page.write_text(stamped(english, translated), "utf-8")
            except ValueError as error:
                problems = [str(error)]
        else:
            problems = changes(english_of(page).read_text("utf-8"), page.read_text("utf-8"))
        for problem in problems:
            print(f"{name}: {problem}")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
