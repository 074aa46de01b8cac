"""Draw docs/images/floors.svg: the rooms of the package by floor, and who imports whom.

python docs/scripts/floors.py            # write it
python docs/scripts/floors.py --check    # exit code 1 where it is not as the imports have it

Floors and imports are those of tests/test_architecture.py. An arrow is drawn only where no other
path of arrows leads there, or all rooms would be joined with all.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "images" / "floors.svg"
WIDTH, FLOOR_PX, BOX_PX, MARGIN = 980, 78, 34, 120
NAMES = {"__init__": "cstl_edge (public names)", "__main__": "python -m cstl_edge"}
STYLE = """
  .floor { fill: #e0f2f1; } .other { fill: #f1f8f7; }
  .room { fill: #ffffff; stroke: #00796b; stroke-width: 1.5; }
  .torch { fill: #fff3e0; stroke: #e65100; }
  text { font: 15px system-ui, sans-serif; fill: #1f2d2b; text-anchor: middle; }
  .label { font-size: 13px; fill: #50605e; text-anchor: start; }
  .edge { stroke: #78909c; stroke-width: 1.1; fill: none; marker-end: url(#tip); }
"""


def _law() -> Any:
    """Return the test that holds the floors."""
    sys.path.insert(0, str(ROOT / "tests"))
    return import_module("test_architecture")


def rooms_and_imports() -> tuple[list[set[str]], dict[str, set[str]]]:
    """Return the floors, lowest first, and the rooms that each room imports."""
    law = _law()
    edges: dict[str, set[str]] = {}
    for module, targets in law.EDGES.items():
        room = law.room(module)
        edges.setdefault(room, set()).update(law.room(t) for t in targets)
    for room, others in edges.items():
        others.discard(room)
    floors = [{room for room in floor if room in edges} for floor in law.FLOORS]
    known = set().union(*floors)  # a room without a floor fails that test, not this picture
    edges = {room: others & known for room, others in edges.items() if room in known}
    return [floor for floor in floors if floor], edges


def first_line(room: str) -> str:
    """Return the first line of a room's docstring."""
    law = _law()
    return (ast.get_docstring(law.TREES[room]) or "").split("\n")[0].rstrip(".")


def torch_rooms() -> set[str]:
    """Return the rooms in which a module imports torch when it is imported."""
    law = _law()
    return {
        law.room(name)
        for name, tree in law.TREES.items()
        if "torch" in set(law.imported_packages(tree))
    }


def essential(edges: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Return the edges that no longer way replaces (the transitive reduction)."""

    def reach(room: str) -> set[str]:
        return set().union(*({t} | reach(t) for t in edges.get(room, ())))

    return {
        room: {t for t in targets if not any(t in reach(other) for other in targets - {t})}
        for room, targets in edges.items()
    }


def picture() -> str:
    """Return the SVG."""
    floors, edges = rooms_and_imports()
    with_torch = torch_rooms()
    height = FLOOR_PX * len(floors) + 34
    boxes, places = [], {}
    for number, floor in enumerate(floors):
        y = FLOOR_PX * (len(floors) - 1 - number) + 10
        kind = "floor" if number % 2 else "other"
        boxes.append(f'<rect class="{kind}" x="0" y="{y}" width="{WIDTH}" height="{FLOOR_PX}"/>')
        boxes.append(f'<text class="label" x="12" y="{y + 44}">floor {number}</text>')
        step = (WIDTH - MARGIN) / len(floor)
        for place, room in enumerate(sorted(floor)):
            name = NAMES.get(room, room)
            width = 22 + 8.2 * len(name)
            x = MARGIN + step * (place + 0.5)
            places[room] = (x, y + 22)
            kind = "room torch" if room in with_torch else "room"
            boxes.append(
                f'<rect class="{kind}" x="{x - width / 2:.0f}" y="{y + 22}" width="{width:.0f}" '
                f'height="{BOX_PX}" rx="6"/>\n<text x="{x:.0f}" y="{y + 44}">{name}</text>'
            )
    arrows = []
    for room, targets in sorted(essential(edges).items()):
        for target in sorted(targets):
            (x0, y0), (x1, y1) = places[room], places[target]
            start, end = y0 + BOX_PX, y1 - 2
            bend = (end - start) / 2
            arrows.append(
                f'<path class="edge" d="M{x0:.0f} {start} C{x0:.0f} {start + bend:.0f} '
                f'{x1:.0f} {end - bend:.0f} {x1:.0f} {end}"/>'
            )
    bands = [box for box in boxes if 'class="floor"' in box or 'class="other"' in box]
    rest = [box for box in boxes if box not in bands]
    key = (
        f'<text class="label" x="12" y="{height - 8}">An arrow points to what is imported; those '
        "that follow from others are left out. Orange: has a module that imports torch.</text>"
    )
    tip = (
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" '
        'markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z" fill="#78909c"/></marker></defs>'
    )
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">\n'
        "<title>Rooms of cstl_edge by floor</title>\n"
    )
    paper = f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>'
    return head + "\n".join(
        [f"<style>{STYLE}</style>", tip, paper, *bands, *arrows, *rest, key, "</svg>\n"]
    )


def main() -> int:
    """Write the picture, or compare it."""
    text = picture()
    same = PICTURE.exists() and PICTURE.read_text(encoding="utf-8") == text
    if "--check" in sys.argv:
        if not same:
            print(f"stale: {PICTURE.relative_to(ROOT)}; run python docs/scripts/floors.py")
        return 0 if same else 1
    PICTURE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
