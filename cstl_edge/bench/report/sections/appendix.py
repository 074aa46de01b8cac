"""Tables beside the figures: backends as they ran, the machine's state, warnings, skips."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from cstl_edge.bench.record import Row
from cstl_edge.bench.report.formatting import number
from cstl_edge.bench.report.load import one_line_text
from cstl_edge.bench.report.rows import describe_case
from cstl_edge.measure.tables import Table

RAN = ("backend", "version", "on", "tensors", "computed in", "threads", "options")
DEEPEST = 4  # names in names; what lies deeper is not shown
MOST_WORDS = 4
MERGED = ("before", "after", "settings")  # the same names before and after: shown as one range
LEFT_OUT = ("seconds", "cores")


def appendix_tables(rows: Sequence[Row]) -> tuple[Table, ...]:
    """Return what is no figure: backends as they ran, conditions, warnings, skips with reasons."""
    named = ("", "scenario", "case", "why")
    ran = Table("Backends as they ran", RAN, backends_as_run(rows), 7, folded=True)
    missing = Table("Without a figure", named, skipped_rows(rows), left=4)
    tables = (
        ran.without_empty_columns(),
        _conditions(rows).without_empty_columns(),
        Table("Warnings", ("", "rows", "for example"), warning_counts(rows), folded=True),
        missing.without_empty_columns(),
    )
    return tuple(table for table in tables if table.rows)


def backends_as_run(rows: Iterable[Row]) -> tuple[tuple[str, ...], ...]:
    """Return each backend as it ran, once: name, version, provider, precision, threads, options."""
    lines = set()
    for ran in (row.ran for row in rows if row.ran is not None):
        options = ", ".join(f"{k} {v}" for k, v in ran.options.items())
        threads = "" if ran.threads is None else str(ran.threads)
        precision = (ran.precision, ran.computed_in)
        lines.add((ran.backend, ran.version, ran.provider, *precision, threads, options))
    return tuple(sorted(lines))


def warning_counts(rows: Iterable[Row]) -> tuple[tuple[str, str, str], ...]:
    """Return each kind of warning, the commonest first: its words, in how many rows, an example."""
    warnings = [warning.partition(":") for row in rows for warning in row.warnings]
    counted = Counter(kind for kind, _, _ in warnings)
    examples = {kind: rest for kind, _, rest in reversed(warnings)}
    return tuple((k, str(times), examples[k].strip()) for k, times in counted.most_common())


def skipped_rows(rows: Iterable[Row]) -> tuple[tuple[str, ...], ...]:
    """Return each backend without a figure once per scenario and reason, with its reason."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        why = row.skipped
        if why is None and row.check is not None and not row.check.ok:
            why = f"wrong outputs: cosine {row.check.cosine:.3g} to {row.check.reference}"
        if why is not None:
            cases = groups.setdefault((row.contender, row.scenario, why), [])
            cases.append(describe_case(row.case))
    return tuple(
        (name, scenario, "; ".join(dict.fromkeys(case for case in cases if case)), why)
        for (name, scenario, why), cases in groups.items()
    )


def _conditions(rows: Iterable[Row]) -> Table:
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
