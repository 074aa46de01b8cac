"""Filter of a track's frames: each frame shows a person walking, or is refused with one reason.

The shape is checked frame by frame (`silhouette.refusal`), the walk over the last second: a
walker's foot point travels by a share of the body's height, or, walking towards the camera or on
the spot, the legs open and close in rhythm. Somebody who changes height like an acrobat or travels
like a runner moves, but does not walk. Lengths are in body heights, so the same numbers hold near
and far.
"""

from __future__ import annotations

import math
from collections import deque
from enum import Enum

import numpy as np

from cstl_edge.arrays import Bools, Doubles, Mask
from cstl_edge.live.segmentation.base import Detection
from cstl_edge.live.tracking.track import Track
from cstl_edge.silhouette import MIN_HEIGHT_PX, Refusal, refusal

SPAN_S = 1.0  # of the past that decides about walking
MIN_SPAN_S = 0.5  # less of it decides nothing
MIN_POINTS = 4  # positions in it: with fewer, the camera is too slow to decide
MIN_SPEED, MAX_SPEED = 0.25, 2.2  # body heights per second: strolling 0.4, hurrying 1.2, running 2
MIN_APPROACH = 0.08  # growth of the height per second: coming closer or going away
MAX_HEIGHT_CHANGE = 0.08  # deviation of log height from its trend: seen 0.02 walking, 0.2 crouching
STEADY_HEIGHT = 0.03  # and of somebody who hardly travels: jumping jacks 0.04
BROKEN_HEIGHT = 0.35  # of log height from the median: half of a person was seen, or two
MAX_BROKEN = 0.15  # of the frames: more of them are no fault of the mask
LEG_SHARE = 0.35  # of the height: the part whose width shows the steps
MIN_LEG_SWING = 0.04  # standard deviation of the legs' width
STEP_S = (0.3, 0.9)  # time from one step to the next
MIN_RHYTHM = 0.3  # autocorrelation of the legs' width at the step's lag
SHRINKS = 0.85  # of the least height: so far may shrink who had it; boxes of small people jitter
MIN_SCORE = 0.35  # below it the segmenter finds nobody in the blob


class Reason(str, Enum):
    """Reason why a frame must not be used; the values are shown to people and stand in events."""

    TOO_FEW = "too few frames"
    TOO_SMALL = Refusal.TOO_SMALL.value
    CLIPPED = Refusal.CLIPPED.value
    EMPTY = Refusal.EMPTY.value
    NOT_PERSON = Refusal.NOT_PERSON.value
    STANDING = "standing still"
    NOT_WALKING = "moving, but not walking"
    MERGED = "merged with a neighbour"
    HIDDEN = "out of sight"
    MIXED = "two people in one track"
    DOUBT = "may have become another person"


class WalkFilter:
    """Filters the frames of one track."""

    def __init__(self, *, min_height_px: int = MIN_HEIGHT_PX, demand_walking: bool = True) -> None:
        """Start without a past.

        min_height_px: least height of a person in the frame; who had it may become a little smaller
        demand_walking: also refuse frames in which the person stands or moves otherwise
        """
        self._min_height_px = min_height_px
        self._demand_walking = demand_walking
        self._tall = False
        self._past: deque[tuple[float, float, float, float, float]] = deque()
        self.heading: float | None = None
        """Body heights per second to the right of the picture; None while that is not known."""
        self.reason: Reason | None = Reason.TOO_FEW
        """What `check` said last."""

    def check(
        self, track: Track, time_s: float, camera: tuple[float, float] = (0.0, 0.0)
    ) -> Reason | None:
        """Return why this frame of the track must not be used, None when it may be.

        TOO_FEW means that it is too early to decide whether this is a walk.

        Args:
            track: The track.
            time_s: Media time of the frame in seconds.
            camera: How far a thing at rest has moved in the picture so far, x and y in pixels.
        """
        self.reason = self._checked(track, time_s, camera)
        return self.reason

    def _checked(self, track: Track, time_s: float, camera: tuple[float, float]) -> Reason | None:
        detection = track.detection
        if track.merged:
            return Reason.MERGED
        if detection is None:
            return Reason.HIDDEN
        shape = self._check_shape(detection)
        if shape is None or shape is Reason.NOT_PERSON:
            x, y, w, h = detection.box
            legs = leg_width(detection.mask)
            foot = x + w / 2 - camera[0], y + h - camera[1]
            self._past.append((time_s, *foot, h, legs))
        while self._past and self._past[0][0] < time_s - SPAN_S - 1e-6:
            self._past.popleft()
        if shape is not None:
            return shape
        reason = self._check_walk()
        return reason if self._demand_walking else None

    def _check_shape(self, detection: Detection) -> Reason | None:
        if detection.clipped:
            return Reason.CLIPPED
        self._tall |= detection.box[3] >= self._min_height_px
        if detection.box[3] < self._min_height_px * (SHRINKS if self._tall else 1):
            return Reason.TOO_SMALL
        if detection.score < MIN_SCORE:
            return Reason.NOT_PERSON
        # the mask has a scale of its own: its height in pixels is not that in the frame
        refused = refusal(detection.mask, min_height_px=0)
        return None if refused is None else Reason(refused.value)

    def _check_walk(self) -> Reason | None:
        past = np.array(self._past)  # [t, 5]: time, foot x, foot y, height, leg width
        span = past[-1, 0] - past[0, 0]
        if len(past) < MIN_POINTS or span < MIN_SPAN_S:
            return Reason.TOO_FEW
        height, broken = float(np.median(past[:, 3])), broken_heights(past[:, 3])
        if broken.mean() > MAX_BROKEN:
            broken[:] = False  # that is how this person moves
        past = past[~broken]
        times = past[:, 0] - past[0, 0]
        growth, change = _trend(times, np.log(np.maximum(past[:, 3], 1)))
        self.heading = _trend(times, past[:, 1])[0] / height
        speed = math.hypot(self.heading, _trend(times, past[:, 2])[0] / height)
        if change > MAX_HEIGHT_CHANGE or speed > MAX_SPEED:
            return Reason.NOT_WALKING
        if broken[-1]:
            return Reason.NOT_PERSON
        if speed >= MIN_SPEED:
            return None
        approaches = abs(growth) >= MIN_APPROACH
        if not approaches and not has_step_rhythm(times, past[:, 4]):
            return Reason.STANDING
        return None if change <= STEADY_HEIGHT else Reason.NOT_WALKING


def broken_heights(heights_px: Doubles) -> Bools:
    """Return which of some heights [t] are those of half a person, or of two."""
    heights_px = np.maximum(heights_px, 1)
    broken: Bools = np.abs(np.log(heights_px / np.median(heights_px))) > BROKEN_HEIGHT
    return broken


def leg_width(mask: Mask) -> float:
    """Return the width of the lowest part of a person, as a share of the height."""
    height = mask.shape[0]
    legs = mask[int(height * (1 - LEG_SHARE)) :] > 127
    columns = np.flatnonzero(legs.any(axis=0))
    return float(columns[-1] - columns[0] + 1) / height if columns.size else 0.0


def has_step_rhythm(times_s: Doubles, widths: Doubles) -> bool:
    """Return whether the width of the legs swings in the rhythm of steps.

    times_s, widths: [t] seconds and body heights, at least MIN_POINTS, maybe unevenly spaced
    """
    if float(np.std(widths)) < MIN_LEG_SWING:
        return False
    step = float(np.median(np.diff(times_s)))
    if step <= 0 or step > STEP_S[0] / 2:
        return False  # too slow a camera to see a rhythm
    even = np.interp(np.arange(times_s[0], times_s[-1] + step / 2, step), times_s, widths)
    even = even - even.mean()
    power = float(even @ even)
    lags = range(max(1, math.ceil(STEP_S[0] / step)), min(len(even) - 2, int(STEP_S[1] / step)) + 1)
    rhythm = [
        float(even[lag:] @ even[:-lag]) / power * len(even) / (len(even) - lag) for lag in lags
    ]
    return bool(rhythm) and max(rhythm) >= MIN_RHYTHM


def _trend(times_s: Doubles, values: Doubles) -> tuple[float, float]:
    """Return the slope per second of a line through the values, and the deviation from it."""
    centred = times_s - times_s.mean()
    slope = float(centred @ values) / max(float(centred @ centred), 1e-12)
    rest = values - values.mean() - slope * centred
    return slope, float(np.std(rest))
