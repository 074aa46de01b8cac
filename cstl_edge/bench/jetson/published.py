"""Published figures of gait recognition on Jetson boards, to stand beside ours.

Scientific Reports 15:19276 (2025): walkers that a board holds at 25 inferences a second each, and
the energy of one inference. Another network on other silhouettes, so it is an order of magnitude,
never a ranking.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from cstl_edge.bench.record import Row

SOURCE = "Scientific Reports 15:19276 (2025)"
INFERENCES_HZ = 25.0


class Published(NamedTuple):
    """Figures of one board."""

    board: str  # as it stands in the device tree's model
    walkers: int  # at 25 inferences a second each


FIGURES = (Published("Orin Nano", 42), Published("AGX Orin", 188))
ENERGY_MJ = (6.3, 9.7)  # of one inference, over boards and settings


def beside_published(rows: Iterable[Row], board: str) -> list[str]:
    """Return lines that set the walkers of scenario `multi` beside the published ones.

    Args:
        rows: Rows of a run; those without walkers are passed by.
        board: Model of the board. For another than the published ones there is no line.
    """
    figures: Sequence[Published] = [f for f in FIGURES if f.board.lower() in board.lower()]
    if not figures:
        return []
    (figure,) = figures
    lines = []
    for row in rows:
        walkers = row.values.get("walkers")
        if row.scenario == "multi" and walkers is not None and not row.skipped:
            lines.append(
                f"{row.contender}: {walkers:g} walkers at 25 frames a second with p99 < 40 ms, "
                f"answers at 5 a second; published for an {figure.board}, another network: "
                f"{figure.walkers} at {INFERENCES_HZ:g} inferences a second, "
                f"{ENERGY_MJ[0]} to {ENERGY_MJ[1]} mJ each ({SOURCE})"
            )
    return lines
