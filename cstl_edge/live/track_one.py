"""One walker's box through time, and what it costs to take a detection for this walker."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from cstl_edge.live.segment import Box, Colours, Detection, box_iou, intersection

SURE_SCORE = 0.5  # from here a detection may start a track
REACH, REACH_PER_S = 0.3, 2.0  # body heights: how far a walker may be from where it was expected
MAX_REACH = 1.0
REUNION_REACH = 1.5  # body heights, after a merge
INSIDE = 0.6  # of the smaller of two boxes inside the other, at the border
MAX_RATIO = 1.6  # between the heights of one walker in two detections
VELOCITY_S = 0.3  # time constant of the velocity's average
SIZE_BLEND, COLOUR_BLEND = 0.5, 0.1  # weight of the newest measurement
COLOUR_UNIT = 40.0  # difference of 0..255 that counts like one body height
MAX_COLOUR = 60.0  # between what was lost and what is found
MAX_BORDER_COLOUR = 40.0  # stricter: where one leaves, another may come in
LOST_S = 0.3  # unseen for longer, a walker is found again by colour too
DECAY_S = 0.8  # in which the velocity of an unseen track dies away

CostFunction = Callable[["Track", Detection, float], "float | None"]  # the third is the time


@dataclass
class Track:
    """One walker's box through time. `detection` is None in frames where it was not seen alone."""

    id: int
    box: Box
    time_s: float  # when it was last seen
    born_s: float
    velocity: tuple[float, float] = (0.0, 0.0)  # of the box's foot centre, pixels per second
    hits: int = 1
    confirmed: bool = False
    merged: bool = False
    merged_since_s: float | None = None
    hidden_s: float = 0.0  # of late, inside somebody else's detection
    clipped: bool = False  # when last seen
    colours: Colours | None = None
    detection: Detection | None = None

    def predicted(self, time_s: float) -> Box:
        """Return where the box is expected."""
        # who is out of sight may have stopped: the velocity dies away
        elapsed = DECAY_S * (1 - math.exp(-(time_s - self.time_s) / DECAY_S))
        x, y, w, h = self.box
        return x + self.velocity[0] * elapsed, y + self.velocity[1] * elapsed, w, h

    def see(self, detection: Detection, time_s: float) -> None:
        """Take a detection as this walker."""
        gx, gy = _foot(detection.box)
        if not detection.shared:
            self._measure(detection, time_s)
            self.hidden_s = max(0.0, self.hidden_s - (time_s - self.time_s) / 2)
        w = (1 - SIZE_BLEND) * self.box[2] + SIZE_BLEND * detection.box[2]
        h = (1 - SIZE_BLEND) * self.box[3] + SIZE_BLEND * detection.box[3]
        self.box = (gx - w / 2, gy - h, w, h)
        self.hits += detection.score >= SURE_SCORE
        self.time_s, self.detection = time_s, detection
        self.merged, self.clipped = detection.shared, detection.clipped
        if not self.merged:
            self.merged_since_s = None
        elif self.merged_since_s is None:
            self.merged_since_s = time_s

    def _measure(self, detection: Detection, time_s: float) -> None:
        """Learn velocity and colours from a detection of this walker alone."""
        elapsed = time_s - self.time_s
        if elapsed > 0:
            # by time, so that 10 and 30 frames per second smooth the swing of the legs alike
            blend = 1 - math.exp(-elapsed / VELOCITY_S) if self.hits > 1 else 1.0
            (fx, fy), (gx, gy) = _foot(self.box), _foot(detection.box)
            measured = ((gx - fx) / elapsed, (gy - fy) / elapsed)
            self.velocity = (
                (1 - blend) * self.velocity[0] + blend * measured[0],
                (1 - blend) * self.velocity[1] + blend * measured[1],
            )
        if self.colours is None or detection.colours is None:
            self.colours = detection.colours or self.colours
        else:
            pairs = zip(self.colours, detection.colours, strict=True)
            self.colours = tuple((1 - COLOUR_BLEND) * a + COLOUR_BLEND * b for a, b in pairs)


def overlap_cost(least: float) -> CostFunction:
    """Return a cost that asks for an intersection over union of at least `least`."""

    def cost(track: Track, detection: Detection, time_s: float) -> float | None:
        if _is_another(track, detection, time_s):
            return None
        overlap = box_iou(track.predicted(time_s), detection.box)
        return 1 - overlap if overlap >= least else None

    return cost


def distance_cost(track: Track, detection: Detection, time_s: float) -> float | None:
    """Return the distance of the centres in body heights, None when nobody walks so far so soon.

    Whoever enters or leaves through the border changes size at once: there, lying in one another
    is enough.
    """
    if _is_another(track, detection, time_s):
        return None
    expected, found = track.predicted(time_s), detection.box
    larger, smaller = max(expected[3], found[3]), max(min(expected[3], found[3]), 1e-9)
    if track.clipped or detection.clipped:
        least = max(min(expected[2] * expected[3], found[2] * found[3]), 1e-9)
        alike = (colour_distance(track, detection) or 0.0) <= MAX_BORDER_COLOUR
        if alike and intersection(expected, found) > INSIDE * least:
            return MAX_REACH
    if larger > MAX_RATIO * smaller:
        return None
    (ax, ay), (bx, by) = _centre(expected), _centre(found)
    distance = math.hypot(ax - bx, ay - by) / larger
    elapsed_s = time_s - track.time_s
    return distance if distance <= min(REACH + REACH_PER_S * elapsed_s, MAX_REACH) else None


def reunion_cost(track: Track, detection: Detection, time_s: float) -> float | None:
    """Return what it costs that a walker comes out of a merge as this detection.

    Where two people meet, position alone cannot tell whether they passed or turned back: the
    colours of their clothes count as much.
    """
    if detection.shared:
        return None
    (ax, ay), (bx, by) = _centre(track.predicted(time_s)), _centre(detection.box)
    distance = math.hypot(ax - bx, ay - by) / max(track.box[3], 1e-9)
    if distance > REUNION_REACH:
        return None
    return distance + (colour_distance(track, detection) or 0.0) / COLOUR_UNIT


def colour_distance(track: Track, detection: Detection) -> float | None:
    """Return the mean difference of colours, None where one of them is not known."""
    if track.colours is None or detection.colours is None:
        return None
    pairs = zip(track.colours, detection.colours, strict=True)
    return sum(abs(a - b) for a, b in pairs) / len(track.colours)


def _is_another(track: Track, detection: Detection, time_s: float) -> bool:
    """Tell that what turns up where somebody was lost wears other clothes."""
    if time_s - track.time_s <= LOST_S:
        return False
    return (colour_distance(track, detection) or 0.0) > MAX_COLOUR


def _centre(box: Box) -> tuple[float, float]:
    return box[0] + box[2] / 2, box[1] + box[3] / 2


def _foot(box: Box) -> tuple[float, float]:
    return box[0] + box[2] / 2, box[1] + box[3]
