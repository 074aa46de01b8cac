"""Pace of masks: which walkers are masked and embedded in a frame; the others are only tracked.

What tells walkers apart are the seconds in which they were seen, not the frames
(`benchmarks/frame_rate.py`). So, after a first answer that comes as early as it can, a walker is
masked and embedded `walker_fps` times per second, whatever the camera's rate. Turns are spread: of
many walkers no frame masks more than their share, those first who have waited longest. Whose masks
do not count gets one in every frame for a while: bad masks need many, and who moves otherwise than
walking is judged by all of them.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

EARLY = 0.25  # of a period: a frame that comes so much too early counts as on time
PATIENCE_S = 2.0  # masks in every frame of whom none counts
OVERDUE = 2.0  # periods: nobody waits longer, and who is out of sight takes no turn


@dataclass
class _Taken:
    """What was taken of a walker."""

    last_s: float  # media time of the last frame
    usable: int = 0  # frames that count
    held: int = 0  # frames that may count, once the walk is plain
    refused_s: float | None = None  # media time since when none counts


class MaskPace:
    """Decides who is masked and embedded in each frame."""

    def __init__(self, walker_fps: float | None, first: int) -> None:
        """Begin without walkers.

        walker_fps: frames per second of a walker that are taken; None: all
        first: usable frames until the first answer, all of which are taken
        """
        self._period_s = 1 / walker_fps if walker_fps else 0.0
        self._first = first
        self._taken: dict[int, _Taken] = {}
        self._time_s: float | None = None

    def due(self, walkers: Collection[int], time_s: float) -> set[int]:
        """Return who is masked in this frame.

        walkers: expected in it
        time_s: media time of the frame
        """
        step_s = 0.0 if self._time_s is None else max(0.0, time_s - self._time_s)
        self._time_s = time_s
        if not self._period_s:
            return set(walkers)
        at_once, in_turn = set[int](), list[tuple[float, int]]()
        for walker in walkers:
            taken = self._taken.get(walker)
            waited_s = math.inf if taken is None else abs(time_s - taken.last_s)
            if self._is_urgent(taken, time_s) or waited_s > OVERDUE * self._period_s:
                at_once.add(walker)
            elif waited_s >= (1 - EARLY) * self._period_s:
                in_turn.append((-waited_s, walker))
        share = math.ceil(len(walkers) * step_s / self._period_s)
        return at_once | {walker for _, walker in sorted(in_turn)[: max(1, share)]}

    def _is_urgent(self, taken: _Taken | None, time_s: float) -> bool:
        """Return whether every frame of a walker is wanted."""
        if taken is None:
            return False
        if taken.refused_s is not None:
            return time_s - taken.refused_s < PATIENCE_S
        return taken.usable + taken.held < self._first

    def take(self, walker: int, time_s: float, *, usable: bool | None) -> None:
        """Note that a walker was masked.

        Args:
            walker: Number of the track.
            time_s: Media time of the frame.
            usable: Whether the frame counts as one of a walk; None: it is too early to know.
        """
        taken = self._taken.setdefault(walker, _Taken(time_s))
        taken.last_s = time_s
        if usable is not False:
            taken.refused_s = None
        elif taken.refused_s is None:
            taken.refused_s = time_s
        if usable:
            taken.usable += 1 + taken.held
        taken.held = taken.held + 1 if usable is None else 0

    def forget(self, walker: int) -> None:
        """Forget a walker whose track is closed."""
        self._taken.pop(walker, None)


def pace_sentence(walker_fps: float | None) -> str | None:
    """Return what is reported of the pace, None where every frame is taken.

    >>> pace_sentence(12.5)
    'a walker is masked and embedded 12.5 times per second; the other frames are tracked alone'
    """
    if walker_fps is None:
        return None
    return (
        f"a walker is masked and embedded {walker_fps:g} times per second; "
        "the other frames are tracked alone"
    )
