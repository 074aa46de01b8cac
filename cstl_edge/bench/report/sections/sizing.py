"""Section of sizes: how many people, how many cameras, what to buy; and that of segmentation.

The load of a camera is reckoned from what was measured in one run on the machine: background
subtraction of every frame, the person network and the embedding `WALKER_FPS` times per second of a
walker. `LOAD` of the cores may be used, as the segmenter `auto` does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cstl_edge.bench.record import Row
from cstl_edge.bench.report.formatting import number
from cstl_edge.bench.report.load import MachineResults
from cstl_edge.bench.report.page import Headline, Section
from cstl_edge.bench.report.rows import describe_case, median, row_name, timed_rows
from cstl_edge.bench.report.tables import timing_table
from cstl_edge.bench.roofline.limits import MachineLimits
from cstl_edge.live.segmentation.open import WALKER_FPS
from cstl_edge.measure.tables import Table

CAMERA_HZ = 25.0
LOAD = 0.7  # of the cores: peaks, tracking and the gallery need the rest
SUBTRACTION = "background"
ONE_CROP = "person network, 1 crop"
MOST = 1000  # cameras, or people: more are not reckoned
HOUSES = ((1, 1), (1, 4), (4, 1), (4, 4), (16, 1), (16, 4))  # cameras, walkers at each at once
LEAD = (
    "Reckoned from the rows below: every frame of a camera (640×360, 25 per second) passes "
    f"background subtraction, every walker is masked and embedded {WALKER_FPS:g} times per second, "
    f"{LOAD:.0%} of the cores may be used. With the person network; without it (--segmenter "
    "background) in brackets. Larger pictures, and more cores of another kind: measure there.",
)
SEGMENT = (
    "A street of 640×360 that walkers cross together; frames with somebody in them. Paced: each "
    "walker as often as the pipeline masks them by default. The network on random crops.",
)


@dataclass(frozen=True)
class Costs:
    """Core-milliseconds of the parts of a camera's work."""

    frame_ms: float  # background subtraction
    crop_ms: float  # the person network
    embedding_ms: float  # one more frame of a walker, at hop 5
    cores: float

    @property
    def budget_ms(self) -> float:
        """Return the core-milliseconds per second that may be used."""
        return 1000 * LOAD * self.cores

    def load_ms(self, cameras: int, walkers: int, *, network: bool = True) -> float:
        """Return the core-milliseconds per second that cameras need.

        Args:
            cameras: Number of cameras.
            walkers: At each at once.
            network: Whether the person network masks them.
        """
        walker_ms = self.embedding_ms + (self.crop_ms if network else 0.0)
        return cameras * (CAMERA_HZ * self.frame_ms + walkers * WALKER_FPS * walker_ms)


def costs_of(results: MachineResults) -> Costs | None:
    """Return what a machine's rows say of the costs; None where one was not measured."""
    segment = {row.contender: row for row in timed_rows(results.rows_of("segment"))}
    embedding = [
        median(row).value * (row.ran.threads or 1)
        for row in timed_rows(results.rows_of("single"))
        if row.ran is not None
        and (row.case.graph, row.case.hop, row.case.paced_hz) == ("streaming", 5, None)
    ]
    cores = results.environment.get("cores")
    if SUBTRACTION not in segment or ONE_CROP not in segment or not embedding or not cores:
        return None
    frame, crop = median(segment[SUBTRACTION]).value, median(segment[ONE_CROP]).value
    return Costs(frame, crop, min(embedding), float(cores))


def sizing_headlines(results: MachineResults) -> tuple[Headline, ...]:
    """Return how many people at a camera and how many cameras a machine has time for."""
    costs = costs_of(results)
    if costs is None:
        return ()
    people = [_most(costs, [(1, n) for n in range(MOST)], network=own) for own in _WAYS]
    cameras = [_most(costs, [(n, 1) for n in range(MOST)], network=own) for own in _WAYS]
    where = f"{costs.cores:g} cores, reckoned; without the person network {{}}"
    return (
        Headline(str(people[0]), "people at once before one camera", where.format(people[1])),
        Headline(str(cameras[0]), "cameras with one walker at each", where.format(cameras[1])),
    )


_WAYS = (True, False)  # with the person network, without


def _most(costs: Costs, houses: Sequence[tuple[int, int]], *, network: bool) -> int:
    """Return the place of the last house, in ascending order, that the budget has room for.

    Args:
        costs: Of the machine.
        houses: Cameras, and walkers at each.
        network: Whether the person network masks them.
    """
    held = [costs.load_ms(*house, network=network) <= costs.budget_ms for house in houses]
    return max(0, sum(held) - 1)


def sizing(results: MachineResults) -> Section | None:
    """Return how many cores a house needs: what to buy."""
    costs = costs_of(results)
    if costs is None:
        return None
    columns = ("cameras", "walkers at each at once", "cores like these", "machines like this")
    lines = list[tuple[str, ...]]()
    for cameras, walkers in HOUSES:
        needed = [costs.load_ms(cameras, walkers, network=own) / 1000 / LOAD for own in _WAYS]
        cores = f"{number(needed[0])} ({number(needed[1])})"
        machines = "{} ({})".format(*(math.ceil(one / costs.cores) for one in needed))
        lines.append((str(cameras), str(walkers), cores, machines))
    parts = (
        f"A frame costs {number(costs.frame_ms)} ms of a core, a mask {number(costs.crop_ms)} ms, "
        f"an embedded frame of a walker {number(costs.embedding_ms)} ms."
    )
    table = Table("Cores for cameras and walkers", columns, tuple(lines), 0, (parts,))
    return Section("How many cameras, how many people, what to buy", LEAD, (table,))


def segment(results: MachineResults, rows: Sequence[Row]) -> Section:
    """Show what finding and masking people costs, and how near the network comes to the limit."""
    timed = timed_rows(rows)
    names = list(dict.fromkeys(name for row in timed for name in row.values))
    tables = [timing_table("Frames and crops", timed, names)] if timed else []
    if shares := _shares(results, timed):
        columns = ("", "case", "10⁶ multiply-adds", "reached 10⁹/s", "attainable 10⁹/s", "share")
        tables.append(Table("Share of the attainable", columns, tuple(shares), 2))
    return Section("Segmentation", SEGMENT, tuple(tables))


def _shares(results: MachineResults, rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return a line per row of the network: its rate against the peak of as many threads."""
    peaks = results.rows_of("roofline")
    peak = MachineLimits(row for row in peaks if row.details.get("kind") != "cost").peak(
        "cpu", "float32"
    )
    measured = {row.ran.threads for row in peaks if row.ran is not None and row.ran.threads}
    lines = list[tuple[str, ...]]()
    for row in rows:
        gmacs, crops = row.values.get("gmacs"), row.details.get("crops")
        if not (peak and gmacs and crops and row.ran is not None and row.ran.threads):
            continue
        attainable = peak * row.ran.threads / max(measured, default=row.ran.threads)
        reached = gmacs * crops / median(row).value * 1e3
        share = f"{reached / attainable:.0%}"
        words = (number(gmacs * crops * 1e3), number(reached), number(attainable), share)
        lines.append((row_name(row), describe_case(row.case), *words))
    return lines
