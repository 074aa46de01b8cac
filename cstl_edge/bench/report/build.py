"""The report from result files: chapters, comparisons, what was skipped, how it was measured."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from importlib import import_module
from itertools import count
from pathlib import Path

from cstl_edge import __version__
from cstl_edge.bench.record import ModelUnderTest, Row
from cstl_edge.bench.report.load import Chapter, against, chapters, read_all, text
from cstl_edge.bench.report.page import Part, Report, Section
from cstl_edge.bench.report.sections import (
    accuracy_power,
    comparison,
    conditions,
    peers,
    roofline,
    timings,
    trtexec,
)
from cstl_edge.bench.report.sections.headlines import headlines
from cstl_edge.bench.report.tables import Table, case_of, ran_as, without_empty
from cstl_edge.errors import ConfigError

BUILDERS = (
    timings.single,
    timings.graph,
    timings.multi,
    timings.offline,
    timings.end_to_end,
    accuracy_power.accuracy,
    peers.peers,
    roofline.roofline,
    accuracy_power.power,
    trtexec.trtexec,
)
SHOWN = ("driver", "l4t", "power_mode", "container")  # of the environment, where it has them
RAN = ("backend", "version", "on", "tensors", "computed in", "threads", "options")
METHOD = (
    "Times are milliseconds on a monotonic clock. Every sample is kept in the order it was taken; "
    "warm-up is apart, nothing is clipped away, and no minimum is a headline.",
    "Percentiles are counted as trtexec counts them: of n sorted samples the one with index "
    "n − 1 − int((1 − q/100)·n), in single precision as there, never an interpolation. A figure "
    "has as many digits as its 95 % interval lets stand (order statistics), two to three.",
    "Samples taken while the machine throttled are dropped and counted in the remarks. Outputs are "
    "compared with a reference while measuring: a backend that answers wrongly has no time.",
    "Ratios are taken within one run on one machine. Of each scenario the last run on a "
    "machine is shown, of each network.",
)


def report(
    paths: Sequence[Path], base: str | None = None, tell: Callable[[str], None] | None = None
) -> Report:
    """Return what the files hold, compared with `base`: a file or the begin of a commit.

    tell: narrates which files have no result
    Raises DataError for files that cannot be read or hold no result, ConfigError for a commit that
    none of them has and where the extra `bench` is not installed.
    """
    _needs("jinja2", "matplotlib", "scipy")
    rows = read_all(paths, tell)
    n = count(1)
    compared = [
        made
        for k, pair in enumerate(against(rows, base))
        if (made := comparison.part(*pair, k, n, asked=base is not None))
    ]
    shown = chapters(rows)
    parts = (*compared, *(_part(chapter, k, n) for k, chapter in enumerate(shown)))
    return Report("cstl_edge: benchmarks", _lead(rows, shown), parts, METHOD, _made())


def _lead(rows: Sequence[Row], shown: Sequence[Chapter]) -> str:
    """Say in one sentence what the page is about."""
    runs = len({row.run for row in rows})
    machines = len({chapter.machine.split(": ")[0] for chapter in shown})
    return (
        f"How fast, how accurate and how near to the limit of the hardware people are recognised "
        f"by their walk: {len(rows):,} results of {runs} run{'s' * (runs != 1)} on "
        f"{machines} machine{'s' * (machines != 1)}."
    )


def _needs(*modules: str) -> None:
    try:
        for name in modules:
            import_module(name)
    except ImportError as err:
        raise ConfigError(
            f'the report needs {err.name}, which is not here: pip install "cstl-edge[bench]"'
        ) from err


def _part(chapter: Chapter, k: int, n: count[int]) -> Part:
    built = (build(chapter, n) for build in BUILDERS)
    made = [replace(section, id=f"{section.id}-{k + 1}") for section in built if section]
    sections = (*made, *_rest(chapter, k))
    facts = _facts(chapter)
    return Part(f"machine-{k + 1}", chapter.machine, facts, headlines(chapter), sections)


def _facts(chapter: Chapter) -> tuple[tuple[str, str], ...]:
    """Say what ran where."""
    machine = chapter.environment
    subjects = {row.subject.model_dump_json(): row.subject for row in chapter.rows
                if row.subject and row.scenario != "peers"}  # fmt: skip
    threads = {row.ran.threads for row in chapter.rows if row.ran and row.ran.threads}
    facts = [
        ("commit", ", ".join(chapter.commits)),
        ("measured", _span(text(row.environment.get("utc")) for row in chapter.rows)),
        *(("network", _network(subject)) for subject in subjects.values()),
        ("threads", ", ".join(str(x) for x in sorted(threads))),
        ("versions", text(machine.get("packages"))),
        *((name, text(machine.get(name))) for name in SHOWN),
    ]
    if doubts := warnings(chapter.rows):
        some = sum(bool(row.warnings) for row in chapter.rows)
        said = ", ".join(f"{kind} ({times})" for kind, times, _ in doubts)
        facts.append(("in doubt", f"{some} of {len(chapter.rows)} results: {said}"))
    if chapter.replaced:
        facts.append(("replaced", f"{chapter.replaced} results of earlier runs, not shown"))
    return tuple((name.replace("_", " "), told) for name, told in facts if told)


def _network(subject: ModelUnderTest) -> str:
    height, width = subject.size
    widths = "/".join(str(x) for x in subject.widths)
    said = [
        subject.name,
        f"{height}×{width}",
        f"{subject.parts} parts",
        f"widths {widths}" if widths else "",
        f"weights {subject.weights_sha256[:12]}" if subject.trained else "random weights",
    ]
    return ", ".join(x for x in said if x)


def _span(stamps: Iterable[str]) -> str:
    found = sorted({stamp for stamp in stamps if stamp})
    ends = dict.fromkeys([*found[:1], *found[-1:]])
    return " to ".join(end.replace("T", " ").replace("Z", " UTC") for end in ends)


def _rest(chapter: Chapter, k: int) -> list[Section]:
    """Return what is not a figure: backends as they ran, warnings, what was skipped and why."""
    tables = []
    if backends := ran_as(chapter.rows):
        made = Table("Backends as they ran", RAN, tuple(backends), left=7, folded=True)
        tables.append(without_empty(made))
    if around := conditions.table(chapter.rows):
        tables.append(around)
    if doubts := warnings(chapter.rows):
        tables.append(Table("Warnings", ("", "rows", "for example"), doubts, folded=True))
    if missing := skipped(chapter.rows):
        named = ("", "scenario", "case", "why")
        tables.append(without_empty(Table("Without a figure", named, missing, left=4)))
    return [Section(f"rest-{k + 1}", "Beside the figures", (), tuple(tables))] if tables else []


def warnings(rows: Iterable[Row]) -> tuple[tuple[str, str, str], ...]:
    """Return each kind of warning, the commonest first: its words, in how many rows, an example."""
    found = [warning.partition(":") for row in rows for warning in row.warnings]
    counted = Counter(kind for kind, _, _ in found)
    examples = {kind: rest for kind, _, rest in reversed(found)}
    return tuple((k, str(times), examples[k].strip()) for k, times in counted.most_common())


def skipped(rows: Iterable[Row]) -> tuple[tuple[str, ...], ...]:
    """Return each contender without a figure once per scenario and reason, with its reason."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        why = row.skipped
        if why is None and row.check is not None and not row.check.ok:
            why = f"wrong outputs: cosine {row.check.cosine:.3g} to {row.check.reference}"
        if why is not None:
            found.setdefault((row.contender, row.scenario, why), []).append(case_of(row.case))
    return tuple(
        (contender, scenario, "; ".join(dict.fromkeys(case for case in cases if case)), why)
        for (contender, scenario, why), cases in found.items()
    )


def _made() -> str:
    stamp = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    return f"Made by cstl_edge {__version__} on {stamp}."
