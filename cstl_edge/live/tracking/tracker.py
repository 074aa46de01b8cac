"""Multi-object tracker: detections of a frame in, tracks with ids out, masks carried along.

Each track predicts its box by the wall clock (`track`). A detection that covers several expected
people is a meeting (`meetings`): they go on by prediction alone. All others are matched at once, by
the assignment with the least sum of costs (`pairs`, `assignment`), so that nobody takes a detection
that fits somebody else better; ties are broken by geometry, so the order of the detections does not
matter. Doubt ends a track: a split costs one answer, a mixture of two people many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cstl_edge.live.boxes import Box, intersection
from cstl_edge.live.segmentation.base import Detection
from cstl_edge.live.tracking.assignment import assign
from cstl_edge.live.tracking.meetings import (
    Pairs,
    doubtful,
    hide,
    is_alone,
    is_outgrown,
    people_inside,
)
from cstl_edge.live.tracking.pairs import LIMIT, pair_cost
from cstl_edge.live.tracking.track import SURE_SCORE, Sighting, Size, Track, sighting_of

CONFIRM_HITS, CONFIRM_S = 3, 0.1  # sure detections, and seconds, before a track is born
KEEP_LOST_S = 1.5  # an unseen track stays open this long
BRIEF_SHARE = 0.2  # of that, for tentative tracks and people last seen at the border
MISSED_FRAMES = 2.5  # and at least this many frames, for slow cameras
MAX_GAP_S = 3.0  # a hole in time closes all tracks
MAX_TRACKS = 64
MAX_MERGED_S = 4.0  # without having been seen alone
SHOWN_S = 0.25  # of a meeting: after that nobody knows where in it a person is
UNPROVEN_S = 1.5  # since a meeting without a view of the own clothes: then it may be anybody
MAX_MISMATCH = 0.42  # of the clothes, for a quarter of a second: this is somebody else
DUPLICATE = 0.7  # of a detection inside somebody's: a piece of them


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
        self._pairs = Pairs()
        self._picture: Size | None = None

    def expected(self, time_s: float) -> list[Box]:
        """Return the expected boxes of the confirmed tracks, for the segmenter."""
        return list(self.expected_people(time_s).values())

    def expected_people(self, time_s: float) -> dict[int, Box]:
        """Return the expected box of each confirmed track."""
        return {t.id: t.predicted(time_s) for t in self._tracks if t.confirmed}

    def update(
        self, detections: Sequence[Detection], time_s: float, picture: Size | None = None
    ) -> TrackUpdate:
        """Take the detections of one frame; a step backwards in time closes all tracks.

        Args:
            detections: People of the frame, in any order.
            time_s: Media time of the frame in seconds.
            picture: Its height and width; without it nothing is known of its borders.
        """
        step_s = 0.0 if self._time_s is None else time_s - self._time_s
        closed = [] if 0 <= step_s <= MAX_GAP_S else self.finish().closed
        self._time_s, self._step_s = time_s, 0.0 if closed else step_s
        self._picture = picture
        for track in self._tracks:
            track.detection, track.merged = None, False
            track.expected = track.predicted(time_s)
        # one order for the same set, so that ties and new ids do not depend on the caller's
        in_order = sorted(detections, key=lambda d: (d.box, d.score))
        left = self._match(self._merge_covered(in_order, time_s), time_s)
        left += self._end_strangers()
        self._pairs.end_doubles([t for t in self._tracks if t.confirmed], time_s)
        born = self._start(left, time_s)
        closed += self._close_stale(time_s)
        alive = [t for t in self._tracks if t.confirmed]
        return TrackUpdate(
            active=[t for t in alive if _is_shown(t, time_s)],
            born=born,
            lost=[t for t in alive if not _is_shown(t, time_s)],
            closed=closed,
        )

    def finish(self) -> TrackUpdate:
        """Close everything, at the end of a source."""
        closed = [t for t in self._tracks if t.confirmed]
        self._tracks, self._pairs = [], Pairs()
        return TrackUpdate(closed=closed)

    def _merge_covered(self, detections: list[Detection], time_s: float) -> list[Sighting]:
        """Merge the tracks that share one detection; return the other detections, measured."""
        left = []
        for detection in detections:
            inside = people_inside(self._tracks, detection, detections, time_s, self._step_s)
            if len(inside) < 2:
                left.append(sighting_of(detection, self._picture))
            else:
                hide(inside, detection, time_s)
        return left

    def _match(self, sightings: list[Sighting], time_s: float) -> list[Sighting]:
        """Match tracks and sightings; return the sightings without a track."""
        free = [t for t in self._tracks if not t.merged and not t.ended]
        free.sort(key=lambda t: (not t.confirmed, t.id, t.box))
        costs = [[pair_cost(t, s, time_s) for s in sightings] for t in free]
        pairs = assign(costs, LIMIT)
        unsure = doubtful(pairs, costs, free)
        taken = set()
        for row, column in pairs:
            track, sighting = free[row], sightings[column]
            if row in unsure:
                track.ended = track.doubt = True
                continue
            taken.add(column)
            if is_outgrown(track, sighting, time_s):
                hide([track], sighting.detection, time_s)
            else:
                alone = is_alone(track, sighting.detection, self._tracks)
                track.update(sighting, time_s, alone=alone)
        return [s for column, s in enumerate(sightings) if column not in taken]

    def _end_strangers(self) -> list[Sighting]:
        """End the tracks whose clothes have become others; return their sightings."""
        strangers = [t for t in self._tracks if t.mismatch > MAX_MISMATCH and not t.ended]
        for track in strangers:
            track.ended = track.doubt = True
        return [
            sighting_of(t.detection, self._picture) for t in strangers if t.detection is not None
        ]

    def _start(self, sightings: list[Sighting], time_s: float) -> list[Track]:
        """Start tentative tracks and confirm those that have lasted."""
        for sighting in sightings:
            detection = sighting.detection
            if self._is_duplicate(detection):
                continue
            if len(self._tracks) >= self._max_tracks:
                self.unfollowed += 1
                continue
            track = Track(0, detection.box, time_s, time_s, self._picture)
            track.hits, track.detection = int(detection.score >= SURE_SCORE), detection
            track.clipped, track.side = detection.clipped, sighting.side
            track.seen_box = track.expected = detection.box
            self._tracks.append(track)
        born = []
        for track in self._tracks:
            lasted = track.hits >= CONFIRM_HITS and time_s - track.born_s >= CONFIRM_S
            if lasted and not track.confirmed and not track.ended:
                track.id, track.confirmed = self._next_id, True
                self._next_id += 1
                born.append(track)
        return born

    def _is_duplicate(self, detection: Detection) -> bool:
        """Return whether a detection is a piece of somebody who was just seen."""
        area = max(detection.box[2] * detection.box[3], 1e-9)
        seen = (
            t.detection.box
            for t in self._tracks
            if t.detection is not None and t.confirmed and not t.ended
        )
        return any(intersection(detection.box, box) > DUPLICATE * area for box in seen)

    def _close_stale(self, time_s: float) -> list[Track]:
        """Close the tracks that have ended, or have been unseen, or merged, for too long."""
        closed, open_tracks = [], []
        for track in self._tracks:
            # a person last seen at the border has left: the next to come in there is somebody else
            brief = track.clipped or not track.confirmed
            patience_s = KEEP_LOST_S * (BRIEF_SHARE if brief else 1.0)
            patience_s = max(patience_s, MISSED_FRAMES * self._step_s)
            track.doubt |= _is_doubtful(track, time_s)
            if track.ended or track.doubt or time_s - track.time_s > patience_s:
                closed += [track] if track.confirmed else []
            else:
                open_tracks.append(track)
        self._tracks = open_tracks
        return closed


def _is_shown(track: Track, time_s: float) -> bool:
    """Return whether somebody is seen, or hidden for so short a time that the place is known."""
    if track.detection is not None:
        return True
    since = track.merged_since_s
    return track.merged and since is not None and time_s - since <= SHOWN_S


def _is_doubtful(track: Track, time_s: float) -> bool:
    """Return whether so much time has passed in and after a meeting that it may be anybody."""
    merged, unproven = track.merged_since_s, track.unproven_since_s
    if merged is not None and time_s - merged > MAX_MERGED_S:
        return True
    return track.time_s == time_s and unproven is not None and time_s - unproven > UNPROVEN_S
