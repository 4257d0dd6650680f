"""MkDocs hook: what search engines, previews of links and language models read of a page.

A page's description is the beginning of its text, so that it cannot be out of date. `llms.txt`
lists the pages of a language with their descriptions (https://llmstxt.org).
"""

import html
import re
from pathlib import Path

LONGEST = 200
_TEXT = re.compile(r"<(p|li)\b[^>]*>(.*?)(?=</?(?:p|li|ul|ol|pre|table)\b)", re.DOTALL)
_MATH = re.compile(r'<math\b[^>]*alttext="([^"]*)".*?</math>', re.DOTALL)
_TAG = re.compile(r"<[^>]*>")


def on_nav(nav, config, **_):
    """Called by MkDocs once per language."""
    config.extra["fcn_nav"] = nav


def on_page_content(content, page, config, **_):
    """Called by MkDocs for the HTML of every page."""
    # The theme writes it into an attribute as it is.
    page.meta["description"] = html.escape(description(content) or config.site_description)


def on_post_build(config, **_):
    """Called by MkDocs once per language."""
    nav = config.extra["fcn_nav"]
    # index.html or ko/index.html
    folder = Path(config.site_dir, nav.pages[0].file.dest_uri).parent
    (folder / "llms.txt").write_text(llms_txt(nav, config), encoding="utf-8")


def description(content: str) -> str:
    """Returns the first sentences of a page's HTML, at most `LONGEST` characters in all."""
    for _, text in _TEXT.findall(content):
        text = html.unescape(_TAG.sub("", _MATH.sub(r"\1", text)))
        if text := " ".join(text.split()):
            return shortened(text)
    return ""


def shortened(text: str) -> str:
    """Returns as many whole sentences as fit, or else as many words."""
    ends = [match.start() for match in re.finditer(r"(?<=[.!?])(?= |$)", text)]
    if ends and ends[0] <= LONGEST:  # Without a sentence that introduces what follows.
        return text[: max(end for end in ends if end <= LONGEST)]
    if len(text) <= LONGEST:
        return text.rstrip(":")
    return text[: LONGEST - 1].rpartition(" ")[0].rstrip(",;:") + "…"


def llms_txt(nav, config) -> str:
    """Returns the title, a sentence, and for each part of the navigation a list of its pages."""
    lines = [f"# {config.site_name}", "", f"> {config.site_description}", ""]
    loose = [item for item in nav.items if not item.children]
    parts = [(item.title, item.children) for item in nav.items if item.children]
    for title, pages in (*parts, *([("Optional", loose)] if loose else [])):
        lines += [f"## {title}", ""]
        for page in pages:
            text = html.unescape(page.meta["description"])
            lines.append(f"- [{page.title}]({page.canonical_url}): {text}")
        lines.append("")
    return "\n".join(lines)
