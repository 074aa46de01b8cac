"""Result files of `cstl-edge bench`, bundles of boards and exports of trtexec, as chapters.

A chapter shows one machine: of each scenario the last run, since rows of one table are to share
their conditions. A side of a comparison is all that one machine measured at one commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from cstl_edge.bench.record import Row, read_rows
from cstl_edge.errors import ConfigError, DataError, one_line

MACHINE = ("cpu", "vector", "cores", "gpus", "board", "system", "l4t", "power_mode")
"""Keys of `measure.environment` that tell machines apart."""
UNKNOWN = "unknown"
MS = (1e-7, 1e9)  # durations: from below a clock's tick to eleven days
FIGURES = (1e-12, 1e18)
PIECES = ("peers", "trtexec")
"""Scenarios whose rows come from several runs or files."""


@dataclass(frozen=True)
class Chapter:
    """What one machine measured; for a comparison, at one commit."""

    machine: str
    """In words, e.g. `AMD EPYC, 2 cores, avx512f`."""
    rows: tuple[Row, ...]
    replaced: int = 0
    """Rows of earlier runs, which are not shown."""

    @property
    def environment(self) -> Mapping[str, Any]:
        """Of the last run that tells."""
        return next((r.environment for r in reversed(self.rows) if r.environment), {})

    @property
    def commits(self) -> list[str]:
        """The commits of its rows, the last first."""
        return list(dict.fromkeys(commit(row) for row in reversed(self.rows) if row.environment))

    def of(self, scenario: str) -> tuple[Row, ...]:
        """Return the rows of a scenario that have a figure."""
        return tuple(r for r in self.rows if r.scenario == scenario and r.skipped is None)


def read(path: Path) -> list[Row]:
    """Return the rows of one file, whichever it is (DataError); none where none is of ours.

    A .zip is what `cstl-edge bench --jetson` wrote, a .json an export of trtexec, anything else
    JSON lines, of which those of other benchmarks are left out.
    """
    suffix = path.suffix.lower()
    if suffix == ".zip":
        from cstl_edge.bench.jetson.read_bundle import read_bundle

        rows = list(read_bundle(path))
    elif suffix == ".json":
        rows = [_trtexec(path)]
    else:
        rows = list(read_rows(path))
    for row in rows:
        _plausible(path, row)
    return rows


def read_all(paths: Iterable[Path], tell: Callable[[str], None] | None = None) -> list[Row]:
    """Return the rows of all files, at least one (DataError); tells which files have none.

    So a folder of results can be given with what other benchmarks wrote there.
    """
    found: list[Row] = []
    empty = []
    for path in paths:
        rows = read(path)
        found += rows
        if not rows:
            empty.append(one_line(path))
    if not found:
        raise DataError(
            f"{', '.join(empty)}: expected results of cstl-edge bench, of a board or of trtexec; "
            "found none"
        )
    if tell is not None:
        for name in empty:
            tell(f"{name}: no results of cstl-edge bench, left out")
    return found


def chapters(rows: Iterable[Row]) -> list[Chapter]:
    """Return rows by machine and network, of each scenario the last run, in the order of these.

    Rows that do not tell where they ran, as trtexec's, go to the one machine that there is, or else
    to one of their own.
    """
    found: dict[str, list[Row]] = {}
    nowhere: list[Row] = []
    for row in rows:
        place = found.setdefault(machine(row.environment), []) if row.environment else nowhere
        place.append(row)
    if nowhere:
        only = next(iter(found)) if len(found) == 1 else machine({})
        found.setdefault(only, []).extend(nowhere)
    return _by_time(
        _last_runs(label, own)
        for name, taken in found.items()
        for label, own in _by_network(name, taken).items()
    )


def sides(rows: Iterable[Row]) -> list[Chapter]:
    """Return rows by machine and commit, every run of them, in the order of their last runs."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in (row for row in rows if row.environment):
        found.setdefault((machine(row.environment), commit(row)), []).append(row)
    return _by_time(Chapter(name, tuple(_in_order(taken))) for (name, _), taken in found.items())


def pairs(found: Sequence[Chapter], base: Sequence[Chapter]) -> list[tuple[Chapter, Chapter]]:
    """Return for each chapter the one of `base` to compare it with: of the same machine if any."""
    made = []
    for one in found:
        same = [other for other in base if other.machine == one.machine]
        others = [other for other in (same or base) if other is not one]
        if others:
            made.append((others[-1], one))
    return made


def against(rows: Sequence[Row], what: str | None) -> list[tuple[Chapter, Chapter]]:
    """Return which sides to compare: `what` is a file of results or the begin of a commit.

    Without it two sides are compared, the later with the earlier; more are not guessed at.
    Raises ConfigError for a commit that no row has, DataError for a file without results.
    """
    found = sides(rows)
    if what is None:
        return [(found[0], found[1])] if len(found) == 2 else []
    if Path(what).is_file():
        return pairs(found, sides(read_all([Path(what)])))
    base = [one for one in found if one.commits and one.commits[0].startswith(what)]
    if not what or not base:
        commits = ", ".join(sorted({name for one in found for name in one.commits}))
        raise ConfigError(
            f"expected --against a file of results or one of the commits {one_line(commits)}; "
            f"got {one_line(what)!r}"
        )
    return pairs([one for one in found if one not in base], base)


def machine(environment: Mapping[str, Any]) -> str:
    """Return in words what tells this machine apart from others.

    >>> machine({"cpu": "AMD EPYC", "cores": 2, "vector": "avx512f", "system": "Linux x86_64"})
    'AMD EPYC, avx512f, 2 cores, Linux x86_64'
    """
    told = []
    for name in MACHINE:
        value = environment.get(name)
        if value not in (None, "", [], {}):
            told.append(f"{text(value)} cores" if name == "cores" else text(value))
    return ", ".join(told) or f"{UNKNOWN} machine"


def commit(row: Row) -> str:
    """Return the commit that a row was measured at."""
    return text(row.environment.get("commit")) or UNKNOWN


def text(value: Any) -> str:
    """Return in one line what a stranger's file has under a name; nothing for nothing."""
    if value is None or isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, Mapping):
        return one_line(", ".join(f"{name} {text(x)}" for name, x in value.items()))
    if isinstance(value, list | tuple):
        return one_line(", ".join(text(x) for x in value))
    return one_line(value)


def _trtexec(path: Path) -> Row:
    """Return the times or, where it holds those, the layers that trtexec exported."""
    from cstl_edge.bench.trtexec import read_profile, read_times

    run, name = path.stem, f"trtexec {path.stem}"
    try:
        return read_times(path, run=run, contender=name)
    except DataError as no_times:
        try:
            return read_profile(path, run=run, contender=name)
        except DataError:
            raise no_times from None


def _last_runs(name: str, rows: Sequence[Row]) -> Chapter:
    """Keep of each scenario the last run; all of those that are put together from several."""
    ordered = _in_order(rows)
    last = {row.scenario: row.run for row in ordered}
    kept = tuple(r for r in ordered if r.scenario in PIECES or last[r.scenario] == r.run)
    return Chapter(name, kept, replaced=len(rows) - len(kept))


def _by_network(name: str, rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return rows by network, named by it where there are several.

    What no network ran, as the machine's peaks, belongs to each; what is put together from several
    runs stands with the first.
    """
    networks: dict[str, list[Row]] = {}
    common: list[Row] = []
    pieces = [row for row in rows if row.scenario in PIECES]
    for row in rows:
        if row.scenario in PIECES:
            continue
        if row.subject is None:
            common.append(row)
        else:
            h, w = row.subject.size
            widths = "/".join(map(str, row.subject.widths))
            label = f"{name}: {row.subject.name}, {h}×{w}, widths {widths}"
            networks.setdefault(label, []).append(row)
    if len(networks) < 2:
        return {name: list(rows)}
    first = next(iter(networks))
    return {
        label: [*own, *common, *(pieces if label == first else ())]
        for label, own in networks.items()
    }


def _in_order(rows: Sequence[Row]) -> list[Row]:
    """Return rows run by run, in the order in which the runs began."""
    runs: dict[str, list[Row]] = {}
    for row in rows:
        runs.setdefault(row.run, []).append(row)
    ordered = sorted(runs.values(), key=lambda run: _utc(run[0]))
    return list(chain.from_iterable(ordered))


def _by_time(found: Iterable[Chapter]) -> list[Chapter]:
    return sorted(found, key=lambda one: text(one.environment.get("utc")))


def _utc(row: Row) -> str:
    return text(row.environment.get("utc"))


def _plausible(path: Path, row: Row) -> None:
    """Refuse durations that no clock gives, and figures beyond all that is counted (DataError)."""
    found = [(stage, x, MS) for stage, samples in row.samples.items() for x in samples]
    figures = [*row.values.items(), *((k, x) for k, ends in row.intervals.items() for x in ends)]
    found += [(name, abs(x), FIGURES) for name, x in figures]
    for name, x, (least, most) in found:
        if x != 0 and not least <= x <= most:
            raise DataError(
                f"{one_line(path)}: expected 0 or {least:g} to {most:g}; {one_line(row.contender)} "
                f"has {x:g} as {one_line(name)}"
            )
