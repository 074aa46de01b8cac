"""Perception of a recording: looking ahead changes nothing; samples of the empty scene."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from cstl_edge.errors import SourceUnavailable
from cstl_edge.live.pipeline import perception
from cstl_edge.live.pipeline.options import PipelineOptions
from cstl_edge.live.pipeline.perception import EndOfStream, FrameResult, PerceptionThread
from cstl_edge.live.segmentation.open import open_segmenter
from tests.live.pipeline.test_run import Street


class Watched:
    """Background subtraction that notes the pictures it was given; without `ahead` a plain one."""

    def __init__(self, *, looks: bool) -> None:
        self._inner, self.seen, self.announced = open_segmenter("background"), [], []
        if looks:
            self.ahead = self._ahead

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def _ahead(self, image):
        self.announced.append(image)
        self._inner.ahead(image)

    def segment(self, image, time_s, expected=()):
        self.seen.append(image)
        return self._inner.segment(image, time_s, expected)


def perceived(source, *, looks: bool) -> tuple[list, Watched]:
    """Return the messages of a run over a source, and its segmenter."""
    segmenter, messages = Watched(looks=looks), []
    thread = PerceptionThread(source, segmenter, PipelineOptions("background"), (64, 44))
    thread._put = messages.append
    thread.run()
    return messages, segmenter


def test_a_run_that_looks_ahead_finds_the_same_to_the_bit():
    (plain, _), (ahead, segmenter) = (perceived(Street(), looks=looks) for looks in (False, True))
    assert len(segmenter.announced) == len(segmenter.seen) - 1 == 119
    for picture, announced in zip(segmenter.seen[1:], segmenter.announced, strict=True):
        assert picture is announced
    silhouettes = 0
    for one, other in zip(plain[:-1], ahead[:-1], strict=True):
        assert (one.frame.index, one.scene) == (other.frame.index, other.scene)
        assert (one.born, one.closed) == (other.born, other.closed)
        for a, b in zip(one.observations, other.observations, strict=True):
            assert (a.id, a.box, a.reason, a.colours) == (b.id, b.box, b.reason, b.colours)
            np.testing.assert_array_equal(a.mask, b.mask)
            if a.silhouette is not None:
                np.testing.assert_array_equal(a.silhouette, b.silhouette)
                silhouettes += 1
    assert silhouettes > 60


def test_a_fault_of_the_next_frame_comes_behind_the_last_good_one():
    messages, segmenter = perceived(Street(fail_at=40), looks=True)
    assert [m.frame.index for m in messages[:-1]] == list(range(40))
    assert len(segmenter.announced) == 39
    assert isinstance(messages[-1], EndOfStream)
    assert isinstance(messages[-1].error, SourceUnavailable)


def test_of_a_fast_recording_the_frames_that_are_used_are_announced():
    street = Street()
    street.fps = 60.0
    messages, segmenter = perceived(street, looks=True)
    results = [m for m in messages if isinstance(m, FrameResult)]
    assert [m.frame.index for m in results] == list(range(0, 120, 2))
    assert all(a is b for a, b in zip(segmenter.seen[1:], segmenter.announced, strict=True))


def test_of_a_live_source_nothing_is_read_ahead():
    street = Street()
    street.live = True
    messages, segmenter = perceived(street, looks=True)
    assert len(messages) == 121
    assert not segmenter.announced


def test_a_run_that_is_ended_leaves_no_frame_half_done():
    segmenter, messages = Watched(looks=True), []
    thread = PerceptionThread(Street(), segmenter, PipelineOptions("background"), (64, 44))

    def put(message):
        messages.append(message)
        if len(messages) == 30:
            thread.finish()

    thread._put = put
    thread.run()
    assert len(segmenter.seen) == len(messages) - 1 == 30
    assert isinstance(messages[-1], EndOfStream)
    assert messages[-1].error is None


@pytest.mark.parametrize(
    ("frames", "fps", "samples"),
    [
        (60, 29.97, 16),
        (230, 29.97, 60),  # the shipped clip
        (6000, 25.0, 60),
        (50, 25.0, 16),
        (20, 10.0, 16),
        (30, 30.0, 12),
        (5, 25.0, 3),  # that have a frame a moment later
    ],
)
def test_a_short_recording_is_learned_from_fewer_samples(frames, fps, samples):
    class Empty(Street):
        def _image(self, i):
            return np.zeros((4, 4, 3), np.uint8)

    film = Empty(frames)
    film.fps = fps
    pairs = list(perception._pairs(film, frames, threading.Event()))
    assert len(pairs) == samples
