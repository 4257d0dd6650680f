"""Parts of a self-contained HTML page, readable offline.

Pictures are embedded as `data:` URIs, and nothing in the page refers to another file.
"""

import base64
import io
import math
import string
from collections.abc import Callable, Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from keras_fcn.label_spaces import LabelSpace

_PLOT_PIXELS_PER_CSS_PIXEL = 1.3


def write_page(path: Path, title: str, sections: Mapping[str, str]) -> None:
    """Writes a page.

    Args:
        path: The file, which is not written atomically.
        title: Heading of the page.
        sections: HTML by heading; an empty one is left out.
    """
    body = "".join(
        f"<section>\n<h2>{heading}</h2>\n{content}\n</section>\n"
        for heading, content in sections.items()
        if content
    )
    page = _PAGE.substitute(title=escape(title), body=body)
    # File names may not be valid text in the encoding of the system.
    path.write_text(page, encoding="utf-8", errors="backslashreplace")


def table(headings: Iterable[str], rows: Iterable[Iterable[str]], name: str = "") -> str:
    """Returns a table in a scrollable box. All texts must be HTML."""
    head = "".join(f'<th scope="col">{heading}</th>' for heading in headings)
    body = "".join(
        f'<tr><th scope="row">{title}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>\n'
        for title, *cells in rows
    )
    return (
        f'<div class="scroll" tabindex="0"><table class="{name}">\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n"
    )


def setting_cell(value: Any) -> str:
    """Returns a value as in TOML, but strings without quotation marks and `None` as a dash."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(setting_cell, value))}]"
    return escape(str(value))


def score_cell(value: float) -> str:
    """Returns a score in [0, 1] with four digits, or a dash for NaN."""
    return "–" if math.isnan(value) else f"{value:.4f}"


def class_cell(label_space: LabelSpace, class_id: int) -> str:
    """Returns the name of a class behind its colour."""
    red, green, blue = label_space.palette[class_id]
    swatch = f'<span class="swatch" style="background:rgb({red},{green},{blue})"></span>'
    return swatch + escape(label_space.class_names[class_id])


def plot(alt: str, draw: Callable[[io.BytesIO], None]) -> str:
    """Returns a plot in a scrollable box."""
    file = io.BytesIO()
    draw(file)
    image = embedded(file.getvalue(), escape(alt), _PLOT_PIXELS_PER_CSS_PIXEL)
    return f'<div class="scroll plot" tabindex="0">{image}</div>\n'


def embedded(encoded: bytes, alt: str, pixels_per_css_pixel: float = 1.0) -> str:
    """Returns an encoded picture as an element; `alt` must be HTML."""
    with Image.open(io.BytesIO(encoded)) as image:
        width, height = (round(side / pixels_per_css_pixel) for side in image.size)
        kind = Image.MIME[str(image.format)]
    data = base64.b64encode(encoded).decode("ascii")
    return f'<img src="data:{kind};base64,{data}" alt="{alt}" width="{width}" height="{height}">'


_PAGE = string.Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>
:root { --paper: #fff; --ink: #1c2024; --faint: #60646c; --line: #d9dce1; --band: #f5f6f8; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #16181b; --ink: #e6e8eb; --faint: #a0a5ad; --line: #363a40; --band: #1f2226; }
}
* { box-sizing: border-box; }
body { max-width: 1080px; margin: 0 auto; padding: 24px 16px 64px; overflow-wrap: anywhere;
  background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; }
h2 { margin: 40px 0 12px; border-top: 1px solid var(--line); padding-top: 12px;
  font-size: 1.25rem; }
h3 { margin: 24px 0 8px; font-size: 1.05rem; }
p { margin: 8px 0; }
.scroll { max-width: 100%; overflow: auto; }
.plot { width: fit-content; max-height: 1200px; background: #fff; border-radius: 6px; }
.plot img { display: block; }
table { border-collapse: collapse; font-size: .92rem; }
th, td { padding: 4px 16px 4px 8px; border-bottom: 1px solid var(--line); text-align: left; }
thead th { color: var(--faint); }
tbody th { font-weight: normal; white-space: nowrap; }
tbody tr:nth-child(even) { background: var(--band); }
.numbers td, .numbers th:not(:first-child) { text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
.headline td { font-size: 1.2rem; font-weight: 600; }
.swatch { display: inline-block; width: .9em; height: .9em; margin-right: .5em;
  border: 1px solid var(--faint); vertical-align: -.08em; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 20px; padding: 0; list-style: none; }
figure { margin: 0 0 24px; }
figcaption { margin-bottom: 4px; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(240px, 1fr)); gap: 8px; }
.panels img { display: block; width: 100%; height: auto; }
.panels span { color: var(--faint); font-size: .85rem; }
</style>
</head>
<body>
<main>
<h1>$title</h1>
$body</main>
</body>
</html>
""")
