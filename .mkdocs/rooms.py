"""MkDocs hook: replaces `<!-- rooms -->` by a drawing of the package's rooms and their imports.

A room is a module or package directly under keras_fcn. Rooms stand in rows: each imports only from
rows above it. An arrow means "imports"; arrows that others imply are left out.
"""

import ast
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "keras_fcn"
_WIDTH, _BOX, _HEIGHT, _ROW = 760, 124, 34, 84
_NOT_ROOMS = {"__init__", "__main__", "_registration", "version"}


def on_page_markdown(markdown, **_):
    """Called by MkDocs for every page."""
    return (
        markdown.replace("<!-- rooms -->", drawing()) if "<!-- rooms -->" in markdown else markdown
    )


def imports() -> dict[str, set[str]]:
    """Returns, by room, the other rooms that its modules import, also inside functions."""
    rooms = {
        path.name.removesuffix(".py") for path in PACKAGE.iterdir() if path.name != "__pycache__"
    }
    rooms = {room for room in rooms - _NOT_ROOMS if not room.endswith(".typed")}
    found = {room: set() for room in rooms}
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room in rooms:
            found[room] |= set(_imported(ast.parse(path.read_text()))) & rooms - {room}
    return found


def _imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "keras_fcn" and len(parts) > 1:
                yield parts[1]


def rows(graph: dict[str, set[str]]) -> list[list[str]]:
    """Returns the rooms row by row; a room stands below everything that it imports."""
    depth = {}

    def depth_of(room):
        if room not in depth:
            depth[room] = 1 + max(map(depth_of, graph[room]), default=-1)
        return depth[room]

    return [
        sorted(room for room in graph if depth_of(room) == row)
        for row in range(1 + max(map(depth_of, graph)))
    ]


def needed(graph: dict[str, set[str]]) -> list[tuple[str, str]]:
    """Returns the imports that follow from no others (transitive reduction)."""

    def reachable(room):
        return graph[room].union(*map(reachable, graph[room])) if graph[room] else set()

    return [
        (room, imported)
        for room in sorted(graph)
        for imported in sorted(graph[room])
        if not any(imported in reachable(other) for other in graph[room] - {imported})
    ]


def drawing() -> str:
    """Returns the SVG."""
    graph = imports()
    arrows_of = needed(graph)
    places, boxes = {}, []
    for y, row in enumerate(rows(graph)):
        # Each room below the middle of what it imports, so that few arrows cross.
        above = {r: [places[b][0] for a, b in arrows_of if a == r] or [0] for r in row}
        row = sorted(row, key=lambda room: sum(above[room]) / len(above[room]))
        for x, room in enumerate(row, start=1):
            places[room] = _WIDTH * x / (len(row) + 1), y * _ROW + _HEIGHT
    for room, (x, y) in places.items():
        boxes.append(
            f'<rect x="{x - _BOX / 2:.0f}" y="{y - _HEIGHT / 2:.0f}" width="{_BOX}" '
            f'height="{_HEIGHT}" rx="6" fill="var(--md-default-bg-color, white)" '
            f'stroke="currentColor"/><text x="{x:.0f}" y="{y + 5:.0f}">{room}</text>'
        )
    arrows = []
    for room, imported in arrows_of:
        (x, y), (to_x, to_y) = places[room], places[imported]
        start, end = y - _HEIGHT / 2, to_y + _HEIGHT / 2 + 4
        # Past rows in between, the arrow bends around their boxes' middle.
        bend = (start + end) / 2
        arrows.append(
            f'<path d="M{x:.0f},{start:.0f} C{x:.0f},{bend:.0f} {to_x:.0f},{bend:.0f} '
            f'{to_x:.0f},{end:.0f}" marker-end="url(#rooms-arrow)"/>'
        )
    height = (max(y for _, y in places.values())) + _HEIGHT
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" role="img" style="max-width: {_WIDTH}px" '
        'aria-label="The rooms of keras_fcn and what they import">'
        '<defs><marker id="rooms-arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="currentColor"/>'
        "</marker></defs>"
        f'<g fill="none" stroke="currentColor" stroke-opacity="0.45">{"".join(arrows)}</g>'
        '<g font-size="14" text-anchor="middle" fill="currentColor" stroke-width="1" '
        f'font-family="monospace">{"".join(boxes)}</g></svg>'
    )
