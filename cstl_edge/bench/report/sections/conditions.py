"""Table of the machine's state around the samples: clocks, temperatures, settings, load."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from cstl_edge.bench.record import Row
from cstl_edge.bench.report.formatting import number
from cstl_edge.bench.report.load import one_line_text
from cstl_edge.measure.tables import Table

DEEPEST = 4  # names in names; what lies deeper is not shown
MOST_WORDS = 4
MERGED = ("before", "after", "settings")  # the same names before and after: shown as one range
LEFT_OUT = ("seconds", "cores")


def table(rows: Iterable[Row]) -> Table:
    """Return the range of every figure and the words of every setting, over all rows of times."""
    figures: dict[str, list[float]] = {}
    words: dict[str, dict[str, None]] = {}
    for row in rows:
        for name, value in _leaves(row.conditions):
            if isinstance(value, int | float) and not isinstance(value, bool):
                figures.setdefault(name, []).append(float(value))
            elif one_line_text(value):
                words.setdefault(name, {})[one_line_text(value)] = None
    lines = [(name, *_range(values)) for name, values in figures.items()]
    lines += [(name, "; ".join([*texts][:MOST_WORDS]), "") for name, texts in words.items()]
    columns = ("", "lowest, or set to", "highest")
    return Table("State of the machine", columns, tuple(lines), folded=True)


def _range(values: list[float]) -> tuple[str, str]:
    known = [x for x in values if math.isfinite(x)]
    if not known:
        return "", ""
    low, high = min(known), max(known)
    return number(low, digits=4), number(high, digits=4) if high != low else ""


def _leaves(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Yield the innermost values by their names, `before` and `after` put together."""
    if isinstance(tree, dict) and len(path) <= DEEPEST:
        for name, value in tree.items():
            if not path and name in LEFT_OUT:
                continue
            yield from _leaves(value, path if not path and name in MERGED else (*path, str(name)))
    elif path and not isinstance(tree, dict):
        yield one_line_text(", ".join(path)).replace("_", " "), tree
