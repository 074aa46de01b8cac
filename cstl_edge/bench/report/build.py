"""Report builder: result files in, chapters with comparisons, sections, skips and method out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from cstl_edge import __version__
from cstl_edge.bench.record import ModelUnderTest, Row
from cstl_edge.bench.report.load import (
    MachineResults,
    by_machine,
    comparison_pairs,
    one_line_text,
    read_files,
    utc_of,
)
from cstl_edge.bench.report.page import PageChapter, ReportPage, Section
from cstl_edge.bench.report.sections import (
    accuracy_power,
    peers,
    roofline,
    sizing,
    timings,
    trtexec,
)
from cstl_edge.bench.report.sections.appendix import appendix_tables, warning_counts
from cstl_edge.bench.report.sections.comparison import comparison_chapter
from cstl_edge.bench.report.sections.headlines import headlines
from cstl_edge.extras import missing_package

Builder = Callable[[MachineResults, Sequence[Row]], Section | None]
SECTIONS: Mapping[str, Builder] = {
    "single": timings.single,
    "graph": timings.graph,
    "multi": timings.multi,
    "offline": timings.offline,
    "end_to_end": timings.end_to_end,
    "gallery": timings.gallery,
    "segment": sizing.segment,
    "accuracy": accuracy_power.accuracy,
    "peers": peers.peers,
    "roofline": roofline.roofline,
    "power": accuracy_power.power,
    "trtexec": trtexec.trtexec,
}
"""Builder of the section of each scenario, in the order of the page; `timings.other`: of others."""
ENVIRONMENT = ("driver", "l4t", "power_mode", "container")  # shown where it has them
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


def build_report(
    paths: Sequence[Path], base: str | None = None, notify: Callable[[str], None] = lambda _: None
) -> ReportPage:
    """Return the report of result files, compared with a base.

    Args:
        paths: Result files, as for `read_file`.
        base: File of results or a commit prefix; None compares two sides where
            there are exactly two.
        notify: Receiver of a line for each file without results.

    Raises:
        DataError: for files that cannot be read or hold no result.
        ConfigError: for a commit that none of them has, and without the extra `bench`.
    """
    try:
        for name in ("jinja2", "matplotlib", "scipy"):
            import_module(name)
    except ImportError as err:
        raise missing_package(f"the report needs {err.name}", "bench") from err
    rows = read_files(paths, notify)
    compared = (
        comparison_chapter(*pair, k, requested=base is not None)
        for k, pair in enumerate(comparison_pairs(rows, base))
    )
    machines = by_machine(rows)
    chapters = (*filter(None, compared), *(_chapter(x, k) for k, x in enumerate(machines)))
    created = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    footer = f"Made by cstl_edge {__version__} on {created}."
    return ReportPage("cstl_edge: benchmarks", _lead(rows, machines), chapters, METHOD, footer)


def _lead(rows: Sequence[Row], results: Sequence[MachineResults]) -> str:
    """Return the subject of the page in one sentence."""
    runs = len({row.run for row in rows})
    machines = len({x.machine.split(": ")[0] for x in results})
    return (
        f"How fast, how accurate and how near to the limit of the hardware people are recognised "
        f"by their walk: {len(rows):,} results of {runs} run{'s' * (runs != 1)} on "
        f"{machines} machine{'s' * (machines != 1)}."
    )


def _chapter(results: MachineResults, k: int) -> PageChapter:
    sections = []
    if sizes := sizing.sizing(results):
        sections.append(replace(sizes, id=f"sizes-{k + 1}"))
    for scenario in dict.fromkeys([*SECTIONS, *(row.scenario for row in results.rows)]):
        rows = results.rows_of(scenario)
        section = SECTIONS.get(scenario, timings.other)(results, rows) if rows else None
        if section:
            sections.append(replace(section, id=f"{scenario}-{k + 1}"))
    if tables := appendix_tables(results.rows):
        sections.append(Section("Beside the figures", tables=tables, id=f"rest-{k + 1}"))
    return PageChapter(
        f"machine-{k + 1}", results.machine, _facts(results), headlines(results), tuple(sections)
    )


def _facts(results: MachineResults) -> tuple[tuple[str, str], ...]:
    """Return names and values of what ran where."""
    machine = results.environment
    models = {row.subject.model_dump_json(): row.subject for row in results.rows
              if row.subject and row.scenario != "peers"}  # fmt: skip
    threads = {row.ran.threads for row in results.rows if row.ran and row.ran.threads}
    facts = [
        ("commit", ", ".join(results.commits)),
        ("measured", _period(utc_of(row) for row in results.rows)),
        *(("network", _network(model)) for model in models.values()),
        ("threads", ", ".join(str(x) for x in sorted(threads))),
        ("versions", one_line_text(machine.get("packages"))),
        *((name.replace("_", " "), one_line_text(machine.get(name))) for name in ENVIRONMENT),
    ]
    if warned := warning_counts(results.rows):
        some = sum(bool(row.warnings) for row in results.rows)
        kinds = ", ".join(f"{kind} ({times})" for kind, times, _ in warned)
        facts.append(("in doubt", f"{some} of {len(results.rows)} results: {kinds}"))
    if results.replaced:
        facts.append(("replaced", f"{results.replaced} results of earlier runs, not shown"))
    return tuple((name, value) for name, value in facts if value)


def _network(model: ModelUnderTest) -> str:
    height, width = model.size
    widths = "/".join(str(x) for x in model.widths)
    words = [
        model.name,
        f"{height}×{width}",
        f"{model.parts} parts",
        f"widths {widths}" if widths else "",
        f"weights {model.weights_sha256[:12]}" if model.trained else "random weights",
    ]
    return ", ".join(word for word in words if word)


def _period(stamps: Iterable[str]) -> str:
    known = sorted({stamp for stamp in stamps if stamp})
    ends = dict.fromkeys([*known[:1], *known[-1:]])
    return " to ".join(end.replace("T", " ").replace("Z", " UTC") for end in ends)
