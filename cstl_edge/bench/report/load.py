"""Reader of result files, bundles of boards and exports of trtexec; groups their rows.

A chapter of the page shows one machine: of each scenario the last run, since rows of one table are
to share their conditions. A side of a comparison is all that one machine measured at one commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from cstl_edge.bench.record import Row, read_rows
from cstl_edge.errors import ConfigError, DataError, one_line

MACHINE = ("cpu", "vector", "cores", "gpus", "board", "system", "l4t", "power_mode", "machine")
"""Keys of `measure.environment` that tell machines apart."""
OWN_ID = "machine"
UNKNOWN = "unknown"
MS = (1e-7, 1e9)  # durations: from below a clock's tick to eleven days
FIGURES = (1e-12, 1e18)
PIECES = ("peers", "trtexec")
"""Scenarios whose rows come from several runs or files."""


@dataclass(frozen=True)
class MachineResults:
    """Rows that one machine measured; for a comparison, at one commit."""

    machine: str  # in words, e.g. `AMD EPYC, 2 cores, avx512f`
    rows: tuple[Row, ...]
    replaced: int = 0  # rows of earlier runs, which are not shown

    @property
    def environment(self) -> Mapping[str, Any]:
        """Of the last run that recorded it."""
        return next((r.environment for r in reversed(self.rows) if r.environment), {})

    @property
    def commits(self) -> list[str]:
        """The commits of its rows, the last first."""
        return list(dict.fromkeys(commit_of(row) for row in reversed(self.rows) if row.environment))

    def rows_of(self, scenario: str) -> tuple[Row, ...]:
        """Return the rows of a scenario that have a figure."""
        return tuple(r for r in self.rows if r.scenario == scenario and r.skipped is None)


def read_file(path: Path) -> list[Row]:
    """Return the rows of one file of any kind (DataError); none where none is of ours.

    A .zip is a bundle of `cstl-edge bench --jetson`, a .json an export of trtexec, anything else
    JSON lines, of which those of other benchmarks are left out.
    """
    suffix = path.suffix.lower()
    if suffix == ".zip":
        from cstl_edge.bench.jetson.bundle import read_bundle

        rows = list(read_bundle(path))
    elif suffix == ".json":
        rows = [_trtexec_row(path)]
    else:
        rows = list(read_rows(path))
    for row in rows:
        _require_plausible(path, row)
    return rows


def read_files(paths: Iterable[Path], notify: Callable[[str], None] = lambda _: None) -> list[Row]:
    """Return the rows of all files, at least one (DataError).

    Machines that nothing tells apart, which older rows do not, are told apart by their files. A
    folder of results can so be given with the files of other benchmarks in it.
    notify: Receiver of a line for each file without results.
    """
    files = {path: read_file(path) for path in paths}
    rows = [row for path, own in files.items() for row in _by_file(path, own, files)]
    empty = [one_line(path) for path, own in files.items() if not own]
    if not rows:
        raise DataError(
            f"{', '.join(empty)}: expected results of cstl-edge bench, of a board or of trtexec; "
            "found none"
        )
    for name in empty:
        notify(f"{name}: no results of cstl-edge bench, left out")
    return rows


def _by_file(path: Path, rows: Sequence[Row], files: Mapping[Path, list[Row]]) -> list[Row]:
    """Return the rows of a file, named by it where another file may be of a machine alike."""
    others = [row for other, own in files.items() if other != path for row in own]
    alike = {_origin(row) for row in others if row.environment}
    marked = []
    for row in rows:
        known = OWN_ID in row.environment or not row.environment or row.scenario in PIECES
        if not known and _origin(row) in alike:
            environment = {**row.environment, OWN_ID: path.stem}
            marked.append(row.model_copy(update={"environment": environment}))
        else:
            marked.append(row)
    return marked


def _origin(row: Row) -> tuple[str, str, str]:
    """Return what rows share that may be of one machine, measured twice."""
    return machine_name(row.environment), commit_of(row), row.scenario


def by_machine(rows: Iterable[Row]) -> list[MachineResults]:
    """Return rows by machine and network, of each scenario the last run, in the order of these.

    Rows without a machine, as trtexec's, go to the one machine that there is, or else to one of
    their own.
    """
    machines: dict[str, list[Row]] = {}
    nowhere: list[Row] = []
    for row in rows:
        known = bool(row.environment)
        place = machines.setdefault(machine_name(row.environment), []) if known else nowhere
        place.append(row)
    if nowhere:
        only = next(iter(machines)) if len(machines) == 1 else machine_name({})
        machines.setdefault(only, []).extend(nowhere)
    return _by_time(
        _last_runs(label, own)
        for name, group in machines.items()
        for label, own in _by_network(name, group).items()
    )


def by_commit(rows: Iterable[Row]) -> list[MachineResults]:
    """Return rows by machine and commit, every run of them, in the order of their last runs."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in (row for row in rows if row.environment):
        groups.setdefault((machine_name(row.environment), commit_of(row)), []).append(row)
    return _by_time(
        MachineResults(name, tuple(_in_order(group))) for (name, _), group in groups.items()
    )


def comparison_pairs(
    rows: Sequence[Row], against: str | None
) -> list[tuple[MachineResults, MachineResults]]:
    """Return the pairs of sides to compare, each the earlier and the later.

    Args:
        rows: Rows of any machines and commits.
        against: File of results or a commit prefix; None compares the later of two sides with the
            earlier, and more sides not at all.

    Raises:
        ConfigError: for a commit that no row has.
        DataError: for a file without results.
    """
    sides = by_commit(rows)
    if against is None:
        return [(sides[0], sides[1])] if len(sides) == 2 else []
    if Path(against).is_file():
        return _pairs(sides, by_commit(read_files([Path(against)])))
    base = [side for side in sides if side.commits and side.commits[0].startswith(against)]
    if not against or not base:
        commits = ", ".join(sorted({name for side in sides for name in side.commits}))
        raise ConfigError(
            f"expected --against a file of results or one of the commits {one_line(commits)}; "
            f"got {one_line(against)!r}"
        )
    return _pairs([side for side in sides if side not in base], base)


def _pairs(
    sides: Sequence[MachineResults], base: Sequence[MachineResults]
) -> list[tuple[MachineResults, MachineResults]]:
    """Return each side with the last of `base`: of the same machine if any."""
    pairs = []
    for side in sides:
        same = [other for other in base if other.machine == side.machine]
        others = [other for other in (same or base) if other is not side]
        if others:
            pairs.append((others[-1], side))
    return pairs


def machine_name(environment: Mapping[str, Any]) -> str:
    """Return in words what tells this machine apart from others.

    >>> machine_name({"cpu": "AMD EPYC", "cores": 2, "vector": "avx512f", "system": "Linux"})
    'AMD EPYC, avx512f, 2 cores, Linux'
    """
    words = []
    for name in MACHINE:
        value = environment.get(name)
        if value not in (None, "", [], {}):
            words.append(one_line_text(value) + (" cores" if name == "cores" else ""))
    return ", ".join(words) or f"{UNKNOWN} machine"


def commit_of(row: Row) -> str:
    """Return the commit that a row was measured at."""
    return one_line_text(row.environment.get("commit")) or UNKNOWN


def utc_of(row: Row) -> str:
    """Return the time that a row's run began; empty where it is not known."""
    return one_line_text(row.environment.get("utc"))


def one_line_text(value: Any) -> str:
    """Return any value of a stranger's file in one line; nothing for nothing."""
    if value is None or isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, Mapping):
        return one_line(", ".join(f"{name} {one_line_text(x)}" for name, x in value.items()))
    if isinstance(value, list | tuple):
        return one_line(", ".join(one_line_text(x) for x in value))
    return one_line(value)


def _trtexec_row(path: Path) -> Row:
    """Return the times or, where it holds those, the layers that trtexec exported."""
    from cstl_edge.bench.trtexec import read_profile, read_times

    run, name = path.stem, f"trtexec {path.stem}"
    try:
        return read_times(path, run=run, backend=name)
    except DataError as no_times:
        try:
            return read_profile(path, run=run, backend=name)
        except DataError:
            raise no_times from None


def _last_runs(name: str, rows: Sequence[Row]) -> MachineResults:
    """Keep of each scenario the last run; all of those that are put together from several."""
    ordered = _in_order(rows)
    last = {row.scenario: row.run for row in ordered}
    shown = tuple(r for r in ordered if r.scenario in PIECES or last[r.scenario] == r.run)
    return MachineResults(name, shown, replaced=len(rows) - len(shown))


def _by_network(name: str, rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return rows by network, named by it where there are several.

    Rows without a network, as the machine's peaks, belong to each; what is put together from
    several runs stands with the first.
    """
    networks: dict[str, list[Row]] = {}
    common: list[Row] = []
    pieces = [row for row in rows if row.scenario in PIECES]
    for row in (x for x in rows if x.scenario not in PIECES):
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
    ordered = sorted(runs.values(), key=lambda run: utc_of(run[0]))
    return list(chain.from_iterable(ordered))


def _by_time(results: Iterable[MachineResults]) -> list[MachineResults]:
    return sorted(results, key=lambda machine: one_line_text(machine.environment.get("utc")))


def _require_plausible(path: Path, row: Row) -> None:
    """Refuse durations that no clock gives, and figures beyond all that is counted (DataError)."""
    checks = [(stage, x, MS) for stage, samples in row.samples.items() for x in samples]
    figures = [*row.values.items(), *((k, x) for k, ends in row.intervals.items() for x in ends)]
    checks += [(name, abs(x), FIGURES) for name, x in figures]
    for name, x, (least, most) in checks:
        if x != 0 and not least <= x <= most:
            raise DataError(
                f"{one_line(path)}: expected 0 or {least:g} to {most:g}; {one_line(row.contender)} "
                f"has {x:g} as {one_line(name)}"
            )
