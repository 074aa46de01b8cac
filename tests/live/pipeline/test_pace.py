"""Pace of masks: who is masked in a frame, the share of each, and the twin that masks everybody."""

from __future__ import annotations

import numpy as np
import pytest

from cstl_edge.errors import ConfigError
from cstl_edge.live.pipeline.options import PipelineOptions
from cstl_edge.live.pipeline.pace import MaskPace
from cstl_edge.live.pipeline.perception import FrameResult, PerceptionThread
from cstl_edge.live.segmentation.open import open_segmenter
from tests.live.pipeline.test_run import Street

FIRST = 15


def turns(walkers: int, fps: float, seconds: float, *, walker_fps: float | None = 12.5):
    """Return who is masked in each frame, of walkers who all walk from the first frame on."""
    pace, frames = MaskPace(walker_fps, FIRST), []
    for i in range(round(fps * seconds)):
        due = pace.due(range(walkers), i / fps)
        for walker in due:
            pace.take(walker, i / fps, usable=True)
        frames.append(due)
    return frames


def test_every_frame_until_the_first_answer_and_every_second_at_25_per_second_after_it():
    frames = turns(1, 25, 4)
    assert all(frames[:FIRST])
    assert [bool(due) for due in frames[FIRST : FIRST + 6]] == [False, True] * 3
    assert sum(map(len, frames)) == FIRST + (100 - FIRST) // 2


@pytest.mark.parametrize("fps", [24, 25, 30, 50, 60])
def test_rate_is_about_the_wanted_one_at_any_camera(fps):
    frames = turns(1, fps, 10)[FIRST:]
    rate = sum(map(len, frames)) / len(frames) * fps
    assert 10 <= rate <= 16


def test_slow_cameras_lose_nothing():
    assert all(turns(1, 12, 4))
    assert all(turns(1, 8, 4))


def test_turns_are_spread_and_nobody_is_left_out():
    frames = turns(8, 25, 4)[2 * FIRST :]
    assert max(map(len, frames)) <= 5
    for walker in range(8):
        own = [i for i, due in enumerate(frames) if walker in due]
        assert max(np.diff(own)) <= 4
        assert len(own) >= 0.45 * len(frames)


def test_without_a_rate_everybody_is_masked_in_every_frame():
    assert all(due == {0, 1} for due in turns(2, 25, 2, walker_fps=None))


def test_who_is_out_of_sight_takes_no_turn_from_others():
    pace = MaskPace(12.5, 0)
    for walker in (1, 2):
        pace.take(walker, 0.0, usable=True)
    for i in range(1, 50):
        if 1 in pace.due((1, 2), i / 25):  # 2 is due too, but nowhere to be masked
            pace.take(1, i / 25, usable=True)
            last = i
        assert i - last <= 2 if i > 2 else True
    assert 2 in pace.due((1, 2), 2.0)
    pace.forget(1)
    assert 1 in pace.due((1,), 2.001)


def test_who_stands_is_not_masked_in_every_frame():
    pace, masked = MaskPace(12.5, FIRST), 0
    for i in range(100):
        for walker in pace.due((1,), i / 25):
            pace.take(walker, i / 25, usable=False)
            masked += 1
    assert masked == 50 + 25  # in the first two of four seconds every frame


def test_frames_that_turn_out_to_be_of_no_walk_do_not_count_as_first_ones():
    pace, times_s = MaskPace(12.5, 5), iter(i / 25 for i in range(100))
    for usable in (None, None, None, None, False, None, None, True):
        time_s = next(times_s)
        while 1 not in pace.due((1,), time_s):
            time_s = next(times_s)
        pace.take(1, time_s, usable=usable)
    early = [1 in pace.due((1,), time_s + i / 25) for i in (1, 2)]
    assert early == [True, True]  # 3 of 5, the refused four are forgotten


def test_a_rate_at_which_nothing_tells_a_walk_is_refused():
    with pytest.raises(ConfigError, match="walker_fps of 4 at least"):
        PipelineOptions(walker_fps=1)


def test_where_masks_cost_nothing_more_every_frame_counts():
    assert PipelineOptions("background").paced_fps is None
    assert PipelineOptions("plate").paced_fps is None
    assert PipelineOptions("person-mask", walker_fps=10).paced_fps == 10
    assert PipelineOptions("auto").paced_fps == 12.5


class RestingSegmenter:
    """Background subtraction that notes whose masks were not wanted."""

    def __init__(self) -> None:
        self._inner, self.rested = open_segmenter("background"), []

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def rest(self, boxes):
        self.rested.append(len(boxes))


def perceived(walker_fps: float | None) -> tuple[list[FrameResult], list[int]]:
    """Return what perception finds on a street, and how many rested in each frame."""
    segmenter = RestingSegmenter()
    options = PipelineOptions("auto", walker_fps=walker_fps)
    thread = PerceptionThread(Street(), segmenter, options, (64, 44))
    results = []
    thread._put = lambda message: results.append(message)
    thread.run()
    return [result for result in results if isinstance(result, FrameResult)], segmenter.rested


def test_the_twin_that_masks_every_frame_has_the_same_tracks_and_those_silhouettes_and_more():
    (every, none), (paced, rested) = perceived(None), perceived(12.5)
    assert not any(none)
    taken = {"every": 0, "paced": 0}
    for one, other in zip(every, paced, strict=True):
        assert (one.born, one.closed) == (other.born, other.closed)
        for a, b in zip(one.observations, other.observations, strict=True):
            assert (a.id, a.box) == (b.id, b.box)
            assert not a.resting
            taken["every"] += a.silhouette is not None
            if b.silhouette is not None:
                taken["paced"] += 1
                np.testing.assert_array_equal(a.silhouette, b.silhouette)
            assert b.resting or a.reason == b.reason
    resting = sum(o.resting for r in paced for o in r.observations)
    assert 20 < resting <= sum(rested) <= resting + 2  # lost at the end, expected once more
    walked = taken["every"] - FIRST
    assert abs(taken["paced"] - FIRST - walked / 2) <= 2
