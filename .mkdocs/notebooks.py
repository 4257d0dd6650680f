"""MkDocs hook: makes a Jupyter notebook of each page in docs/notebooks, and links it from the page.

    python .mkdocs/notebooks.py docs/notebooks/PAGE.md …   # runs pages, and renews what they show

A page is Jupytext's Markdown: each block of Python is a cell, and what stands between is text. A
block of `text` behind a cell is what the cell prints, and pictures behind it are what it draws.
The notebook shows them as the cell's output. The first cell installs the package where it is
missing, and the second one holds the settings.
"""

import argparse
import ast
import base64
import io
import os
import re
import sys
import tempfile
from pathlib import Path
from urllib.parse import urljoin

import jupytext
import nbformat
from nbformat.v4 import new_output

FOLDER = "notebooks/"
WORDS = {
    "en": ("Open in Colab", "Download the notebook"),
    "ko": ("Colab에서 열기", "노트북 내려받기"),
}
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
_PRINTED = re.compile(r"```text\n(.*?)^```\n*", re.DOTALL | re.MULTILINE)
_DRAWN = re.compile(r"!\[([^\]]*)\]\(([^)]+)\)\n*")
_LINK = re.compile(r"(?<=\]\()(?!\w+:)([^)#]*)")
# Anchors, and the stamps of translations.
_ONLY_FOR_PAGES = re.compile(r"[ ]?\{[ ]?#[\w-]+[ ]?\}|<!-- en:.*?-->\n?")


def on_page_markdown(markdown, page, config, **_):
    """Called by MkDocs for every page."""
    if page.file.src_uri.startswith(FOLDER):
        page.meta["notebook"] = as_notebook(
            markdown,
            Path(page.file.abs_src_path).parent,
            page.canonical_url,
            config.extra["notebooks"]["package"],
        )


def on_page_content(content, page, config, **_):
    """Called by MkDocs for the HTML of every page."""
    if "notebook" not in page.meta:
        return content
    language = "ko" if page.file.dest_uri.startswith("ko/") else "en"
    open_it, download = WORDS[language]
    links = f'<a class="md-button" download href="../{_file(page).name}">{download}</a>'
    if colab := config.extra["notebooks"]["colab"]:
        address = urljoin(f"{colab.rstrip('/')}/", _file(page).as_posix())
        links = f'<a class="md-button md-button--primary" href="{address}">{open_it}</a> {links}'
    return content.replace("</h1>", f'</h1>\n<p class="fcn-notebook">{links}</p>', 1)


def on_post_page(output, page, config):
    """Called by MkDocs when a page is complete."""
    if "notebook" in page.meta:
        path = Path(config.site_dir, _file(page))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(nbformat.writes(page.meta["notebook"]), encoding="utf-8")
    return output


def _file(page):
    """notebooks/page/index.html -> notebooks/page.ipynb"""
    return Path(page.file.dest_uri).parent.with_suffix(".ipynb")


def as_notebook(markdown: str, folder: Path, address: str, package: str = "keras-fcn"):
    """Returns the notebook of a page.

    Args:
        markdown: The page.
        folder: Where its pictures are.
        address: The page's own address, to which its links are relative.
        package: What pip installs.
    """
    notebook = jupytext.reads(markdown, fmt="md")
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL})
    last, cells = None, []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source = cell.source.replace(
                "install --quiet keras-fcn", f'install --quiet "{package}"'
            )
            last = cell
        else:
            text = cell.source + "\n"
            if last is not None and (printed := _PRINTED.match(text)):
                last.outputs.append(new_output("stream", name="stdout", text=printed[1]))
                text = text[printed.end() :]
            while last is not None and (drawn := _DRAWN.match(text)):
                last.outputs.append(_picture(folder / drawn[2], " ".join(drawn[1].split())))
                text = text[drawn.end() :]
            cell.source = _LINK.sub(
                lambda link: _absolute(link[1], address), _ONLY_FOR_PAGES.sub("", text)
            ).strip()
            last = None
        if cell.source:
            # Random by default: each build of the site would differ.
            cell.id = f"cell-{len(cells)}"
            cells.append(cell)
    notebook.cells = cells
    nbformat.validate(notebook)
    return notebook


def _picture(path, words):
    kind = {".png": "image/png", ".jpg": "image/jpeg"}[path.suffix]
    data = {kind: base64.b64encode(path.read_bytes()).decode(), "text/plain": words}
    return new_output("display_data", data=data)


def _absolute(link, address):
    """../learn/page.md -> https://host/learn/page/"""
    link = urljoin(urljoin(address, ".."), link) if link else address
    return re.sub(r"(index)?\.md$", lambda end: "" if end[1] else "/", link)


def execute(notebook, folder: str | os.PathLike, settings: dict | None = None, timeout: int = 3600):
    """Runs a notebook in a Jupyter kernel and returns it with the outputs of this run.

    Args:
        notebook: What `as_notebook` returns.
        folder: Where the cells run.
        settings: Values for names that the second cell assigns, in place of the page's.
        timeout: Seconds for a cell.

    Raises:
        ValueError: If the second cell does not assign one of the names.
        nbclient.exceptions.CellExecutionError: If a cell raises an exception.
    """
    import nbclient

    notebook = nbformat.from_dict(notebook)
    settings = settings or {}
    if unknown := settings.keys() - names_of_settings(notebook):
        raise ValueError(f"The second cell must assign {', '.join(sorted(unknown))}.")
    cell = [cell for cell in notebook.cells if cell.cell_type == "code"][1]
    cell.source += "".join(f"\n{name} = {value!r}" for name, value in settings.items())
    client = nbclient.NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name=KERNEL["name"],
        resources={"metadata": {"path": os.fspath(folder)}},
    )
    return client.execute()


def names_of_settings(notebook) -> set[str]:
    """Returns the names that the second cell assigns, which assigns constants alone."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    names = set()
    for statement in ast.parse(cells[1].source).body:
        if isinstance(statement, ast.Assign):
            ast.literal_eval(statement.value)
            names |= {target.id for target in statement.targets}
    return names


def printed(cell) -> str:
    """Returns what a cell printed to standard output."""
    return "".join(o.text for o in cell.outputs if o.get("name") == "stdout")


def drawn(cell) -> list[dict]:
    """Returns the pictures that a cell drew: media type to base64."""
    data = [output.get("data", {}) for output in cell.outputs]
    return [each for each in data if any(kind.startswith("image/") for kind in each)]


def main(arguments: list[str] | None = None) -> None:
    """Runs pages with their own settings, and writes what was printed and drawn into them."""
    parser = argparse.ArgumentParser(description="Runs pages and renews what they show.")
    parser.add_argument("pages", nargs="+", type=Path, metavar="PAGE.md")
    for page in parser.parse_args(arguments).pages:
        notebook = as_notebook(page.read_text("utf-8"), page.parent, "http://127.0.0.1:8000/")
        with tempfile.TemporaryDirectory() as folder:
            executed = execute(notebook, folder)
        cells = [cell for cell in executed.cells if cell.cell_type == "code"]
        for path in {page, page.with_suffix(".ko.md")}:
            if path.is_file():
                path.write_text(renewed(path.read_text("utf-8"), map(printed, cells)), "utf-8")
        names = [name for _, name in _DRAWN.findall(page.read_text("utf-8"))]
        pictures = [picture for cell in cells for picture in drawn(cell)]
        for name, picture in zip(names, pictures, strict=True):
            _save(page.parent / name, base64.b64decode(picture["image/png"]))


def renewed(markdown: str, outputs) -> str:
    """Returns the page with other text in the blocks of `text`, in their order."""
    outputs = [output for output in outputs if output]
    blocks = list(_PRINTED.finditer(markdown))
    if len(blocks) != len(outputs):
        raise ValueError(
            f"The page must have a block of text for each of the {len(outputs)} cells that print. "
            f"Received: {len(blocks)} blocks."
        )
    for block, output in zip(reversed(blocks), reversed(outputs), strict=True):
        start, end = block.span(1)
        markdown = markdown[:start] + output + markdown[end:]
    return markdown


def _save(path, png):
    from PIL import Image

    with Image.open(io.BytesIO(png)) as picture:
        picture.convert("RGB").save(path, optimize=True, quality=85)


if __name__ == "__main__":
    sys.exit(main())
