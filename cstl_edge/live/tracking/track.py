"""Track of one person: where the body is expected, how it moves, what it wears.

A body's place is its axis on the ground: the middle of the upper body, which neither the swing of
the legs nor a shadow moves, and the row of the feet. Of somebody on the way out through a side of
the picture only a part is seen: there the track goes on as it went before, and its box reaches
beyond the picture. Lengths in body heights are written as such, all others are pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from cstl_edge.arrays import Floats, Mask
from cstl_edge.live.boxes import Box
from cstl_edge.live.clothes import clothes_distance
from cstl_edge.live.segmentation.base import Detection
from cstl_edge.opencv import import_cv2

cv2 = import_cv2()

SURE_SCORE = 0.5  # from here a detection may start a track
VELOCITY_S = 0.4  # time constant of the velocity's average
DECAY_S = 0.8  # in which the velocity of an unseen track dies away
SIZE_BLEND, AREA_BLEND = 0.5, 0.1  # weight of the newest measurement
UPPER_BODY = 0.5  # of the height
LEAVING = 0.15  # body heights per second towards a side of the picture
PART_WIDTH = 0.42  # of the height: width of somebody who has only been seen in part
LEAST_VIEWS = 3  # from which somebody's clothes are known
MOST_VIEWS = 75  # over which they are averaged
MISMATCH_S = 0.25  # time constant of the average distance to one's own clothes
PROOF = 0.3  # distance to them that leaves no doubt
OUTGROWN = 1.4  # times the usual area: a detection holds more than this person

Size = tuple[int, int]  # height, width of the picture


@dataclass(frozen=True)
class Sighting:
    """A detection, and what is measured of it for tracking."""

    detection: Detection
    axis_px: float  # column of the upper body's middle
    area: float  # of the mask, in square pixels of the frame
    side: int  # of the picture by which it is cut: -1 left, 1 right, 0 neither


@dataclass(eq=False)  # arrays have no equality
class Track:
    """One person's box through time; `detection` is None in frames without one of its own."""

    id: int
    box: Box  # of the whole body, also where it reaches beyond the picture
    time_s: float  # when it was last seen
    born_s: float
    picture: Size | None = None
    velocity: tuple[float, float] = (0.0, 0.0)  # of the axis, pixels per second
    hits: int = 1
    confirmed: bool = False
    ended: bool = False  # to be closed with this frame
    doubt: bool = False  # because it may have become another person
    merged: bool = False
    merged_since_s: float | None = None
    alone_s: float = 0.0  # seen whole, with nobody else near
    hidden_s: float = 0.0  # of late, inside somebody else's detection
    clipped: bool = False  # when last seen
    side: int = 0  # of the picture by which it was cut then
    seen_box: Box = (0.0, 0.0, 0.0, 0.0)  # of its last detection
    area: float = 0.0  # usual area of the mask, 0 before it is known
    clothes: Floats | None = None
    views: int = 0  # in `clothes`
    unproven_since_s: float | None = None  # in a meeting, until seen in its own clothes
    mismatch: float = 0.0  # of late, distance of its detections to `clothes`
    detection: Detection | None = None
    expected: Box = field(default=(0.0, 0.0, 0.0, 0.0))  # in this frame, inside the picture

    def body(self, time_s: float) -> Box:
        """Return the expected box of the whole body."""
        # somebody out of sight may have stopped: the velocity dies away
        elapsed = DECAY_S * (1 - math.exp(-(time_s - self.time_s) / DECAY_S))
        (x, y, w, h), (vx, vy) = self.box, self.velocity
        return x + vx * elapsed, y + vy * elapsed, w, h

    def predicted(self, time_s: float) -> Box:
        """Return the part of the expected box that is in the picture, at least a pixel of it."""
        x, y, w, h = self.body(time_s)
        if self.picture is None:
            return x, y, w, h
        end = float(self.picture[1])
        if x >= 0.0 and x + w <= end and w >= 1.0:  # as most are
            return x, y, w, h
        left = min(max(x, 0.0), end - 1.0)
        right = max(min(x + w, end), 1.0)
        return left, y, max(right - left, 1.0), h

    def clothes_distance(self, detection: Detection) -> float | None:
        """Return the distance to the clothes of a detection, None where either is not known."""
        if self.clothes is None or self.views < LEAST_VIEWS or detection.clothes is None:
            return None
        return clothes_distance(self.clothes, detection.clothes)

    def leaves(self, side: int) -> bool:
        """Return whether this person is on the way out at a side of the picture."""
        return side * self.velocity[0] > LEAVING * self.box[3]

    def inward(self, sighting: Sighting, time_s: float) -> float:
        """Return how far a sighting is behind somebody on the way out, in body heights.

        Args:
            sighting: Cut by the border or not.
            time_s: Media time in seconds.
        """
        x, _, w, h = self.body(time_s)
        axis = self._axis_at_border(sighting) if sighting.side else sighting.axis_px
        return -(sighting.side or self.side) * (axis - x - w / 2) / h

    def update(self, sighting: Sighting, time_s: float, *, alone: bool) -> None:
        """Take a sighting as this person.

        Args:
            sighting: Where they are seen.
            time_s: Media time in seconds.
            alone: Whether nobody else is expected in it.
        """
        detection, elapsed = sighting.detection, time_s - self.time_s
        out = self.leaves(sighting.side)
        x, y = sighting.axis_px, detection.box[1] + detection.box[3]
        w, h = (
            old + SIZE_BLEND * (new - old)
            for old, new in zip(self.box[2:], detection.box[2:], strict=True)
        )
        if out:
            left, _, w, _ = self.body(time_s)
            x = left + w / 2
        if not detection.shared:
            self._measure_velocity(sighting, x, elapsed, out=out)
            self.hidden_s = max(0.0, self.hidden_s - elapsed / 2)
            if alone:
                self._measure_looks(sighting, elapsed, out=out)
        self._measure_proof(detection, time_s, alone=alone)
        self.box = (x - w / 2, y - h, w, h)
        self.hits += detection.score >= SURE_SCORE
        self.time_s, self.detection, self.seen_box = time_s, detection, detection.box
        self.merged, self.clipped, self.side = detection.shared, detection.clipped, sighting.side
        if not self.merged:
            self.merged_since_s = None
        elif self.merged_since_s is None:
            self.merged_since_s = time_s

    def _measure_velocity(self, sighting: Sighting, x: float, elapsed: float, *, out: bool) -> None:
        """Average the velocity with what the axis, or at the border the inner edge, has moved."""
        side, detection = sighting.side, sighting.detection
        if elapsed <= 0 or out or self.merged:
            return
        # by time, so that 10 and 30 frames per second smooth alike
        weight = 1 - math.exp(-elapsed / VELOCITY_S)
        vx, vy = self.velocity
        if side and side == self.side:
            before, after = (
                box[0] + box[2] if side < 0 else box[0] for box in (self.seen_box, detection.box)
            )
            self.velocity = vx + weight * ((after - before) / elapsed - vx), vy
        elif not self.clipped and not detection.clipped:
            weight = weight if self.hits > 1 else 1.0
            foot = detection.box[1] + detection.box[3]
            dx = (x - self.box[0] - self.box[2] / 2) / elapsed
            dy = (foot - self.box[1] - self.box[3]) / elapsed
            self.velocity = vx + weight * (dx - vx), vy + weight * (dy - vy)

    def _measure_looks(self, sighting: Sighting, elapsed: float, *, out: bool) -> None:
        """Average area and clothes with those of a sighting of this person alone."""
        self.alone_s += elapsed
        if not sighting.detection.clipped:
            self.area += (sighting.area - self.area) * (AREA_BLEND if self.area else 1.0)
        seen = sighting.detection.clothes
        if seen is None:
            return
        if self.clothes is None:
            self.clothes, self.views = seen, 1
            return
        distance = clothes_distance(self.clothes, seen)
        self.mismatch += (1 - math.exp(-elapsed / MISMATCH_S)) * (distance - self.mismatch)
        if out:  # somebody else may already be coming in
            return
        self.views += 1
        mean = self.clothes + (seen - self.clothes) / min(self.views, MOST_VIEWS)
        length = max(math.sqrt(float(np.dot(mean, mean))), 1e-9)
        self.clothes = np.asarray(mean / length, np.float32)

    def _measure_proof(self, detection: Detection, time_s: float, *, alone: bool) -> None:
        """Note that a meeting begins, or that this is the same person, where the clothes say so."""
        distance = self.clothes_distance(detection)
        if alone and not detection.shared if distance is None else distance <= PROOF:
            self.unproven_since_s = None
        elif detection.shared and self.unproven_since_s is None:
            self.unproven_since_s = time_s

    def _axis_at_border(self, sighting: Sighting) -> float:
        """Return where the axis of somebody who is cut by a side is, from the inner edge."""
        x, _, w, _ = sighting.detection.box
        least = 0.0 if self.side else PART_WIDTH * self.box[3]
        half = max(self.box[2], least) / 2
        return x + w - half if sighting.side < 0 else x + half


def sighting_of(detection: Detection, picture: Size | None) -> Sighting:
    """Measure a detection; picture: height and width, None where nobody knows."""
    x, _, w, h = detection.box
    scale = h / detection.mask.shape[0]
    side = 0
    if picture is not None and detection.clipped:
        side = -1 if x <= 1.5 else 1 if x + w >= picture[1] - 1.5 else 0
    area = cv2.countNonZero(detection.mask) * scale * scale
    return Sighting(detection, x + w * upper_middle(detection.mask), area, side)


def upper_middle(mask: Mask) -> float:
    """Return the column of the upper body's middle, as a share of the mask's width."""
    upper = mask[: max(1, int(len(mask) * UPPER_BODY))]
    moments = cv2.moments(upper, binaryImage=True)
    return (moments["m10"] / moments["m00"] + 0.5) / mask.shape[1] if moments["m00"] else 0.5
