"""One track, one person: the ways in which a track once got hold of two people, one test each."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from cstl_edge.live.clothes import clothes_distance, clothes_of
from cstl_edge.live.segmentation.base import Detection
from cstl_edge.live.tracking.meetings import doubtful
from cstl_edge.live.tracking.track import PROOF, Track
from cstl_edge.live.tracking.tracker import MAX_MISMATCH, SHOWN_S, Tracker

FPS = 25.0
PICTURE = (360, 640)
BODY_W, BODY_H = 40.0, 100.0


def dress(*colour: int) -> np.ndarray:
    mask = np.full((100, 40), 255, np.uint8)
    return clothes_of(np.full((100, 40, 3), colour, np.uint8), mask)


RED, BLUE, GREY = dress(80, 180, 110), dress(60, 110, 180), dress(170, 128, 128)


def seen(
    left: float, clothes, y: float = 100.0, w: float = BODY_W, h: float = BODY_H, **more
) -> Detection | None:
    """Return what is in the picture of somebody at `left`, None where that is nothing."""
    first, last = max(left, 0.0), min(left + w, float(PICTURE[1]))
    if last - first < 3:
        return None
    mask = np.full((round(h), max(1, round(last - first))), 255, np.uint8)
    clipped = first <= 0 or last >= PICTURE[1]
    return Detection((first, y, last - first, h), mask, clipped, clothes=clothes, **more)


def joined(*people: Detection | None, clothes=GREY, **more) -> Detection:
    """Return one blob of several people."""
    boxes = [person.box for person in people if person is not None]
    x, y = min(b[0] for b in boxes), min(b[1] for b in boxes)
    right, foot = max(b[0] + b[2] for b in boxes), max(b[1] + b[3] for b in boxes)
    whole = seen(x, clothes, y, right - x, foot - y, **more)
    assert whole is not None
    return whole


@dataclass
class Seen:
    """What an update shows: boxes of detections and merged tracks by id, ids that begin."""

    boxes: dict[int, tuple[float, ...]]
    merged: set[int]
    born: list[int]


def follow(frames, tracker: Tracker | None = None, start: int = 0) -> list[Seen]:
    """Return what is seen of a list of frames, each a list of detections or None."""
    tracker, out = tracker or Tracker(), []
    for i, frame in enumerate(frames):
        people = [d for d in frame if d is not None]
        update = tracker.update(people, (start + i) / FPS, PICTURE)
        boxes = {t.id: t.detection.box for t in update.active if t.detection is not None}
        merged = {t.id for t in [*update.active, *update.lost] if t.merged}
        out.append(Seen(boxes, merged, [t.id for t in update.born]))
    return out


def test_who_comes_in_where_another_leaves_gets_a_track_of_their_own() -> None:
    """Border take-over: the blob at the border never breaks, the walk turns round in it."""
    step, frames = 3.0, []
    for i in range(90):
        leaving = seen(120 - step * i, RED)
        coming = seen(step * (i - 45) - 40, BLUE, y=95.0) if i > 45 else None
        apart = leaving is None or coming is None
        frames.append([leaving, coming] if apart else [joined(leaving, coming, clothes=RED)])
    updates = follow(frames)
    assert list(updates[20].boxes) == [1]
    assert list(updates[-1].boxes) == [2]


def test_who_leaves_keeps_the_track_until_the_end() -> None:
    updates = follow([[seen(120 - 3 * i, RED)] for i in range(52)])
    assert [number for update in updates for number in update.born] == [1]
    assert list(updates[-1].boxes) == [1]


def test_a_lost_person_does_not_take_a_neighbours_detection() -> None:
    """Reunion steal: out of a merge, both are gone; a neighbour stands 1.2 body heights away."""
    tracker, neighbour = Tracker(), seen(345, GREY)
    meeting = []
    for i in range(25):
        a, b = seen(150 + 3 * i, RED), seen(300 - 3 * i, BLUE)
        meeting.append([joined(a, b, shared=True)] if i > 18 else [a, b])
    before = follow([[*frame, neighbour] for frame in meeting], tracker)
    (mine,) = (number for number, box in before[15].boxes.items() if box[0] == 345)
    after = follow([[neighbour]] * 40, tracker, start=25)
    assert all(list(update.boxes) == [mine] for update in after)


def test_the_farther_of_two_who_cross_is_no_fragment() -> None:
    """Killed as a fragment: 60 pixels tall behind 150, both seen alone before."""
    frames = []
    for i in range(100):
        near = seen(60 + 4 * i, RED, y=100, w=60, h=150)
        far = seen(360 - 3 * i, BLUE, y=110, w=24, h=60)
        hidden = abs(60 + 4 * i + 18 - (360 - 3 * i)) < 40
        frames.append([joined(near, far, clothes=RED)] if hidden else [near, far])
    updates = follow(frames)
    numbers = [
        {round(box[3]): number for number, box in update.boxes.items()}
        for update in (updates[20], updates[-5])
    ]
    assert set(numbers[0]) == {60, 150}
    assert numbers[0] == numbers[1]


def test_halves_of_one_person_become_one_track() -> None:
    """Two tracks on one person: jacket and trousers apart at first, one blob from then on."""
    halves = [
        [seen(60 + 3 * i, RED, y=100, h=48), seen(60 + 3 * i, BLUE, y=152, h=48)] for i in range(15)
    ]
    whole = [[seen(60 + 3 * i, GREY)] for i in range(15, 60)]
    updates = follow([*halves, *whole])
    assert max(len(update.boxes) for update in updates[:10]) == 2
    assert all(len(update.boxes) == 1 and not update.merged for update in updates[-10:])


def test_an_unseen_companion_is_a_meeting() -> None:
    """Somebody who never had a track walks into a blob: it is no silhouette of one person."""
    frames = [[seen(100 + 3 * i, RED)] for i in range(30)]
    both = (RED + BLUE) / np.linalg.norm(RED + BLUE)
    for i in range(10):
        frames += [[joined(seen(190 + 3 * i, RED), seen(225 + 3 * i, BLUE), clothes=both)]]
    updates = follow(frames)
    assert list(updates[29].boxes) == [1]
    assert all(update.merged == {1} and not update.boxes for update in updates[30:])


def test_a_mask_whose_holes_are_closed_is_no_meeting() -> None:
    hollow, whole = seen(0, RED), seen(0, RED)
    assert hollow is not None
    hollow.mask[20:70, 5:35] = 0
    frames = [[replace(hollow, box=(100 + 3 * i, 100.0, 40.0, 100.0))] for i in range(40)]
    frames += [[replace(whole, box=(100 + 3 * i, 100.0, 40.0, 100.0))] for i in range(40, 60)]
    updates = follow(frames)
    assert all(list(update.boxes) == [1] and not update.merged for update in updates[5:])


def test_other_clothes_are_another_person() -> None:
    """The blob goes on as before, but in other clothes."""
    updates = follow([[seen(100 + 3 * i, RED if i < 40 else BLUE)] for i in range(80)])
    assert list(updates[35].boxes) == [1]
    assert list(updates[-1].boxes) == [2]


def test_clothes_that_change_little_by_little_end_a_track() -> None:
    """A mixture that never jumps: after a quarter of a second of strangeness the track ends."""
    shares = np.linspace(0, 1, 60)
    mixed = [(1 - share) * RED + share * BLUE for share in shares]
    frames = [[seen(100 + 3 * i, RED)] for i in range(30)]
    frames += [[seen(190 + 3 * i, m / np.linalg.norm(m))] for i, m in enumerate(mixed)]
    frames += [[seen(370 + 3 * i, BLUE)] for i in range(20)]
    updates = follow(frames)
    assert list(updates[29].boxes) == [1]
    assert list(updates[-1].boxes) == [2]


@pytest.mark.parametrize(("clothes", "unsure"), [(0.0, {0, 1}), (0.4, set())])
def test_who_might_as_well_be_the_other_is_in_doubt(clothes: float, unsure: set[int]) -> None:
    """Two out of a meeting, each nearly as near to either track; clothes may tell them apart."""
    tracks = [Track(n, (100.0, 100.0, 40.0, 100.0), 1.0, 0.0, merged_since_s=0.5) for n in (1, 2)]
    costs = [[0.5, 0.55 + clothes], [0.55 + clothes, 0.5]]
    assert doubtful([(0, 0), (1, 1)], costs, tracks) == unsure
    tracks[1].merged_since_s = None
    assert doubtful([(0, 0), (1, 1)], costs, tracks) == set()


def test_a_piece_in_other_clothes_is_somebody_else() -> None:
    """Two who meet are cut apart at a valley: the piece in blue is not the one in red."""
    tracker = Tracker()
    follow([[seen(100 + 3 * i, RED)] for i in range(30)], tracker)
    updates = follow([[seen(190, BLUE, shared=True)]] * 10, tracker, start=30)
    assert not any(1 in update.boxes for update in updates)


def test_who_is_hidden_is_shown_as_long_as_the_place_is_known() -> None:
    tracker = Tracker()
    apart = [[seen(100 + 3 * i, RED), seen(340 - 3 * i, BLUE)] for i in range(36)]
    follow(apart, tracker)
    for i in range(20):
        hidden = joined(seen(205 + i, RED), seen(235 - i, BLUE), shared=True)
        update = tracker.update([hidden], (36 + i) / FPS, PICTURE)
        shown = {t.id for t in update.active}
        assert shown == ({1, 2} if i <= SHOWN_S * FPS else set())
        assert shown | {t.id for t in update.lost} == {1, 2}


def test_a_meeting_without_a_view_of_the_own_clothes_ends_in_doubt() -> None:
    tracker, meeting = Tracker(), seen(200, GREY, shared=True)
    follow([[seen(100 + 3 * i, None)] for i in range(30)], tracker)
    assert meeting is not None
    closed = []
    for i in range(round(3 * FPS)):
        piece = replace(meeting, box=(190 + i / 10, 100.0, 40.0, 100.0), clothes=None)
        closed += tracker.update([piece], (30 + i) / FPS, PICTURE).closed
    assert [(track.id, track.doubt) for track in closed] == [(1, True)]


def test_clothes_that_become_others_end_a_track_in_doubt_and_leaving_does_not() -> None:
    tracker, closed = Tracker(), []
    for i in range(160):
        share = min(max((i - 30) / 60, 0.0), 1.0)
        worn = (1 - share) * RED + share * BLUE
        person = seen(100 + 2 * i, worn / np.linalg.norm(worn))
        closed += tracker.update([person] if i < 110 and person else [], i / FPS, PICTURE).closed
    assert [(track.id, track.doubt) for track in closed] == [(1, True), (2, False)]


def test_an_odd_look_without_a_meeting_is_no_doubt() -> None:
    """Light and pose move the colours a little, for seconds: nobody else is near."""
    worn = 0.65 * RED + 0.35 * BLUE
    worn /= np.linalg.norm(worn)
    assert PROOF < clothes_distance(RED, worn) < MAX_MISMATCH
    usual, odd = ([seen(60 + 3 * i, RED)] for i in range(60)), [seen(240, worn)]
    updates = follow([*usual, *[odd] * 75])
    assert list(updates[-1].boxes) == [1]
