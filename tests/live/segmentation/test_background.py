"""Background subtraction: people are detected, and the state reports when it cannot."""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence

import numpy as np
import pytest

from cstl_edge.arrays import Mask
from cstl_edge.live.boxes import Box
from cstl_edge.live.segmentation import background
from cstl_edge.live.segmentation.background import BackgroundSegmenter
from cstl_edge.live.segmentation.base import SceneState

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


def test_people_are_drawn_in_every_sample_with_their_own_boxes() -> None:
    """Of somebody who stands, masks of seconds ago had left a ghost in the empty scene."""
    calls: list[int] = []

    def draw(image: background.Pixels, boxes: Sequence[Box]) -> Mask:
        calls.append(len(boxes))
        return np.zeros(image.shape[:2], np.uint8)

    segmenter = BackgroundSegmenter()
    pairs = [(frame(100, seed=i), frame(100, seed=50 + i)) for i in range(7)]
    pairs += [(frame(None, seed=i), frame(None, seed=60 + i)) for i in range(10, 20)]
    segmenter.learn(iter(pairs), draw=draw)
    assert sorted(calls) == [0] * 10 + [1] * 7


def test_who_is_drawn_has_little_weight_in_the_own_sample(learned: BackgroundSegmenter) -> None:
    def draw(image: background.Pixels, boxes: Sequence[Box]) -> Mask:
        people = np.zeros(image.shape[:2], np.uint8)
        people[:, int(boxes[0][0]) :] = 1
        return people

    stills = [learned._prepare(frame(x, seed=x)) for x in (100, 200)]
    first, second = learned._weights(stills, draw)
    for weights, left in ((first, 100), (second, 200)):
        assert np.all(weights[:, left + 2 :] == np.float32(background.OCCUPIED_WEIGHT))
        assert np.all(weights[:, : left - 2] == 1)


def shaken(image: np.ndarray) -> np.ndarray:
    """Return another view, in which nearly all differs."""
    return np.ascontiguousarray(np.roll(image, 5, axis=1))


def test_a_look_at_the_next_frame_changes_nothing(trained: BackgroundSegmenter) -> None:
    """Plain twin: segmented with and without the frame that follows, to the bit."""
    images = [frame(30 + 5 * i, gain=1 - 0.006 * i, seed=i) for i in range(24)]
    images[9] = shaken(images[9])
    images[14:16] = [image[:200].copy() for image in images[14:16]]  # a new size: learned again
    results = []
    for looks in ("never", "at once", "later"):
        segmenter = copy.deepcopy(trained)
        for i, image in enumerate(images):
            if looks != "never" and i + 1 < len(images):
                segmenter.ahead(images[i + 1], at_once=looks == "at once")
            if i == 20:
                segmenter.relearn()
            people = segmenter.segment(image, i / 25)
            segmenter.look_ahead()
            scene = segmenter._background
            results.append((people, segmenter.state, None if scene is None else scene.copy()))
    plain, ahead = results[: len(images)], results[len(images) :]
    assert sum(len(people) for people, _, _ in plain) >= 13
    for (people, state, scene), (others, other_state, other_scene) in zip(
        [*plain, *plain], ahead, strict=True
    ):
        assert state is other_state
        assert np.array_equal(scene, other_scene)
        assert [p.box for p in people] == [p.box for p in others]
        assert [p.mask.tobytes() for p in people] == [p.mask.tobytes() for p in others]


def test_the_look_ahead_is_what_is_used(learned: BackgroundSegmenter) -> None:
    here, there = frame(60, seed=1), frame(200, seed=2)
    learned.ahead(there)
    learned.segment(here, 0.0)
    learned._look = None  # type: ignore[method-assign, assignment]  # it would fail
    (person,) = learned.segment(there, 0.04)
    assert person.box[0] == pytest.approx(200, abs=3)


def test_the_thread_that_looks_ends_with_its_segmenter(trained: BackgroundSegmenter) -> None:
    segmenter = copy.deepcopy(trained)
    before = {t for t in threading.enumerate() if t.name.startswith("cstl-edge-look")}
    segmenter.ahead(frame(60))
    segmenter.segment(frame(50), 0.0)
    (looking,) = {t for t in threading.enumerate() if t.name.startswith("cstl-edge-look")} - before
    del segmenter
    looking.join(30)
    assert not looking.is_alive()
