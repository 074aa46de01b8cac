"""State of one track: silhouettes to embed, mirroring, breaks of a window."""

import numpy as np

from cstl_edge.live.pipeline.perception import TrackObservation
from cstl_edge.live.pipeline.track_state import MAX_WINDOWS, TrackState
from cstl_edge.live.tracking.walk_filter import Reason
from cstl_edge.runtime.streaming.encoder import StreamResult

LEFT_HALF = np.zeros((64, 44), np.uint8)
LEFT_HALF[:, :22] = 255
RIGHT_HALF = np.ascontiguousarray(LEFT_HALF[:, ::-1])


def observation(heading, reason=None, silhouette=LEFT_HALF):
    return TrackObservation(1, (0.0, 0.0, 44.0, 64.0), None, reason, silhouette, heading)


def test_walk_to_the_right_is_mirrored_with_its_held_frames():
    walker = TrackState(1, window=30, keep=True)
    assert walker.observe(observation(None, Reason.TOO_FEW), 0.0) == ([], False)
    fresh, broken = walker.observe(observation(0.5), 0.1)
    assert not broken
    assert len(fresh) == len(walker.silhouettes) == 2
    assert all(np.array_equal(silhouette, RIGHT_HALF) for silhouette in fresh)


def test_walk_to_the_left_or_the_camera_is_not_mirrored():
    for heading in (-0.5, 0.0, 0.1, None):
        fresh, _ = TrackState(1, window=30).observe(observation(heading), 0.0)
        assert np.array_equal(fresh[0], LEFT_HALF)


def test_turning_round_starts_a_new_window():
    walker = TrackState(1, window=30)
    sides = [(0.5, False), (0.05, False), (-0.05, False), (-0.5, True), (-0.5, False)]
    for step, (heading, breaks) in enumerate(sides):
        fresh, broken = walker.observe(observation(heading), step / 10)
        assert broken is breaks
        assert np.array_equal(fresh[0], LEFT_HALF if heading == -0.5 else RIGHT_HALF)


def window(value, seen, frames=30):
    return StreamResult(np.full((2, 3), value, np.float32), np.zeros(2, np.int32), seen, frames)


def test_a_walk_is_the_mean_of_all_its_windows_weighted_by_their_frames():
    walker = TrackState(1, window=30)
    walker.usable = 15 + 15 * 20
    walker.add_window(window(10.0, 15, frames=15))
    for number in range(1, 21):
        walker.add_window(window(float(number), 15 + 15 * number))
    seen = walker.walk()
    assert len(seen.windows) == MAX_WINDOWS
    assert seen.windows[-1, 0, 0] == 20
    np.testing.assert_allclose(seen.mean, (15 * 10 + 30 * sum(range(1, 21))) / (15 + 30 * 20))
    assert seen.seen == 315 / 30


def test_windows_that_are_kept_overlap_by_half_and_the_mean_has_the_others_too():
    walker = TrackState(1, window=30)
    for seen in range(30, 61, 5):
        walker.add_window(window(float(seen), seen))
    assert [result.frames_seen for result in walker.windows] == [30, 45, 60]
    np.testing.assert_allclose(walker.walk().mean, np.mean(range(30, 61, 5)))


def test_turning_round_keeps_the_walk_and_a_merge_ends_it():
    walker = TrackState(1, window=30)
    walker.observe(observation(-0.5), 0.0)
    walker.add_window(window(1.0, 30))
    walker.observe(observation(0.5), 0.1)
    walker.add_window(window(3.0, 30))
    np.testing.assert_allclose(walker.walk().mean, 2.0)
    walker.observe(observation(0.5, Reason.MERGED, None), 0.2)
    np.testing.assert_allclose(walker.walk().mean, 2.0)  # the track may end here
    walker.observe(observation(0.5), 0.3)
    assert walker.total is None
    assert walker.windows == []


def walk_with_meetings(
    merged: set[int],
    frames: int = 60,
    fps: float = 30.0,
    halves: set[int] = frozenset(),
    bad: Reason = Reason.NOT_PERSON,
) -> TrackState:
    walker = TrackState(1, window=30, keep=True)
    for number in range(frames):
        alone = number not in merged
        reason, silhouette = (None, LEFT_HALF) if alone else (Reason.MERGED, None)
        if number in halves:
            reason, silhouette = bad, None
        walker.observe(observation(-0.5, reason, silhouette), number / fps)
    return walker


def test_a_mask_that_touches_another_for_a_moment_costs_these_frames_alone():
    assert walk_with_meetings({40}).usable == 59
    assert walk_with_meetings({40, 41, 42}).usable == 57
    assert walk_with_meetings({40, 41, 42}).refused[Reason.MERGED] == 3
    assert walk_with_meetings({40}, halves={41, 42}).usable == 57  # whole within the time


def test_who_passes_somebody_begins_anew():
    assert walk_with_meetings({40, 41, 42, 43}).usable == 16  # those behind it
    assert walk_with_meetings({20}, frames=40, fps=10).usable == 19  # 0.2 s from alone to alone
    assert walk_with_meetings({40, 42, 44, 46, 48}).usable == 11  # one meeting, with gaps
    assert walk_with_meetings({0, 40}).usable == 58  # seen first in a meeting, later touched
    assert len(walk_with_meetings({5, 6, 7, 8}).silhouettes) == 51


def test_half_a_person_does_not_end_a_meeting():
    """Seen whole three frames before it and five behind it: in doubt, as after a long meeting."""
    halves = {37, 38, 39, 41, 42, 43, 44}
    assert walk_with_meetings({40}, halves=halves).usable == 15
    assert walk_with_meetings({40}, halves=halves).merged is False
    jumps = walk_with_meetings({40}, halves=halves, bad=Reason.NOT_WALKING)
    assert jumps.usable == 15


def test_who_was_hardly_alone_before_a_touch_may_have_been_two_people():
    """A blob of two that parts looks like a touch; what was seen before it is of nobody."""
    assert walk_with_meetings({20}).usable == 39
    assert walk_with_meetings({10, 30}).usable == 29  # not alone for a second between the two
    assert walk_with_meetings({10, 45}).usable == 48


def early_frame(height: float, reason: Reason | None = Reason.TOO_FEW) -> TrackObservation:
    silhouette = None if reason is Reason.MERGED else LEFT_HALF
    return TrackObservation(1, (0.0, 0.0, 44.0, height), None, reason, silhouette, -0.5)


def test_half_a_person_among_the_early_frames_is_left_out_when_the_walk_is_known():
    walker = TrackState(1, window=30)
    for step in range(15):
        walker.observe(early_frame(33.0 if step in {3, 4} else 64.0), step / 30)
    fresh, _ = walker.observe(early_frame(64.0, None), 0.5)
    assert len(fresh) == walker.usable == 14
    assert walker.refused[Reason.NOT_PERSON] == 2


def test_one_bad_frame_leaves_the_early_ones_and_a_meeting_or_no_walk_does_not():
    for bad, frames, usable in (
        (Reason.NOT_PERSON, 1, 11),
        (Reason.MERGED, 3, 1),  # who leaves it may be another
        (Reason.NOT_WALKING, 1, 1),
    ):
        walker = TrackState(1, window=30)
        for step in range(10):
            walker.observe(early_frame(64.0), step / 30)
        for step in range(10, 10 + frames):
            walker.observe(early_frame(64.0, bad), step / 30)
        walker.observe(early_frame(64.0, None), (10 + frames) / 30)
        assert walker.usable == usable, bad
        assert walker.refused[bad] == frames + 11 - usable


def test_who_ends_in_a_meeting_before_the_walk_is_known_was_merged():
    walker = TrackState(1, window=30)
    for step in range(10):
        walker.observe(early_frame(64.0), step / 30)
    walker.observe(early_frame(64.0, Reason.MERGED), 10 / 30)
    walker.forget_held()
    assert walker.no_answer() is Reason.MERGED
    assert walker.refused[Reason.MERGED] == 11


def test_a_frame_whose_upper_body_is_another_is_left_out():
    walker = TrackState(1, window=30)
    for step in range(10):
        assert len(walker.observe(observation(-0.5), step / 10)[0]) == 1
    headless = LEFT_HALF.copy()
    headless[:32] = 0
    assert walker.observe(observation(-0.5, silhouette=headless), 1.0) == ([], False)
    assert walker.reason is Reason.NOT_PERSON
    assert walker.refused[Reason.NOT_PERSON] == 1
    assert walker.usable == 10
    legless = LEFT_HALF.copy()
    legless[32:] = 0
    assert len(walker.observe(observation(-0.5, silhouette=legless), 1.1)[0]) == 1


def test_a_walker_who_changes_for_good_is_refused_for_a_window_at_most():
    walker = TrackState(1, window=30)
    for step in range(40):
        walker.observe(observation(-0.5), step / 10)
    changed = [
        len(walker.observe(observation(-0.5, silhouette=RIGHT_HALF), 4 + step / 10)[0])
        for step in range(31)
    ]
    assert changed[0] == 0
    assert changed[-1] == 1
