"""Tracker: ids stay through gaps, meetings, slow cameras, in any order of detections."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cstl_edge.live.clothes import clothes_distance, clothes_of
from cstl_edge.live.segmentation.base import Detection
from cstl_edge.live.tracking.tracker import Tracker

MASK = np.full((100, 40), 255, np.uint8)


def clothes(*colour: int) -> np.ndarray:
    return clothes_of(np.full((100, 40, 3), colour, np.uint8), MASK)


RED, BLUE = clothes(80, 180, 110), clothes(60, 110, 180)


def detection(x: float, y: float = 50.0, w: float = 40.0, h: float = 100.0, **more) -> Detection:
    return Detection((x, y, w, h), MASK, more.pop("clipped", False), **more)


def pair(a: float, b: float, apart: float) -> list[Detection]:
    """Return somebody in red at a and somebody in blue at b, one blob where they are close."""
    if abs(a - b) < apart:
        return [detection(min(a, b), w=40 + abs(a - b), shared=True)]
    return [detection(a, clothes=RED), detection(b, clothes=BLUE)]


def follow(tracker: Tracker, frames, fps: float = 25.0, start: float = 0.0):
    return [tracker.update(people, start + i / fps) for i, people in enumerate(frames)]


def test_one_walker_is_one_track() -> None:
    updates = follow(Tracker(), [[detection(10 + 3 * i)] for i in range(50)])
    assert [t.id for u in updates for t in u.born] == [1]
    assert {t.id for u in updates[5:] for t in u.active} == {1}


def test_a_flash_of_one_frame_is_no_track() -> None:
    updates = follow(Tracker(), [[detection(10)], *[[]] * 30])
    assert not any(u.born or u.closed for u in updates)


def test_unsure_detections_continue_tracks_but_start_none() -> None:
    tracker = Tracker()
    updates = follow(tracker, [[detection(10, score=0.4)] for _ in range(10)])
    assert not any(u.born for u in updates)
    frames = [[detection(10 + 2 * i, score=1.0 if i < 8 else 0.4)] for i in range(30)]
    updates = follow(tracker, frames, start=1.0)
    assert [t.id for t in updates[-1].active] == [1]


def test_a_walker_hidden_for_a_while_keeps_the_id() -> None:
    frames = [[detection(10 + 3 * i)] if not 20 <= i < 40 else [] for i in range(60)]
    updates = follow(Tracker(), frames)
    assert len(updates[30].lost) == 1
    assert [t.id for t in updates[-1].active] == [1]


def test_a_track_that_left_is_closed_and_its_id_not_reused() -> None:
    frames = [*[[detection(10)]] * 10, *[[]] * 60, *[[detection(10)]] * 10]
    updates = follow(Tracker(), frames)
    assert [t.id for u in updates for t in u.closed] == [1]
    assert [t.id for t in updates[-1].active] == [2]


def test_a_new_walker_at_the_border_gets_a_new_id() -> None:
    leaving = [[detection(600 + 3 * i, clipped=i > 8)] for i in range(12)]
    coming = [[detection(630 - 3 * i, clipped=i < 4)] for i in range(12)]
    updates = follow(Tracker(), [*leaving, *[[]] * 12, *coming])
    assert [t.id for u in updates for t in u.born] == [1, 2]


def test_a_gap_in_time_closes_all_tracks() -> None:
    tracker = Tracker()
    follow(tracker, [[detection(10)]] * 10)
    update = tracker.update([detection(10)], 60.0)
    assert [t.id for t in update.closed] == [1]
    assert not update.active


def test_finish_closes_all_tracks() -> None:
    tracker = Tracker()
    follow(tracker, [[detection(10), detection(300)]] * 10)
    assert {t.id for t in tracker.finish().closed} == {1, 2}
    assert not tracker.expected(1.0)


@pytest.mark.parametrize("fps", [3.0, 10.0, 30.0, 120.0])
def test_one_walker_is_one_track_at_any_frame_rate(fps: float) -> None:
    step = 75 / fps  # 0.75 body heights per second
    updates = follow(Tracker(), [[detection(10 + step * i)] for i in range(max(20, int(fps)))], fps)
    assert [t.id for u in updates for t in u.born] == [1]
    assert updates[-1].active


def test_walkers_who_pass_each_other_keep_their_ids() -> None:
    tracker, where = Tracker(), {}
    for i in range(120):
        a, b = 20.0 + 3 * i, 380.0 - 3 * i
        update = tracker.update(pair(a, b, apart=45), i / 25)
        if i == 30:
            where = {t.id: t.velocity[0] > 0 for t in update.active}
    assert {t.id: t.velocity[0] > 0 for t in update.active} == where
    assert len(where) == 2
    assert not any(t.merged for t in update.active)


def test_walkers_who_turn_back_at_a_meeting_are_separated_by_clothes() -> None:
    tracker = Tracker()
    for i in range(120):
        gap = abs(3 * (60 - i))
        # both turn back in the middle
        update = tracker.update(pair(200.0 - gap, 200.0 + gap, apart=44.5), i / 25)
    left, right = sorted(update.active, key=lambda t: t.box[0])
    assert clothes_distance(left.clothes, RED) < 0.1
    assert clothes_distance(right.clothes, BLUE) < 0.1


def test_two_walkers_in_one_blob_are_both_marked_merged() -> None:
    tracker = Tracker()
    follow(tracker, [[detection(100 + i), detection(200 - i)] for i in range(25)])
    update = tracker.update([detection(124, w=92)], 1.0)
    assert len(update.active) == 2
    assert all(t.merged and t.detection is None for t in update.active)


def test_a_fragment_that_got_a_track_does_not_merge_its_owner() -> None:
    tracker = Tracker()
    follow(tracker, [[detection(100, h=70), detection(105, y=125, w=20, h=25)] for _ in range(10)])
    updates = follow(tracker, [[detection(100)] for _ in range(20)], start=0.5)
    assert [t.merged for t in updates[-1].active] == [False]


def test_two_tracks_on_one_person_become_one() -> None:
    tracker = Tracker()
    follow(tracker, [[detection(100 + i), detection(150 - i)] for i in range(20)])
    updates = follow(tracker, [[detection(125)] for _ in range(120)], start=1.0)
    assert [t.merged for t in updates[-1].active] == [False]


def test_tracks_above_the_limit_are_counted_but_not_followed() -> None:
    tracker = Tracker(max_tracks=3)
    crowd = [detection(60.0 * i) for i in range(8)]
    updates = follow(tracker, [crowd] * 10)
    assert len(updates[-1].active) == 3
    assert tracker.unfollowed > 0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_the_order_of_detections_does_not_matter(seed: int, people: int) -> None:
    rng = np.random.default_rng(seed)
    starts, speeds = rng.uniform(0, 500, people), rng.uniform(-4, 4, people)
    one, other = Tracker(), Tracker()
    for i in range(25):
        frame = [
            detection(x + v * i, float(rng.uniform(48, 52)), score=float(rng.choice([0.4, 1.0])))
            for x, v in zip(starts, speeds, strict=True)
            if rng.random() > 0.1
        ]
        shuffled = [frame[j] for j in rng.permutation(len(frame))]
        a, b = one.update(frame, i / 25), other.update(shuffled, i / 25)
        assert [(t.id, t.box) for t in a.active] == [(t.id, t.box) for t in b.active]
