"""The formulas of the documentation, in a site of one page."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

# The extra `docs` has MkDocs and the converter.
pytestmark = [pytest.mark.any_backend, pytest.mark.gate]

HOOK = Path(__file__).parents[1] / ".mkdocs" / "formulas.py"
SETTINGS = """
site_name: Formulas
theme: {name: null, custom_dir: theme}
plugins: []
hooks: [%s]
markdown_extensions:
  - tables
  - pymdownx.superfences
  - pymdownx.arithmatex: {generic: true, inline_syntax: [dollar], block_syntax: [dollar]}
"""
MATHML = "{http://www.w3.org/1998/Math/MathML}"


def build(folder, page):
    (folder / "docs").mkdir()
    (folder / "docs" / "areas.md").write_text(page, encoding="utf-8")
    (folder / "theme").mkdir()
    template = "<html><body>{{ page.content }}</body></html>"
    (folder / "theme" / "main.html").write_text(template)
    (folder / "mkdocs.yml").write_text(SETTINGS % HOOK)
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def formulas(folder):
    page = (folder / "site" / "areas" / "index.html").read_text(encoding="utf-8")
    root = ElementTree.fromstring(page)
    return root, list(root.iter(f"{MATHML}math"))


def test_formulas_become_mathml_and_code_stays(tmp_path):
    page = r"""
A half is $\frac{1}{2}$, less than $1$. `$HOME$` is code.

| a | b |
|---|---|
| $a < b$ | 5 |

$$
A = \frac{h\,w}{2} % the area is
% half of h times w
$$

```bash
echo $HOME $PATH
```
"""
    done = build(tmp_path, page)
    assert done.returncode == 0, done.stderr

    root, (half, one, less, area) = formulas(tmp_path)
    fraction = half.find(f".//{MATHML}mfrac")
    assert ["".join(part.itertext()) for part in fraction] == ["1", "2"]
    assert [half.get("display"), half.get("alttext")] == ["inline", r"\frac{1}{2}"]
    assert "".join(one.itertext()) == "1"
    assert "".join(less.itertext()) == "a<b"
    assert [area.get("display"), area.get("alttext")] == ["block", "the area is half of h times w"]
    assert "half" not in "".join(area.itertext())
    code = ["".join(element.itertext()) for element in root.iter("code")]
    assert [code[0], code[1].strip()] == ["$HOME$", "echo $HOME $PATH"]
    # What follows a formula without a space stays with it.
    assert [half.tail, one.tail] == [",", "."]
    together = root.findall(".//*[@class='fcn-unbroken']")
    assert [[*element] for element in together] == [[half], [one]]


@pytest.mark.parametrize(
    ("formula", "reason"),
    [
        (r"$x = \alhpa$", r"unknown command \alhpa"),
        (r"$\frac{1$", "braces do not match"),
        (r"$\frac{1}$", "mfrac lacks an argument"),
        (r"$x_1_2$", "DoubleSubscriptsError"),
        (r"$a & b$", "not well-formed"),
        ("$$\nx = 1\n$$", "must have its words behind a %"),
    ],
)
def test_a_faulty_formula_stops_the_build_and_names_its_page(formula, reason, tmp_path):
    done = build(tmp_path, f"Here is\n\n{formula}\n")
    assert done.returncode != 0
    assert "areas.md: A formula" in done.stderr
    assert reason in done.stderr
