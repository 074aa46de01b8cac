"""Background subtraction: people are detected, and the state reports when it cannot."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import pytest

from cstl_edge.arrays import Mask
from cstl_edge.live.boxes import Box
from cstl_edge.live.segmentation import background
from cstl_edge.live.segmentation.background import BackgroundSegmenter, to_draw
from cstl_edge.live.segmentation.base import SceneSamples, SceneState

RNG = np.random.default_rng(7)
H, W = 240, 320
TILES = RNG.integers(60, 200, (H // 8, W // 8, 3))
SCENE = np.repeat(np.repeat(TILES, 8, 0), 8, 1).astype(np.uint8)
NOISE = RNG.normal(0, 2, (16, H, W, 3)).astype(np.float32)


def frame(left: int | None, *, gain: float = 1.0, seed: int = 0) -> np.ndarray:
    """Return the scene with somebody in red and blue, 100 px tall, or nobody."""
    image = SCENE.astype(np.float32) * gain
    if left is not None:
        image[70:120, left : left + 36] = np.array((30, 30, 230)) * gain
        image[120:170, left + 6 : left + 30] = np.array((240, 40, 20)) * gain
    return np.clip(image + NOISE[seed % len(NOISE)], 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def trained() -> BackgroundSegmenter:
    segmenter = BackgroundSegmenter()
    lefts = [None, 20, 60, 100, 140, 180, 220, None, 260, 40]
    segmenter.learn((frame(x, seed=i), frame(x, seed=50 + i)) for i, x in enumerate(lefts))
    return segmenter


@pytest.fixture
def learned(trained: BackgroundSegmenter) -> BackgroundSegmenter:
    return copy.deepcopy(trained)


def test_a_walker_is_detected_in_place(learned: BackgroundSegmenter) -> None:
    assert learned.state is SceneState.READY
    for i, left in enumerate(range(30, 250, 30)):
        (person,) = learned.segment(frame(left, seed=100 + i), i / 25)
        assert person.box[:2] == pytest.approx((left, 70), abs=3)
        assert person.box[2:] == pytest.approx((36, 100), abs=5)
        assert person.score >= 0.5
        assert not person.clipped
        assert (person.mask > 0).mean() > 0.7


def test_an_empty_scene_gives_no_detection(learned: BackgroundSegmenter) -> None:
    assert learned.segment(frame(None, seed=99), 0.0) == []


def test_a_change_of_exposure_is_corrected(learned: BackgroundSegmenter) -> None:
    (person,) = learned.segment(frame(150, gain=0.8, seed=3), 0.0)
    assert abs(person.box[0] - 150) <= 3


def test_large_frames_are_processed_at_a_smaller_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "MAX_ROWS", 120)
    segmenter = BackgroundSegmenter()
    segmenter.learn([(frame(None, seed=i), frame(None, seed=9 + i)) for i in range(6)])
    (person,) = segmenter.segment(frame(150), 0.0)
    assert abs(person.box[0] - 150) <= 5
    assert abs(person.box[3] - 100) <= 7
    assert person.mask.shape[0] < 60


def test_a_moving_camera_gives_disturbed_and_no_detection(learned: BackgroundSegmenter) -> None:
    shaken = np.ascontiguousarray(np.roll(frame(150), 5, axis=1))
    assert learned.segment(shaken, 0.0) == []
    assert learned.state is SceneState.DISTURBED
    assert len(learned.segment(frame(150, seed=4), 0.1)) == 1
    assert learned.state is SceneState.READY


def test_a_camera_learns_from_a_rolling_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "WINDOW", 12)  # the cost grows with its square
    segmenter = BackgroundSegmenter()
    detections = []
    for i in range(90):  # at 12.5 frames per second
        left = 10 + 2 * i if i > 30 else None
        detections.append(segmenter.segment(frame(left, seed=i), i / 12.5))
    assert detections[0] == []
    assert segmenter.state is SceneState.READY
    counts = [len(people) for people in detections[40:]]
    assert counts.count(1) > 0.95 * len(counts)


def test_a_cameras_background_is_renewed_once_per_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "WINDOW", background.FIRST_SAMPLES)
    monkeypatch.setattr(background, "MAX_ROWS", H // 2)
    segmenter = BackgroundSegmenter()
    renewed_rows: list[range] = []
    renew = segmenter._renew_rows

    def counted(first: int, last: int) -> None:
        renewed_rows.append(range(first, last))
        renew(first, last)

    monkeypatch.setattr(segmenter, "_renew_rows", counted)
    for i in range(60):  # 6 s at 10 frames per second: then there are 2.1 s to a sample
        segmenter.segment(frame(None, seed=i), i / 10)
    del renewed_rows[:]
    for i in range(60, 60 + 21):
        segmenter.segment(frame(None, seed=i), i / 10)
    assert sorted(row for rows in renewed_rows for row in rows) == list(range(H // 2))


def test_the_scene_of_a_turned_camera_is_learned_again() -> None:
    segmenter, states = BackgroundSegmenter(), []
    turned = np.ascontiguousarray(frame(None)[:, ::-1])
    for i in range(90):
        segmenter.segment(frame(None, seed=i) if i < 30 else turned, i / 10)
        states.append(segmenter.state)
    del states[:30]
    assert states[0] is SceneState.DISTURBED
    assert SceneState.LEARNING in states
    assert states[-1] is SceneState.READY


def test_another_frame_size_resets_the_model(learned: BackgroundSegmenter) -> None:
    assert learned.segment(frame(100)[:200], 0.0) == []
    assert learned.state is SceneState.LEARNING


def test_who_is_still_there_is_drawn_in_every_third_sample_alone() -> None:
    stands: Box = (10.0, 10.0, 20.0, 60.0)
    walks: list[Box] = [(100.0 + 30 * i, 10.0, 20.0, 60.0) for i in range(5)]
    speck: Box = (5.0, 5.0, 4.0, 6.0)
    fresh, earlier = to_draw([[stands, box, speck] for box in walks], 20, every=3)
    assert fresh == [[stands, walks[0]], *([box] for box in walks[1:3]), [stands, walks[3]],
                     [walks[4]]]  # fmt: skip
    assert earlier == [set(), {0}, {0}, set(), {3}]


@pytest.mark.parametrize(("apart_s", "drawn"), [(1 / 30, 3), (0.05, 4), (0.1, 7), (2.0, 7)])
def test_a_mask_stands_for_another_sample_within_a_moment_alone(apart_s: float, drawn: int) -> None:
    """Of somebody who stands, shared masks of seconds ago had left a ghost in the empty scene."""
    calls: list[int] = []

    def draw(image: background.Pixels, boxes: Sequence[Box]) -> Mask:
        calls.append(len(boxes))
        return np.zeros(image.shape[:2], np.uint8)

    segmenter = BackgroundSegmenter()
    pairs = [(frame(100, seed=i), frame(100, seed=50 + i)) for i in range(7)]
    pairs += [(frame(None, seed=i), frame(None, seed=60 + i)) for i in range(10, 20)]
    segmenter.learn(SceneSamples(iter(pairs), apart_s), draw=draw)
    assert sum(calls) == drawn
    calls.clear()
    segmenter.learn(iter(pairs), draw=draw)
    assert sum(calls) == 7


def test_nobody_is_drawn_where_nobody_is() -> None:
    assert to_draw([[], []], 20, every=3) == ([[], []], [set(), set()])
