"""Every translated page reflects its English page as it is now."""

import hashlib
from pathlib import Path

import programs
import pytest

pytestmark = pytest.mark.any_backend

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
# Pages and folders of which every page is translated.
COMPLETE = ["index.md", "start", "learn", "notebooks", "guides", "results"]


translations = programs.load(".mkdocs/translations.py")
TRANSLATED = translations.translations()

ENGLISH = """\
# Cats {#cats}

A cat has four legs.

```bash
# feed

feed --cat   # a cat
```

## What cats eat

| food | grams |
|---|---|
| fish | 50 |

They also eat mice.

## Sleep {#sleep}

Much.
"""
KOREAN = """\
# 고양이 {#cats}

고양이는 다리가 네 개입니다.

```bash
# 먹이기

feed --cat   # 고양이
```

## 먹이 {#what-cats-eat}

| 먹이 | 그램 |
|---|---|
| 생선 | 50 |

쥐도 먹습니다.

## 잠 {#sleep}

많이 잡니다.
"""
STAMPED = translations.stamped(ENGLISH, KOREAN)


class TestThePagesOfThisProject:
    @pytest.mark.parametrize("name", COMPLETE)
    def test_every_page_of_a_complete_folder_is_translated(self, name):
        pages = [DOCS / name] if name.endswith(".md") else (DOCS / name).glob("*.md")
        english = [page for page in pages if not page.name.endswith(".ko.md")]
        assert english
        assert not [page for page in english if page.with_suffix(".ko.md") not in TRANSLATED]

    @pytest.mark.parametrize("page", TRANSLATED, ids=lambda page: str(page.relative_to(ROOT)))
    def test_it_reflects_the_english_page(self, page):
        """Update the translation, then run `python .mkdocs/translations.py --stamp PAGE.ko.md`."""
        english = page.with_name(page.name.replace(".ko.md", ".md"))
        assert not translations.changes(english.read_text("utf-8"), page.read_text("utf-8"))


class TestWhatIsReported:
    @pytest.mark.parametrize(
        ("old", "new", "reported"),
        [
            ("four legs", "five legs", ['"Cats": changed: A cat has five legs.']),
            (
                "| 50 |",
                "| 60 |",
                ['"What cats eat": changed: | food | grams | |---|---| | fish | 60 |'],
            ),
            ("Much.", "Much.\n\nBy day.", ['"Sleep": added: By day.']),
            (
                "\nThey also eat mice.\n",
                "",
                ['"What cats eat": 1 removed after: | food | grams | |---|---| | fish | 50 |'],
            ),
            (
                "## What cats eat",
                "## What cats eat?",
                ['"What cats eat?": changed: ## What cats eat?'],
            ),
            (
                "\n## Sleep {#sleep}\n\nMuch.\n",
                "",
                ["must have 2 headings, as in English. Received: 3."],
            ),
            ("## Sleep", "### Sleep", ['"잠" must have level 3, as "Sleep" in English.']),
            ("{#sleep}", "{#nap}", ['"잠" must have the id {#nap}, as "Sleep" in English.']),
            (
                "## What cats eat",
                "## Food",
                ['"먹이" must have the id {#food}, as "Food" in English.'],
            ),
            ("A cat has", "A cat\nhas", []),
        ],
    )
    def test_a_change_of_the_english_page(self, old, new, reported):
        assert old in ENGLISH
        assert translations.changes(ENGLISH, STAMPED) == []
        assert translations.changes(ENGLISH.replace(old, new), STAMPED) == reported

    def test_other_code(self):
        changed = STAMPED.replace("feed --cat", "feed --dog")
        (reported,) = translations.changes(ENGLISH, changed)
        assert reported.startswith("other code than in English: ```bash # 먹이기 feed --dog")

    def test_a_section_that_was_never_stamped(self):
        titles = "Cats", "What cats eat", "Sleep"
        assert translations.changes(ENGLISH, KOREAN) == [f'"{t}": not stamped' for t in titles]


class TestStamps:
    def test_they_are_the_hashes_of_the_blocks(self):
        blocks = "## Sleep {#sleep}", "Much."
        hashes = [hashlib.sha256(block.encode()).hexdigest()[:6] for block in blocks]
        assert f"## 잠 {{#sleep}}\n<!-- en: {' '.join(hashes)} -->\n\n많이" in STAMPED

    def test_they_are_all_that_is_added(self):
        lines = STAMPED.splitlines()
        assert [line for line in lines if not line.startswith("<!-- en:")] == KOREAN.splitlines()
        assert len(lines) == len(KOREAN.splitlines()) + 3

    def test_they_replace_old_ones(self):
        english = "Of cats.\n\n" + ENGLISH.replace("four", "five")
        korean = translations.stamped(english, "고양이 이야기.\n\n" + STAMPED)
        assert korean.startswith("<!-- en: ")
        assert korean.count("<!-- en:") == 4
        assert translations.changes(english, korean) == []
        assert translations.stamped(english, korean) == korean

    def test_a_table_that_translations_include_may_change(self):
        table = "<!-- --8<-- [start:food] -->\n\n| whale |\n\n<!-- --8<-- [end:food] -->\n"
        korean = translations.stamped(ENGLISH + table, KOREAN)
        assert translations.changes((ENGLISH + table).replace("whale", "mouse"), korean) == []
        assert translations.changes(ENGLISH, korean) != []

    def test_pages_that_do_not_correspond_are_refused(self):
        with pytest.raises(ValueError, match=r"must have 4 headings.* Received: 3\."):
            translations.stamped(ENGLISH + "\n## Play\n", KOREAN)


class TestTheCommand:
    @pytest.fixture
    def page(self, tmp_path, monkeypatch):
        monkeypatch.setattr(translations, "ROOT", tmp_path)
        page = tmp_path / "docs" / "cats.ko.md"
        page.parent.mkdir()
        page.write_text(KOREAN, "utf-8")
        (page.parent / "cats.md").write_text(ENGLISH, "utf-8")
        return page

    def test_it_lists_until_the_page_is_stamped(self, page, capsys):
        assert translations.main([]) == 1
        assert capsys.readouterr().out.splitlines()[0] == 'docs/cats.ko.md: "Cats": not stamped'
        assert translations.main(["--stamp", str(page)]) == 0
        assert translations.main([]) == 0
        assert capsys.readouterr().out == ""

    def test_it_refuses_a_page_that_does_not_correspond(self, page, capsys):
        page.write_text(KOREAN + "\n## 놀이\n", "utf-8")
        assert translations.main(["--stamp", str(page)]) == 1
        assert capsys.readouterr().out == (
            "docs/cats.ko.md: must have 3 headings, as in English. Received: 4.\n"
        )
        assert page.read_text("utf-8") == KOREAN + "\n## 놀이\n"

    def test_it_refuses_a_page_without_a_partner(self, page, capsys):
        page.with_name("cats.md").unlink()
        assert translations.main([]) == 1
        assert "docs/cats.ko.md: must be a file PAGE.ko.md beside" in capsys.readouterr().out
