"""Who is who from frame to frame: boxes in, ids out, masks carried along.

In the manner of ByteTrack: a constant-velocity prediction by the wall clock, then rounds of
matching (sure detections by overlap, unsure ones by overlap, what is left by distance, for cameras
of few frames per second). Matching is greedy from the best pair down, ties broken by geometry:
among walkers the best overlap is nearly always mutual, so the optimal assignment gives the same
pairs, and the result does not depend on the order of the detections. When one detection covers two
expected people, both are marked as merged and go on by prediction alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from cstl_edge.live.segment import Box, Detection, box_iou, intersection
from cstl_edge.live.track_one import (
    SURE_SCORE,
    CostFunction,
    Track,
    colour_distance,
    distance_cost,
    overlap_cost,
    reunion_cost,
)

__all__ = ["Track", "TrackUpdate", "Tracker"]

MIN_IOU, MIN_IOU_UNSURE = 0.2, 0.4
CONFIRM_HITS, CONFIRM_S = 3, 0.1  # sure detections, and seconds, before a track is born
KEEP_LOST_S = 1.5  # an unseen track waits this long
BRIEF_SHARE = 0.2  # of that, for tentative tracks and for who was last seen at the border
MISSED_FRAMES = 2.5  # and at least this many frames, for slow cameras
MAX_GAP_S = 3.0  # a hole in time closes all tracks
MAX_TRACKS = 64
COVERED = 0.6  # of an expected box inside a detection that swallows it
FRAGMENT_AREA = 0.45  # of the larger one: a track this small inside another is a part of it
MAX_MERGED_S = 4.0  # without having been seen alone
MAX_HIDDEN_S = 1.5  # two who pass each other are one blob for about a second


@dataclass(frozen=True)
class TrackUpdate:
    """What one frame changed. Ids never come back."""

    active: list[Track] = field(default_factory=list)  # confirmed, seen or merged in this frame
    born: list[Track] = field(default_factory=list)
    lost: list[Track] = field(default_factory=list)  # confirmed, unseen in this frame
    closed: list[Track] = field(default_factory=list)


class Tracker:
    """Follows boxes; one per source."""

    def __init__(self, *, keep_lost_s: float = KEEP_LOST_S, max_tracks: int = MAX_TRACKS) -> None:
        self._keep_lost_s = keep_lost_s
        self._max_tracks = max_tracks
        self._tracks: list[Track] = []
        self.unfollowed = 0
        """Detections that started no track because there were `max_tracks`."""
        self._next_id = 1
        self._time_s: float | None = None
        self._step_s = 0.0  # between the last two frames

    def expected(self, time_s: float) -> list[Box]:
        """Return where the confirmed tracks should be, for the segmenter."""
        return [t.predicted(time_s) for t in self._tracks if t.confirmed]

    def update(self, detections: Sequence[Detection], time_s: float) -> TrackUpdate:
        """Take the detections of one frame; time must not run backwards."""
        closed = self._close_before(time_s)
        self._step_s = time_s - self._time_s if self._time_s is not None and not closed else 0.0
        self._time_s = time_s
        for track in self._tracks:
            track.detection = None
        # one order for the same set, so that ties and new ids do not depend on the caller's
        left = sorted(detections, key=lambda d: (d.box, d.score))
        left = self._swallow(left, time_s)
        left = self._match(left, time_s)
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

    def _close_before(self, time_s: float) -> list[Track]:
        if self._time_s is None or 0 <= time_s - self._time_s <= MAX_GAP_S:
            return []
        return self.finish().closed

    def _swallow(self, detections: list[Detection], time_s: float) -> list[Detection]:
        """Mark the tracks that share one detection; return the other detections."""
        for track in self._tracks:
            track.merged = False
        left = []
        for detection in detections:
            inside = self._inside(detection, detections, time_s)
            inside = self._drop_doubles(self._drop_fragments(inside), detection)
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
        inside = []
        for track in self._tracks:
            box = track.predicted(time_s)
            covered = intersection(box, detection.box) / max(box[2] * box[3], 1e-9)
            recent = time_s - track.time_s <= 0.5 or track.merged_since_s is not None
            if not (track.confirmed and recent and covered >= COVERED):
                continue
            fits = max(0.5, box_iou(box, detection.box))
            others = (d for d in detections if d is not detection)
            if not any(box_iou(box, other.box) > fits for other in others):
                inside.append(track)
        return inside

    def _drop_fragments(self, tracks: list[Track]) -> list[Track]:
        """Forget tracks that turned out to be a part of another one's body."""
        if len(tracks) < 2:
            return tracks
        largest = max(t.box[2] * t.box[3] for t in tracks)
        whole = [t for t in tracks if t.box[2] * t.box[3] >= FRAGMENT_AREA * largest]
        for track in tracks:
            if track not in whole:
                track.time_s = -math.inf  # closed as stale at the end of this update
        return whole

    def _drop_doubles(self, tracks: list[Track], detection: Detection) -> list[Track]:
        """Forget the worst fitting of tracks that share one detection for too long to be two."""
        if len(tracks) < 2 or min(track.hidden_s for track in tracks) < MAX_HIDDEN_S:
            return tracks
        worst = max(tracks, key=lambda t: (colour_distance(t, detection) or 0.0, t.id))
        worst.time_s = -math.inf
        return [track for track in tracks if track is not worst]

    def _merge(self, track: Track, detection: Detection, time_s: float) -> None:
        """Move a track along by its prediction, held inside the detection that hides it."""
        x, y, w, h = track.predicted(time_s)
        left, top, width, height = detection.box
        x = min(max(x, left - w / 4), left + width - 0.75 * w)
        y = min(max(y, top - h / 4), top + height - 0.75 * h)
        since = track.merged_since_s if track.merged_since_s is not None else time_s
        track.box, track.merged, track.merged_since_s = (x, y, w, h), True, since
        track.hidden_s += time_s - track.time_s
        track.time_s = time_s

    def _match(self, detections: list[Detection], time_s: float) -> list[Detection]:
        """Match greedily, who comes out of a merge first; return the detections without a track."""
        apart = [t for t in self._tracks if t.merged_since_s is not None]
        detections = self._round(detections, time_s, reunion_cost, apart)
        sure = [d for d in detections if d.score >= SURE_SCORE]
        unsure = [d for d in detections if d.score < SURE_SCORE]
        sure = self._round(sure, time_s, overlap_cost(MIN_IOU))
        self._round(unsure, time_s, overlap_cost(MIN_IOU_UNSURE))
        return self._round(sure, time_s, distance_cost)

    def _round(
        self,
        detections: list[Detection],
        time_s: float,
        cost: CostFunction,
        tracks: Sequence[Track] | None = None,
    ) -> list[Detection]:
        chosen = self._tracks if tracks is None else tracks
        free = [t for t in chosen if t.detection is None and not t.merged]
        pairs = []
        for track in free:
            for index, detection in enumerate(detections):
                price = cost(track, detection, time_s)
                if price is not None:
                    # confirmed tracks first: a tentative one must not steal their detection
                    pairs.append((not track.confirmed, price, track.id, index, track))
        taken: set[int] = set()
        for _, _, _, index, track in sorted(pairs, key=lambda pair: pair[:4]):
            if index not in taken and track.detection is None:
                track.see(detections[index], time_s)
                taken.add(index)
        return [d for i, d in enumerate(detections) if i not in taken]

    def _start(self, detections: list[Detection], time_s: float) -> list[Track]:
        """Start tentative tracks and confirm those that have lasted."""
        for detection in detections:
            if self._is_double(detection):
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

    def _is_double(self, detection: Detection) -> bool:
        """Tell whether a detection is a piece of somebody who was just seen."""
        area = max(detection.box[2] * detection.box[3], 1e-9)
        seen = (t.detection.box for t in self._tracks if t.detection is not None and t.confirmed)
        return any(intersection(detection.box, box) > 0.7 * area for box in seen)

    def _close_stale(self, time_s: float) -> list[Track]:
        closed, kept = [], []
        for track in self._tracks:
            # who was last seen at the border has left: the next to come in there is somebody else
            brief = track.clipped or not track.confirmed
            patience_s = self._keep_lost_s * (BRIEF_SHARE if brief else 1.0)
            patience_s = max(patience_s, MISSED_FRAMES * self._step_s)
            since = track.merged_since_s
            hidden = since is not None and time_s - since > MAX_MERGED_S
            if time_s - track.time_s > patience_s or hidden:
                closed += [track] if track.confirmed else []
            else:
                kept.append(track)
        self._tracks = kept
        return closed
