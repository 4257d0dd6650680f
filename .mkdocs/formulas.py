r"""MkDocs hook: typesets the LaTeX between dollars as MathML, for which a page needs no script.

`pymdownx.arithmatex` finds `$…$` in running text and `$$…$$` in a paragraph of its own. The words
behind a `%` at the end of the latter are its alternative text; LaTeX, and GitHub, ignore them:

    $$
    x = a\,o + b
    % x equals a times o plus b
    $$
"""

import html
import re
from xml.etree import ElementTree

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError

# With the comma or the Korean particle that follows: no line begins with it.
_INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>([^\s<]*)', re.DOTALL)
_DISPLAYED = re.compile(r'<div class="arithmatex">\\\[(.*?)\\\]</div>', re.DOTALL)
_COMMENT = re.compile(r"(?<!\\)%(.*)")
# Elements with a fixed number of children: one less is an argument that the formula lacks.
_ARGUMENTS = {
    **dict.fromkeys(("mfrac", "msub", "msup", "munder", "mover", "mroot"), 2),
    **dict.fromkeys(("msubsup", "munderover"), 3),
}


def on_page_content(content, page, **_):
    """Called by MkDocs for the HTML of every page."""

    def inline(match):
        math = typeset(html.unescape(match[1]), "inline")
        return f'<span class="fcn-unbroken">{math}{match[2]}</span>' if match[2] else math

    def displayed(match):
        return f'<div class="fcn-formula">{typeset(html.unescape(match[1]), "block")}</div>'

    try:
        return _DISPLAYED.sub(displayed, _INLINE.sub(inline, content))
    except ValueError as error:
        raise PluginError(f"{page.file.src_uri}: {error}") from error


def typeset(latex: str, display: str) -> str:
    """Returns the MathML of a formula, with its words or else its LaTeX as alternative text."""
    words = " ".join(comment.strip() for comment in _COMMENT.findall(latex))
    latex = " ".join(_COMMENT.sub("", latex).split())
    if display == "block" and not words:
        raise ValueError(
            f"A formula of its own must have its words behind a % at its end. Received: {latex}"
        )
    try:
        math = ElementTree.fromstring(convert(latex, display=display))
    except Exception as error:  # Those of the converter have no class in common.
        reason = str(error) or type(error).__name__
        raise ValueError(f"A formula must be LaTeX. Received: {latex} ({reason})") from error
    if fault := _fault(math, latex):
        raise ValueError(f"A formula must be LaTeX. Received: {latex} ({fault})")
    math.set("alttext", words or latex)
    ElementTree.register_namespace("", "http://www.w3.org/1998/Math/MathML")
    return ElementTree.tostring(math, encoding="unicode")


def _fault(math, latex):
    """What the converter accepts although it is no LaTeX, in words."""
    braces = re.findall(r"(?<!\\)[{}]", latex)
    if braces.count("{") != braces.count("}"):
        return "braces do not match"
    for element in math.iter():
        name = element.tag.rpartition("}")[2]
        if name != "mtext" and "\\" in (element.text or ""):
            return f"unknown command {element.text}"
        if len(element) != _ARGUMENTS.get(name, len(element)):
            return f"{name} lacks an argument"
    return None
