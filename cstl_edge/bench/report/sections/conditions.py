"""The state of the machine around the samples: clocks, temperatures, settings, load, as a table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from cstl_edge.bench.record import Row
from cstl_edge.bench.report.formatting import number
from cstl_edge.bench.report.load import text
from cstl_edge.bench.report.tables import Table, without_empty

DEEPEST = 4  # names in names; what lies deeper is not shown
MOST_WORDS = 4
BOTH = ("before", "after", "settings")  # the same names before and after: shown as one range
LEFT_OUT = ("seconds", "cores")


def table(rows: Iterable[Row]) -> Table | None:
    """Return the range of every figure and the words of every setting, over all rows of times."""
    figures: dict[str, list[float]] = {}
    words: dict[str, dict[str, None]] = {}
    for row in rows:
        for name, value in _flat(row.conditions):
            if isinstance(value, int | float) and not isinstance(value, bool):
                figures.setdefault(name, []).append(float(value))
            elif text(value):
                words.setdefault(name, {})[text(value)] = None
    lines = [(name, *_range(found)) for name, found in figures.items()]
    lines += [(name, "; ".join([*told][:MOST_WORDS]), "") for name, told in words.items()]
    if not lines:
        return None
    columns = ("", "lowest, or set to", "highest")
    return without_empty(Table("State of the machine", columns, tuple(lines), folded=True))


def _range(found: list[float]) -> tuple[str, str]:
    known = [x for x in found if math.isfinite(x)]
    if not known:
        return "", ""
    low, high = min(known), max(known)
    return number(low, digits=4), number(high, digits=4) if high != low else ""


def _flat(found: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Yield the innermost values by their names, `before` and `after` put together."""
    if isinstance(found, dict) and len(path) <= DEEPEST:
        for name, value in found.items():
            if not path and name in LEFT_OUT:
                continue
            yield from _flat(value, path if not path and name in BOTH else (*path, str(name)))
    elif path and not isinstance(found, dict):
        yield text(", ".join(path)).replace("_", " "), found
