"""Multi-object tracker: detections of a frame in, tracks with ids out, masks carried along.

In the manner of ByteTrack: a constant-velocity prediction by the wall clock, then rounds of
matching (sure detections by overlap, unsure ones by overlap, the rest by distance, for cameras of
few frames per second). Matching is greedy from the best pair down, ties broken by geometry: among
walkers the best overlap is nearly always mutual, so the optimal assignment gives the same pairs,
and the result does not depend on the order of the detections. When one detection covers two
expected people, both are marked as merged and go on by prediction alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from cstl_edge.live.boxes import Box, box_iou, hides, intersection
from cstl_edge.live.segmentation.base import Colours, Detection

SURE_SCORE = 0.5  # from here a detection may start a track
REACH, REACH_PER_S = 0.3, 2.0  # body heights: distance from the expected place
MAX_REACH = 1.0
REUNION_REACH = 1.5  # body heights, after a merge
INSIDE = 0.6  # of the smaller of two boxes inside the other, at the border
MAX_RATIO = 1.6  # between the heights of one walker in two detections
VELOCITY_S = 0.3  # time constant of the velocity's average
SIZE_BLEND, COLOUR_BLEND = 0.5, 0.1  # weight of the newest measurement
COLOUR_UNIT = 40.0  # difference of 0..255 that counts like one body height
MAX_COLOUR = 60.0  # difference between a lost person and a detection
MAX_BORDER_COLOUR = 40.0  # stricter at the border: where one leaves, another may come in
LOST_S = 0.3  # a person unseen for longer is matched by colour too
DECAY_S = 0.8  # in which the velocity of an unseen track dies away
MIN_IOU, MIN_IOU_UNSURE = 0.2, 0.4
CONFIRM_HITS, CONFIRM_S = 3, 0.1  # sure detections, and seconds, before a track is born
KEEP_LOST_S = 1.5  # an unseen track stays open this long
BRIEF_SHARE = 0.2  # of that, for tentative tracks and people last seen at the border
MISSED_FRAMES = 2.5  # and at least this many frames, for slow cameras
MAX_GAP_S = 3.0  # a hole in time closes all tracks
MAX_TRACKS = 64
FRAGMENT_AREA = 0.45  # of the larger one: a track this small inside another is a part of it
MAX_MERGED_S = 4.0  # without having been seen alone
MAX_HIDDEN_S = 1.5  # two people who pass each other are one blob for about a second

CostFunction = Callable[["Track", Detection, float], "float | None"]  # the third is the time


@dataclass
class Track:
    """One person's box through time; `detection` is None in frames without one of its own."""

    id: int
    box: Box
    time_s: float  # when it was last seen
    born_s: float
    velocity: tuple[float, ...] = (0.0, 0.0)  # of the box's foot centre, pixels per second
    hits: int = 1
    confirmed: bool = False
    merged: bool = False
    merged_since_s: float | None = None
    hidden_s: float = 0.0  # of late, inside somebody else's detection
    clipped: bool = False  # when last seen
    colours: Colours | None = None
    detection: Detection | None = None

    def predicted(self, time_s: float) -> Box:
        """Return the expected box."""
        # somebody out of sight may have stopped: the velocity dies away
        elapsed = DECAY_S * (1 - math.exp(-(time_s - self.time_s) / DECAY_S))
        x, y, w, h = self.box
        return x + self.velocity[0] * elapsed, y + self.velocity[1] * elapsed, w, h

    def update(self, detection: Detection, time_s: float) -> None:
        """Take a detection as this person."""
        if not detection.shared:
            self._measure(detection, time_s)
            self.hidden_s = max(0.0, self.hidden_s - (time_s - self.time_s) / 2)
        x, y = _foot(detection.box)
        w, h = _blend(self.box[2:], detection.box[2:], SIZE_BLEND)
        self.box = (x - w / 2, y - h, w, h)
        self.hits += detection.score >= SURE_SCORE
        self.time_s, self.detection = time_s, detection
        self.merged, self.clipped = detection.shared, detection.clipped
        if not self.merged:
            self.merged_since_s = None
        elif self.merged_since_s is None:
            self.merged_since_s = time_s

    def _measure(self, detection: Detection, time_s: float) -> None:
        """Average velocity and colours with those of a detection of this person alone."""
        elapsed = time_s - self.time_s
        if elapsed > 0:
            # by time, so that 10 and 30 frames per second smooth the swing of the legs alike
            weight = 1 - math.exp(-elapsed / VELOCITY_S) if self.hits > 1 else 1.0
            moves = zip(_foot(self.box), _foot(detection.box), strict=True)
            measured = [(after - before) / elapsed for before, after in moves]
            self.velocity = _blend(self.velocity, measured, weight)
        if self.colours is None or detection.colours is None:
            self.colours = detection.colours or self.colours
        else:
            self.colours = _blend(self.colours, detection.colours, COLOUR_BLEND)


def overlap_cost(least: float, track: Track, detection: Detection, time_s: float) -> float | None:
    """Return 1 - intersection over union of a pair, None where the overlap is below `least`.

    Args:
        least: Intersection over union from which a pair is possible.
        track: Its box is predicted for `time_s`.
        detection: The candidate.
        time_s: Media time of the detection in seconds.
    """
    overlap = box_iou(track.predicted(time_s), detection.box)
    return 1 - overlap if overlap >= least else None


def distance_cost(track: Track, detection: Detection, time_s: float) -> float | None:
    """Return the distance of the centres in body heights, None when that is too far to walk.

    Somebody who enters or leaves through the border changes size at once: there, a box inside the
    other is enough.

    Args:
        track: Its box is predicted for `time_s`.
        detection: The candidate.
        time_s: Media time of the detection in seconds.
    """
    expected, box = track.predicted(time_s), detection.box
    larger, smaller = max(expected[3], box[3]), max(min(expected[3], box[3]), 1e-9)
    if track.clipped or detection.clipped:
        least = max(min(expected[2] * expected[3], box[2] * box[3]), 1e-9)
        alike = colour_distance(track, detection) <= MAX_BORDER_COLOUR
        if alike and intersection(expected, box) > INSIDE * least:
            return MAX_REACH
    if larger > MAX_RATIO * smaller:
        return None
    distance = math.dist(_centre(expected), _centre(box)) / larger
    reach = min(REACH + REACH_PER_S * (time_s - track.time_s), MAX_REACH)
    return distance if distance <= reach else None


def reunion_cost(track: Track, detection: Detection, time_s: float) -> float | None:
    """Return the cost of matching a track that comes out of a merge, None when it is too far.

    Where two people meet, position alone does not show whether they passed or turned back: the
    colours of their clothes count as much.

    Args:
        track: Its box is predicted for `time_s`.
        detection: The candidate.
        time_s: Media time of the detection in seconds.
    """
    if detection.shared:
        return None
    between = math.dist(_centre(track.predicted(time_s)), _centre(detection.box))
    distance = between / max(track.box[3], 1e-9)
    if distance > REUNION_REACH:
        return None
    return distance + colour_distance(track, detection) / COLOUR_UNIT


def colour_distance(track: Track, detection: Detection) -> float:
    """Return the mean difference of colours, 0..255; 0 where one of them is not known."""
    if track.colours is None or detection.colours is None:
        return 0.0
    pairs = zip(track.colours, detection.colours, strict=True)
    return sum(abs(a - b) for a, b in pairs) / len(track.colours)


def _is_another(track: Track, detection: Detection, time_s: float) -> bool:
    """Return whether a detection where somebody was lost wears other clothes."""
    return time_s - track.time_s > LOST_S and colour_distance(track, detection) > MAX_COLOUR


def _blend(old: Sequence[float], new: Sequence[float], weight: float) -> tuple[float, ...]:
    """Return the weighted mean of two vectors; weight: of the new one, 0..1."""
    return tuple((1 - weight) * a + weight * b for a, b in zip(old, new, strict=True))


def _centre(box: Box) -> tuple[float, float]:
    return box[0] + box[2] / 2, box[1] + box[3] / 2


def _foot(box: Box) -> tuple[float, float]:
    return box[0] + box[2] / 2, box[1] + box[3]


@dataclass(frozen=True)
class TrackUpdate:
    """Changes of one frame. Ids are never used again."""

    active: list[Track] = field(default_factory=list)  # confirmed, seen or merged in this frame
    born: list[Track] = field(default_factory=list)
    lost: list[Track] = field(default_factory=list)  # confirmed, unseen in this frame
    closed: list[Track] = field(default_factory=list)


class Tracker:
    """Tracks boxes; one tracker per source."""

    def __init__(self, *, max_tracks: int = MAX_TRACKS) -> None:
        """Start without tracks; max_tracks: at once, further people are not followed."""
        self._max_tracks = max_tracks
        self._tracks: list[Track] = []
        self.unfollowed = 0  # detections that started no track because there were `max_tracks`
        self._next_id = 1
        self._time_s: float | None = None
        self._step_s = 0.0  # between the last two frames

    def expected(self, time_s: float) -> list[Box]:
        """Return the expected boxes of the confirmed tracks, for the segmenter."""
        return [t.predicted(time_s) for t in self._tracks if t.confirmed]

    def update(self, detections: Sequence[Detection], time_s: float) -> TrackUpdate:
        """Take the detections of one frame; a step backwards in time closes all tracks."""
        step_s = 0.0 if self._time_s is None else time_s - self._time_s
        closed = [] if 0 <= step_s <= MAX_GAP_S else self.finish().closed
        self._time_s, self._step_s = time_s, 0.0 if closed else step_s
        for track in self._tracks:
            track.detection = None
        # one order for the same set, so that ties and new ids do not depend on the caller's
        in_order = sorted(detections, key=lambda d: (d.box, d.score))
        left = self._match(self._merge_covered(in_order, time_s), time_s)
        born = self._start(left, time_s)
        closed += self._close_stale(time_s)
        alive = [t for t in self._tracks if t.confirmed]
        return TrackUpdate(
            active=[t for t in alive if t.time_s == time_s or t.merged],
            born=born,
            lost=[t for t in alive if t.time_s != time_s and not t.merged],
            closed=closed,
        )

    def finish(self) -> TrackUpdate:
        """Close everything, at the end of a source."""
        closed = [t for t in self._tracks if t.confirmed]
        self._tracks = []
        return TrackUpdate(closed=closed)

    def _merge_covered(self, detections: list[Detection], time_s: float) -> list[Detection]:
        """Merge the tracks that share one detection; return the other detections."""
        for track in self._tracks:
            track.merged = False
        left = []
        for detection in detections:
            inside = self._inside(detection, detections, time_s)
            inside = self._drop_impossible(inside, detection)
            if len(inside) < 2:
                left.append(detection)
                continue
            for track in inside:
                self._merge(track, detection, time_s)
        return left

    def _inside(
        self, detection: Detection, detections: Sequence[Detection], time_s: float
    ) -> list[Track]:
        """Return the tracks that a detection covers and no other detection explains."""
        others = [d.box for d in detections if d is not detection]
        return [
            track
            for track in self._tracks
            if track.confirmed
            and (time_s - track.time_s <= 0.5 or track.merged_since_s is not None)
            and hides(detection.box, track.predicted(time_s), others)
        ]

    def _drop_impossible(self, tracks: list[Track], detection: Detection) -> list[Track]:
        """Drop, of tracks that share one detection, those that are nobody of their own.

        These are parts of another person's body, and the worst fitting of tracks that have shared
        detections for too long to be two.
        """
        if len(tracks) < 2:
            return tracks
        largest = max(t.box[2] * t.box[3] for t in tracks)
        separate = [t for t in tracks if t.box[2] * t.box[3] >= FRAGMENT_AREA * largest]
        if len(separate) > 1 and min(t.hidden_s for t in separate) >= MAX_HIDDEN_S:
            separate.remove(max(separate, key=lambda t: (colour_distance(t, detection), t.id)))
        for track in tracks:
            if track not in separate:
                track.time_s = -math.inf  # closed as stale at the end of this update
        return separate

    def _merge(self, track: Track, detection: Detection, time_s: float) -> None:
        """Move a track along by its prediction, held inside the detection that hides it."""
        x, y, w, h = track.predicted(time_s)
        left, top, width, height = detection.box
        x = min(max(x, left - w / 4), left + width - 0.75 * w)
        y = min(max(y, top - h / 4), top + height - 0.75 * h)
        track.box, track.merged = (x, y, w, h), True
        if track.merged_since_s is None:
            track.merged_since_s = time_s
        track.hidden_s += time_s - track.time_s
        track.time_s = time_s

    def _match(self, detections: list[Detection], time_s: float) -> list[Detection]:
        """Match greedily, merged tracks first; return the detections without a track."""
        detections = self._match_round(detections, time_s, reunion_cost, apart=True)
        sure = [d for d in detections if d.score >= SURE_SCORE]
        unsure = [d for d in detections if d.score < SURE_SCORE]
        sure = self._match_round(sure, time_s, partial(overlap_cost, MIN_IOU))
        self._match_round(unsure, time_s, partial(overlap_cost, MIN_IOU_UNSURE))
        return self._match_round(sure, time_s, distance_cost)

    def _match_round(
        self, detections: list[Detection], time_s: float, cost: CostFunction, *, apart: bool = False
    ) -> list[Detection]:
        """Match detections to free tracks by one cost (`apart`: out of merges); return the rest."""
        pairs = []
        for track in self._tracks:
            if track.detection or track.merged or (apart and track.merged_since_s is None):
                continue
            for index, detection in enumerate(detections):
                if not apart and _is_another(track, detection, time_s):
                    continue
                price = cost(track, detection, time_s)
                if price is not None:
                    # confirmed tracks first: a tentative one must not steal their detection
                    pairs.append((not track.confirmed, price, track.id, index, track))
        taken: set[int] = set()
        for _, _, _, index, track in sorted(pairs, key=lambda pair: pair[:4]):
            if index not in taken and track.detection is None:
                track.update(detections[index], time_s)
                taken.add(index)
        return [d for i, d in enumerate(detections) if i not in taken]

    def _start(self, detections: list[Detection], time_s: float) -> list[Track]:
        """Start tentative tracks and confirm those that have lasted."""
        for detection in detections:
            if self._is_duplicate(detection):
                continue
            if len(self._tracks) >= self._max_tracks:
                self.unfollowed += 1
            else:
                track = Track(0, detection.box, time_s, time_s, clipped=detection.clipped)
                track.hits, track.detection = int(detection.score >= SURE_SCORE), detection
                self._tracks.append(track)
        born = []
        for track in self._tracks:
            lasted = track.hits >= CONFIRM_HITS and time_s - track.born_s >= CONFIRM_S
            if not track.confirmed and lasted:
                track.id, track.confirmed = self._next_id, True
                self._next_id += 1
                born.append(track)
        return born

    def _is_duplicate(self, detection: Detection) -> bool:
        """Return whether a detection is a piece of somebody who was just seen."""
        area = max(detection.box[2] * detection.box[3], 1e-9)
        seen = (t.detection.box for t in self._tracks if t.detection is not None and t.confirmed)
        return any(intersection(detection.box, box) > 0.7 * area for box in seen)

    def _close_stale(self, time_s: float) -> list[Track]:
        """Close the tracks that have been unseen, or merged, for too long."""
        closed, open_tracks = [], []
        for track in self._tracks:
            # a person last seen at the border has left: the next to come in there is somebody else
            brief = track.clipped or not track.confirmed
            patience_s = KEEP_LOST_S * (BRIEF_SHARE if brief else 1.0)
            patience_s = max(patience_s, MISSED_FRAMES * self._step_s)
            since = track.merged_since_s
            hidden = since is not None and time_s - since > MAX_MERGED_S
            if time_s - track.time_s > patience_s or hidden:
                closed += [track] if track.confirmed else []
            else:
                open_tracks.append(track)
        self._tracks = open_tracks
        return closed
