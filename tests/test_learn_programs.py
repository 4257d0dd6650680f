import re
import runpy
from pathlib import Path

import pytest
from PIL import Image

pytestmark = pytest.mark.any_backend

LEARN = Path(__file__).resolve().parents[1] / "docs" / "learn"
PROGRAMS = sorted((LEARN / "programs").glob("*.py"))
# The pictures of the pages come from the defaults, which take minutes.
ARGUMENTS = {"build": ["2"]}


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
class TestProgramsOfTheLearnPages:
    @pytest.mark.gate
    def test_it_prints_what_its_page_shows_and_draws_its_picture(
        self, program, tmp_path, monkeypatch, capsys
    ):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", [str(program), *ARGUMENTS.get(program.stem, [])])
        runpy.run_path(str(program), run_name="__main__")

        assert capsys.readouterr().out == program.with_suffix(".txt").read_text(encoding="utf-8")
        assert [path.name for path in tmp_path.iterdir()] == [f"{program.stem}.png"]
        with Image.open(f"{program.stem}.png") as picture:
            assert picture.width >= 600

    def test_every_language_shows_program_output_and_picture(self, program):
        pages = [LEARN / f"{program.stem}{suffix}" for suffix in (".md", ".ko.md")]
        for page in pages:
            text = page.read_text(encoding="utf-8")
            for part in (
                f'--8<-- "docs/learn/programs/{program.stem}.py"',
                f'--8<-- "docs/learn/programs/{program.stem}.txt"',
                f"](pictures/{program.stem}.png)",
            ):
                assert part in text, (page, part)

    def test_it_is_short_and_its_picture_is_small(self, program):
        assert len(program.read_text(encoding="utf-8").splitlines()) < 60
        assert (LEARN / "pictures" / f"{program.stem}.png").stat().st_size < 150_000


ANSWERS = sorted((LEARN / "programs" / "exercises").glob("*.py"))


@pytest.mark.parametrize("program", ANSWERS, ids=lambda path: path.stem)
class TestAnswersToTheExercises:
    def test_it_prints_what_its_page_shows(self, program, capsys):
        runpy.run_path(str(program), run_name="__main__")
        assert capsys.readouterr().out == program.with_suffix(".txt").read_text(encoding="utf-8")

    def test_every_language_has_three_exercises_and_folds_their_answers_away(self, program):
        for page in (LEARN / f"{program.stem}{suffix}" for suffix in (".md", ".ko.md")):
            exercises = page.read_text(encoding="utf-8").partition("{#exercises}")[2]
            assert exercises.count("??? success") == exercises.count("\n**") == 3, page
            for suffix in (".py", ".txt"):
                assert f'"docs/learn/programs/exercises/{program.stem}{suffix}"' in exercises, page


def test_every_page_with_a_program_has_exercises():
    assert [path.name for path in ANSWERS] == [path.name for path in PROGRAMS]


@pytest.mark.parametrize("page", ["why-not.md", "why-not.ko.md"])
def test_resizing_equals_the_transposed_convolution_as_the_page_says(page, capsys):
    text = (LEARN / page).read_text(encoding="utf-8")
    code, printed = re.search(
        r"^```python\n(.*?)^```\n\n```text\n(.*?)^```$", text, re.DOTALL | re.MULTILINE
    ).groups()
    exec(compile(code, page, "exec"), {})
    assert capsys.readouterr().out == printed


@pytest.mark.parametrize("page", ["build.md", "build.ko.md"])
def test_the_table_of_the_package_quotes_the_program(page):
    text = (LEARN / page).read_text(encoding="utf-8").partition("{#beyond}")[2]
    program = (LEARN / "programs" / "build.py").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.*?) \|", text.partition("\n## ")[0], re.MULTILINE)[1:]
    quoted = [code for row in rows for code in re.findall("`(.*?)`", row)]
    assert len(quoted) > 8
    assert not [code for code in quoted if code not in program]
