"""Which tracks of one camera are one stay: by time, place, clothes colour and walk.

A track that begins goes on with a stay whose last track ended a moment ago within reach, in like
colours and not the other way; where the walk of both is known and contradicts that, they are parted
again. A track that began out of reach is joined later if the walks are alike enough. Pixels are of
the picture, times of the camera.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from cstl_edge.arrays import Silhouettes
from cstl_edge.gallery.match import SeenWalk
from cstl_edge.live.boxes import Box
from cstl_edge.live.pipeline.track_state import TrackState
from cstl_edge.live.segmentation.base import Colours

STITCH_S = 12.0  # a stay goes on after so long out of sight: behind a pole, a car, a door
REACH, REACH_PER_S = 0.7, 0.9  # body heights, and body heights per second: a brisk walk
MAX_RATIO = 1.7  # between the body heights before and after
MAX_COLOUR = 7.0
"""Mean difference, 0..255, between the clothes before and after on one camera: on synthetic streets
it is 2 to 5 for one person, 5 to 35 for two (`benchmarks/serve/visits.py`)."""
BORDER = 0.01  # of the width, within which a box touches the border
PLAIN_SPEED = 0.35  # body heights per second, from which a direction is plain
LOST_COLOUR_S = 2.0  # from so long on colours have to be known to be alike
VELOCITY_S = 0.5  # time constant of the velocity's average
VELOCITY_DIES_S = 1.5  # in which that of somebody out of sight dies away
COLOUR_BLEND = 0.1
STRIP_EVERY, STRIP_MOST = 4, 24  # frames between silhouettes that are kept for a strip


@dataclass(eq=False)  # arrays have no equality
class VisitTrack:
    """A track of a stay: where it was, and its clothes."""

    run: str  # life of the worker
    number: int
    camera: str
    state: TrackState
    first_box: Box
    born_s: float
    born_utc: datetime
    width: float = 0.0  # of the picture
    box: Box = (0.0, 0.0, 0.0, 0.0)
    last_s: float = 0.0
    last_utc: datetime | None = None
    velocity: tuple[float, float] = (0.0, 0.0)  # of the foot, pixels per second
    colours: Colours | None = None
    zone: str | None = None
    is_open: bool = True
    settled: bool = False  # the walk has confirmed the stitch, or there was none
    strip: list[Silhouettes] = field(default_factory=list)
    height_ratio: float = 1.0  # of the last box to the first: above 1 for who comes nearer
    _frames: int = 0

    @property
    def walk(self) -> SeenWalk | None:
        """Everything seen of its walk, None before the first window."""
        return self.state.walk() if self.state.windows else None

    @property
    def view(self) -> str | None:
        """How the walker is seen: left, right, towards or away; None where that is not plain."""
        if self.height_ratio > APPROACH:
            return "towards"
        if self.height_ratio < 1 / APPROACH:
            return "away"
        return self.state.view

    def see(
        self,
        box: Box,
        time_s: float,
        utc: datetime,
        colours: Colours | None,
        silhouette: Silhouettes | None,
    ) -> None:
        """Take a frame in which it was seen.

        Args:
            box: Where it is.
            time_s: Time of the camera.
            utc: Time of day.
            colours: Of the clothes, where the segmenter gives them.
            silhouette: [h, w] of a usable frame.
        """
        elapsed = time_s - self.last_s
        if self._frames and elapsed > 0:
            weight = 1 - math.exp(-elapsed / VELOCITY_S)
            moved = [(b - a) / elapsed for a, b in zip(foot(self.box), foot(box), strict=True)]
            x, y = (
                (1 - weight) * v + weight * m for v, m in zip(self.velocity, moved, strict=True)
            )
            self.velocity = (x, y)
        self.box, self.last_s, self.last_utc = box, time_s, utc
        self.height_ratio = box[3] / max(self.first_box[3], 1e-6)
        if colours is not None:
            self.colours = (
                tuple(
                    (1 - COLOUR_BLEND) * a + COLOUR_BLEND * b
                    for a, b in zip(self.colours, colours, strict=True)
                )
                if self.colours
                else colours
            )
        if silhouette is not None and self._frames % STRIP_EVERY == 0:
            self.strip = [*self.strip, silhouette][-STRIP_MOST:]
        self._frames += 1


APPROACH = 1.35  # times the height at the beginning, from which somebody comes towards the camera


def foot(box: Box) -> tuple[float, float]:
    """Return the middle of the lower edge of a box."""
    return box[0] + box[2] / 2, box[1] + box[3]


def colour_difference(a: Colours | None, b: Colours | None) -> float | None:
    """Return the mean difference of clothes, 0..255; None where one is not known."""
    if a is None or b is None or len(a) != len(b):
        return None
    return float(np.mean(np.abs(np.subtract(a, b))))


def place_cost(before: VisitTrack, track: VisitTrack) -> float | None:
    """Return how far a new track begins from where the last one is expected, in body heights.

    None where that is too far to walk meanwhile, or the clothes are others.
    """
    elapsed = track.born_s - before.last_s
    if before.run != track.run or not 0 <= elapsed <= STITCH_S:
        return None
    heights = sorted((before.box[3], track.first_box[3]))
    if heights[1] > MAX_RATIO * max(heights[0], 1e-6):
        return None
    gone = VELOCITY_DIES_S * (1 - math.exp(-elapsed / VELOCITY_DIES_S))
    expected = [p + v * gone for p, v in zip(foot(before.box), before.velocity, strict=True)]
    distance = math.dist(expected, foot(track.first_box)) / heights[1]
    if distance > REACH + REACH_PER_S * elapsed:
        return None
    if _turns_back(before, track) or not _same_border(before, track):
        return None
    difference = colour_difference(before.colours, track.colours)
    if difference is None:
        return distance if elapsed <= LOST_COLOUR_S else None
    return distance + difference / MAX_COLOUR if difference <= MAX_COLOUR else None


def _border(box: Box, width: float) -> str | None:
    """Return the border of the picture that a box touches, None where it is inside."""
    margin = BORDER * width
    if box[0] <= margin:
        return "left"
    return "right" if box[0] + box[2] >= width - margin else None


def _same_border(before: VisitTrack, track: VisitTrack) -> bool:
    """Tell whether who left through a border comes back through it, as far as anybody left."""
    border = _border(before.box, before.width)
    return border is None or border == _border(track.first_box, before.width)


def _turns_back(before: VisitTrack, track: VisitTrack) -> bool:
    """Tell whether a track plainly goes the other way than the one before."""
    limit = PLAIN_SPEED * track.box[3]
    return before.velocity[0] * track.velocity[0] < 0 and all(
        abs(one.velocity[0]) > limit for one in (before, track)
    )


def nearest_before(candidates: Sequence[VisitTrack], track: VisitTrack) -> VisitTrack | None:
    """Return the track that a new one goes on with, None where there is none within reach.

    Args:
        candidates: Tracks that have ended.
        track: The one that begins; its first frame is known.
    """
    placed = ((place_cost(one, track), n) for n, one in enumerate(candidates))
    costs = [(cost, n) for cost, n in placed if cost is not None]
    return candidates[min(costs)[1]] if costs else None
