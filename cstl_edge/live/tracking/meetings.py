"""People who meet: several tracks in one detection, doubles of one person, doubt afterwards.

Two who pass each other are one blob for about a second. Both tracks go on by prediction, held
inside it. A track that has been seen alone is never taken for a part of somebody else; one that has
never been apart from another is. Where clothes do not tell who is who after a meeting, both end:
a split costs one answer, a mixture many.
"""

from __future__ import annotations

from collections.abc import Sequence

from cstl_edge.live.boxes import hides, intersection
from cstl_edge.live.segmentation.base import Detection
from cstl_edge.live.tracking.track import OUTGROWN, Sighting, Track

LOST_S = 0.5  # unseen for longer, nobody is looked for in others' detections,
LOST_CLOTHES = 0.6  # nor in those of other clothes
FRAGMENT_AREA = 0.45  # of the larger one: a track this small inside another is a part of it,
ALONE_S = 0.4  # unless it has been seen alone for so long
MAX_HIDDEN_S = 1.5  # two people who pass each other are one blob for about a second
NEAR = 0.15  # of a person's box inside a detection, from which they may be in it
OUTGROWN_S = 1.0  # for how long a detection that is far too large is a meeting
OUTGROWN_CLOTHES = 0.25  # least distance of its clothes: holes in a mask may just be closed
DOUBT = 0.25  # cost by which the other way round must be worse
TOGETHER, APART = 0.6, 0.4  # of the narrower one's width inside the other's
PIECE_AREA = 0.3  # of the larger one: less is no second person,
PERSON_S = 1.0  # unless both have been seen alone for so long
YOUNG_S, DOUBLE_S = 0.4, 1.5  # together without having been apart, or since then
PART_AREA = 0.6  # of the larger one: of two that were never apart the part goes

Costs = Sequence[Sequence[float | None]]


def people_inside(
    tracks: Sequence[Track],
    detection: Detection,
    others: Sequence[Detection],
    time_s: float,
    step_s: float,
) -> list[Track]:
    """Return the people whom one detection covers and no other explains; end what is nobody.

    Args:
        tracks: All tracks.
        detection: What may hold several people.
        others: The other detections of the frame.
        time_s: Media time in seconds.
        step_s: Since the frame before.
    """
    if len(tracks) < 2:
        return []
    boxes = [other.box for other in others if other is not detection]
    inside = [
        track
        for track in tracks
        if track.confirmed
        and not track.ended
        and hides(detection.box, track.expected, boxes)
        and _may_be_inside(track, detection, time_s, step_s)
    ]
    if len(inside) < 2:
        return inside
    largest = max(_area(track) for track in inside)
    people = [
        track
        for track in inside
        if _area(track) >= FRAGMENT_AREA * largest or track.alone_s >= ALONE_S or track.side
    ]
    if len(people) > 1 and min(track.hidden_s for track in people) >= MAX_HIDDEN_S:
        unlike = max(people, key=lambda t: (t.clothes_distance(detection) or 0.0, t.id))
        people.remove(unlike)
        unlike.doubt = True
    for track in inside:
        track.ended = track not in people
    return people


def _may_be_inside(track: Track, detection: Detection, time_s: float, step_s: float) -> bool:
    """Return whether somebody may be in a detection; who was lost outside must look like it."""
    if track.merged_since_s is not None or time_s - track.time_s < 1.5 * step_s:
        return True
    clothes = track.clothes_distance(detection)
    return time_s - track.time_s <= LOST_S and (clothes is None or clothes <= LOST_CLOTHES)


def hide(tracks: Sequence[Track], detection: Detection, time_s: float) -> None:
    """Move tracks along by their predictions, held inside the detection that hides them.

    Args:
        tracks: The people in it.
        detection: One blob.
        time_s: Media time in seconds.
    """
    left, top, width, height = detection.box
    for track in tracks:
        x, y, w, h = track.body(time_s)
        x = min(max(x, left - w / 4), left + width - 0.75 * w)
        y = min(max(y, top - h / 4), top + height - 0.75 * h)
        track.box, track.merged = (x, y, w, h), True
        if track.merged_since_s is None:
            track.merged_since_s = time_s
        if track.unproven_since_s is None:
            track.unproven_since_s = time_s
        track.hidden_s += time_s - track.time_s
        track.time_s = time_s


def is_outgrown(track: Track, sighting: Sighting, time_s: float) -> bool:
    """Return whether a sighting holds more than the person of a track.

    Args:
        track: Whose sighting it may be.
        sighting: Far larger than this person usually is, and in other colours as well.
        time_s: Media time in seconds; what stays so large is one person after all.
    """
    detection, since = sighting.detection, track.merged_since_s
    if detection.shared or track.clipped or detection.clipped or track.alone_s < ALONE_S:
        return False
    if since is not None and time_s - since > OUTGROWN_S:
        return False
    if sighting.area <= OUTGROWN * track.area:
        return False
    clothes = track.clothes_distance(detection)
    return clothes is not None and clothes > OUTGROWN_CLOTHES


def is_alone(track: Track, detection: Detection, tracks: Sequence[Track]) -> bool:
    """Return whether nobody else is expected in a track's detection.

    Args:
        track: Whose detection it is.
        detection: The detection.
        tracks: All tracks.
    """
    return not any(
        other is not track
        and other.confirmed
        and intersection(other.expected, detection.box) > NEAR * other.box[2] * other.box[3]
        for other in tracks
    )


def doubtful(pairs: Sequence[tuple[int, int]], costs: Costs, tracks: Sequence[Track]) -> set[int]:
    """Return the rows of those out of a meeting who might as well be each other.

    Args:
        pairs: Chosen pairs, row and column.
        costs: Of all pairs.
        tracks: The track of each row.
    """
    rows = set()
    met = [(i, j) for i, j in pairs if tracks[i].merged_since_s is not None]
    for a, (i, j) in enumerate(met):
        for k, m in met[a + 1 :]:
            here, there, crossed, back = costs[i][j], costs[k][m], costs[i][m], costs[k][j]
            if here is None or there is None or crossed is None or back is None:
                continue
            if crossed + back - here - there < DOUBT:
                rows |= {i, k}
    return rows


class Pairs:
    """Remembers when any two tracks were last seen apart; ends doubles of one person."""

    def __init__(self) -> None:
        self._since_s: dict[tuple[int, int], float] = {}  # together, or last apart
        self._seen_apart: set[tuple[int, int]] = set()

    def end_doubles(self, tracks: Sequence[Track], time_s: float) -> None:
        """End one of each two tracks that are together for too long to be two people.

        Args:
            tracks: The confirmed ones, in order of their ids.
            time_s: Media time in seconds.
        """
        since_s = {}
        for i, a in enumerate(tracks):
            for b in tracks[i + 1 :]:
                key = a.id, b.id
                together = _overlap(a, b)
                both = a.detection is not None and b.detection is not None
                unseen = any(t.detection is None and not t.merged for t in (a, b))
                if both and together < APART and _are_two(a, b):
                    since_s[key] = time_s
                    self._seen_apart.add(key)
                elif together < TOGETHER or unseen:
                    if key in self._since_s:
                        since_s[key] = self._since_s[key]
                else:
                    since_s[key] = self._since_s.get(key, max(a.born_s, b.born_s))
                    known = key in self._seen_apart
                    if time_s - since_s[key] > (DOUBLE_S if known else YOUNG_S):
                        _weaker(a, b, known=known).ended = True
        self._since_s = since_s
        self._seen_apart &= since_s.keys()


def _are_two(a: Track, b: Track) -> bool:
    """Return whether of two who are seen apart neither is a piece of the other."""
    areas = _area(a), _area(b)
    return min(areas) > PIECE_AREA * max(areas) or min(a.alone_s, b.alone_s) >= PERSON_S


def _weaker(a: Track, b: Track, *, known: bool) -> Track:
    """Return which of two doubles ends: a part of the other, or who was alone for less time."""
    areas = _area(a), _area(b)
    if not known and min(areas) < PART_AREA * max(areas):
        return a if areas[0] < areas[1] else b
    return b if b.alone_s < a.alone_s else a


def _area(track: Track) -> float:
    return track.box[2] * track.box[3]


def _overlap(a: Track, b: Track) -> float:
    """Return how much of the narrower one's width is inside the other's; above counts as inside."""
    (x, _, w, _), (u, _, v, _) = a.expected, b.expected
    inside = (x + w if x + w < u + v else u + v) - (x if x > u else u)
    return inside / max(w if w < v else v, 1e-9)
