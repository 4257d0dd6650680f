"""MkDocs hook: links to the place in the source code where a name is defined.

    [`crop_offset`](source:keras_fcn.alignment.maps.crop_offset)

links to a page of the site with that file, at the line that the name has when the site is built. A
name that no longer exists ends the build. The name of a module alone links to its first line. Only
files that some page links to have a page; it is outside the navigation and the search.
"""

import ast
import posixpath
import re
from pathlib import Path

from mkdocs.exceptions import PluginError
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, InclusionLevel

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"\]\(source:([\w.]+)\)")


@event_priority(-200)  # After i18n, which takes only files of the docs folder.
def on_files(files, config, **_):
    """Called by MkDocs once per language: adds a page for each file that is linked."""
    linked = {
        _place(name, file.src_uri)[0]
        for file in files.documentation_pages()
        for name in LINK.findall(file.content_string)
    }
    in_folder = "ko/" if files.get_file_from_path("index.md").dest_uri.startswith("ko/") else ""
    for module in sorted(linked):
        page = File.generated(config, _page(module), content=listing(module))
        page.inclusion = InclusionLevel.NOT_IN_NAV
        page.dest_uri, page.url = f"{in_folder}{page.dest_uri}", f"{in_folder}{page.url}"
        files.append(page)
    return files


def on_page_markdown(markdown, page, **_):
    """Called by MkDocs for every page."""

    def link(match):
        module, line = _place(match[1], page.file.src_uri)
        path = posixpath.relpath(_page(module), posixpath.dirname(page.file.src_uri) or ".")
        return f"]({path}#line-{line})"

    return LINK.sub(link, markdown)


def _place(name, page):
    try:
        return place(name)
    except ValueError as error:
        raise PluginError(f"{page}: {error}") from error


def place(name: str) -> tuple[str, int]:
    """Returns the path of the file that defines a dotted name, and the line, counted from 1.

    Raises:
        ValueError: If there is no such module, or it defines no such class, function, method or
            constant.
    """
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        stem = ROOT.joinpath(*parts[:length])
        for path in (stem.with_suffix(".py"), stem / "__init__.py"):
            if path.is_file():
                return path.relative_to(ROOT).as_posix(), _line(path, parts[length:], name)
    raise ValueError(f"`source:` must be followed by a name of the package. Received: {name}.")


def _line(path, names, whole):
    line, body = 1, ast.parse(path.read_text("utf-8")).body
    for name in names:
        found = [node for node in body if name in _defined(node)]
        if not found:
            raise ValueError(f"{path.relative_to(ROOT)} must define {name}, of {whole}.")
        line, body = found[0].lineno, getattr(found[0], "body", [])
    return line


def _defined(node):
    """The names that a statement defines."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def listing(module: str) -> str:
    """Returns the page of a file, whose lines have the ids `line-1` and so on."""
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    # Blank lines at the ends count.
    lexer = PythonLexer(stripnl=False)
    code = highlight(
        (ROOT / module).read_text("utf-8"), lexer, HtmlFormatter(linespans="line", wrapcode=True)
    )
    return (
        f"---\nsearch: {{ exclude: true }}\n---\n# `{module}`\n\n"
        f'<div class="fcn-source">{code}</div>\n'
    )


def _page(module):
    return f"source/{module.removesuffix('.py')}.md"
