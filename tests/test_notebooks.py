"""The notebooks of the documentation: what a page becomes, and that its cells run."""

import os
import re
from pathlib import Path

import nbclient
import nbformat
import programs
import pytest
from PIL import Image

pytestmark = pytest.mark.any_backend

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "notebooks"
PAGES = sorted(page for page in FOLDER.glob("*.md") if not page.name.endswith(".ko.md"))
KOREAN = [page.with_suffix(".ko.md") for page in PAGES]
# Settings of the gate: the fewest images and epochs with which every cell runs.
SMALL = {
    "ten-minutes": {"IMAGE_SIZE": 32, "NUM_IMAGES": 4, "EPOCHS": 1},
    "own-photos": {"IMAGE_SIZE": 32, "NUM_TRAIN": 4, "EPOCHS": 1},
    "inside": {},
}
IS_FULL = bool(os.environ.get("FULL_NOTEBOOKS"))
NUMBER = re.compile(r"\d+(?:\.\d+)?")


notebooks = programs.load(".mkdocs/notebooks.py")


def notebook_of(page, **arguments):
    text = page.read_text(encoding="utf-8")
    return notebooks.as_notebook(text, FOLDER, "https://host/notebooks/page/", **arguments)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


PAGE = """\
# Cats {#cats}
<!-- en: 1a2b3c -->

See [dogs](../learn/dogs.md#legs), [mice](mice.md), [all](../index.md), [below](#legs) and
[elsewhere](https://elsewhere.org/page.md).

```python
%pip install --quiet keras-fcn
```

```python
LEGS = 4
```

```python
print(LEGS)
```

```text
4
```

![A cat with
four legs](cat.png)

Four.

```text
no output
```
"""


class TestANotebook:
    @pytest.fixture
    def notebook(self, tmp_path):
        Image.new("RGB", (2, 2)).save(tmp_path / "cat.png")
        return notebooks.as_notebook(
            PAGE, tmp_path, "https://host/dev/notebooks/cats/", "keras-fcn @ git+https://x.org/y"
        )

    def test_every_block_of_python_is_a_cell(self, notebook):
        kinds = [cell.cell_type for cell in notebook.cells]
        assert kinds == ["markdown", "code", "code", "code", "markdown"]
        assert notebook.cells[2].source == "LEGS = 4"
        nbformat.validate(notebook)

    def test_the_first_cell_installs_what_the_site_names(self, notebook):
        install = '%pip install --quiet "keras-fcn @ git+https://x.org/y"'
        assert notebook.cells[1].source == install

    def test_what_stands_behind_a_cell_is_its_output(self, notebook):
        text, picture = notebook.cells[3].outputs
        assert text == {"output_type": "stream", "name": "stdout", "text": "4\n"}
        assert picture.data["text/plain"] == "A cat with four legs"
        assert picture.data["image/png"].startswith("iVBORw0KGgo")  # The signature of a PNG.

    def test_other_text_stays(self, notebook):
        assert notebook.cells[-1].source == "Four.\n\n```text\nno output\n```"

    def test_links_lead_to_the_site_and_anchors_go(self, notebook):
        assert notebook.cells[0].source == (
            "# Cats\n\n"
            "See [dogs](https://host/dev/learn/dogs/#legs), "
            "[mice](https://host/dev/notebooks/mice/), [all](https://host/dev/), "
            "[below](https://host/dev/notebooks/cats/#legs) and\n"
            "[elsewhere](https://elsewhere.org/page.md)."
        )

    def test_a_cell_that_raises_is_an_error(self, notebook, tmp_path, monkeypatch):
        monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
        notebook.cells[1].source = ""
        notebook.cells[3].source = "print(LEGS)\nLEGS / 0"
        with pytest.raises(nbclient.exceptions.CellExecutionError, match="ZeroDivisionError"):
            notebooks.execute(notebook, tmp_path)

    def test_settings_replace_those_of_the_page(self, notebook, tmp_path, monkeypatch):
        monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
        notebook.cells[1].source = ""
        executed = notebooks.execute(notebook, tmp_path, {"LEGS": 2})
        assert [notebooks.printed(cell) for cell in code_cells(executed)] == ["", "", "2\n"]
        with pytest.raises(ValueError, match="The second cell must assign ARMS"):
            notebooks.execute(notebook, tmp_path, {"ARMS": 2})

    def test_a_renewed_page_shows_other_output(self):
        renewed = notebooks.renewed(PAGE.replace("```text\nno output\n```\n", ""), ["", "5\n"])
        assert "```text\n5\n```\n\n![A cat" in renewed
        with pytest.raises(ValueError, match=r"each of the 1 cells that print\. Received: 2 "):
            notebooks.renewed(PAGE, ["", "5\n"])


@pytest.mark.parametrize("page", [*PAGES, *KOREAN], ids=lambda page: page.name)
class TestEveryPage:
    def test_its_first_cell_installs_the_package_and_leaves_a_chosen_backend(self, page):
        first = code_cells(notebook_of(page, package="something else"))[0].source
        assert '\n    %pip install --quiet "something else"\n' in first
        assert 'os.environ.setdefault("KERAS_BACKEND"' in first

    def test_its_second_cell_assigns_the_settings(self, page):
        names = notebooks.names_of_settings(notebook_of(page))
        assert names
        assert names >= SMALL[page.name.split(".")[0]].keys()

    def test_all_output_stands_behind_a_cell(self, page):
        for cell in notebook_of(page).cells:
            if cell.cell_type == "markdown":
                assert "```" not in cell.source
                assert "![" not in cell.source

    def test_no_number_of_the_text_is_missing_in_the_output(self, page):
        notebook = notebook_of(page)
        shown = " ".join(notebooks.printed(cell) for cell in code_cells(notebook))
        text = " ".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
        decimals = re.findall(r"\d+\.\d+", text)
        assert not [number for number in decimals if number not in shown]

    def test_its_pictures_are_small(self, page):
        pictures = re.findall(r"\]\((pictures/[^)]+)\)", page.read_text(encoding="utf-8"))
        assert len(pictures) >= 3
        assert all((FOLDER / picture).stat().st_size < 100_000 for picture in pictures)


def test_every_picture_is_on_a_page():
    texts = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    names = [path.name for path in (FOLDER / "pictures").iterdir()]
    assert not [name for name in names if f"](pictures/{name})" not in texts]


def depends(notebook, names):
    """Whether each cell depends on settings: it names one, or stands behind one that does."""
    uses = [bool(names & set(re.findall(r"\w+", cell.source))) for cell in code_cells(notebook)]
    uses[1] = False  # Here they are assigned.
    return [any(uses[: index + 1]) for index in range(len(uses))]


@pytest.mark.gate
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_it_runs_and_prints_what_its_page_shows(page, tmp_path, monkeypatch):
    """With small settings, numbers of cells that depend on them are not compared.

    `FULL_NOTEBOOKS=1` runs the page's own settings, for minutes.
    """
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    (folder := tmp_path / "folder").mkdir()
    small = SMALL[page.stem]
    notebook = notebook_of(page)
    executed = notebooks.execute(
        notebook, folder, {} if IS_FULL else small, timeout=3000 if IS_FULL else 120
    )
    cells = code_cells(notebook), code_cells(executed), depends(notebook, small.keys())
    for old, new, is_trained in zip(*cells, strict=True):
        assert new.execution_count is not None
        assert len(notebooks.drawn(new)) == len(notebooks.drawn(old)), new.source
        expected, printed = notebooks.printed(old), notebooks.printed(new)
        if is_trained and not IS_FULL:  # Fewer epochs are fewer lines.
            assert bool(printed) == bool(expected), new.source
            assert set(words(printed)) <= set(words(expected)), new.source
            continue
        assert words(printed) == words(expected), new.source
        tolerance = 0.15 if is_trained else 0.02
        assert numbers(printed) == pytest.approx(numbers(expected), abs=tolerance), new.source


def words(text):
    return [" ".join(NUMBER.sub("#", line).split()) for line in text.splitlines()]


def numbers(text):
    return [float(number) for number in NUMBER.findall(text)]
