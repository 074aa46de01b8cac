"""Automatic segmenter: everybody of a recording, and of a camera whom the time allows, in turn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cstl_edge.live.segmentation.auto import AutoSegmenter
from cstl_edge.live.segmentation.base import Detection, SceneState

IMAGE = np.zeros((360, 640, 3), np.uint8)
FPS = 25.0


class Street:
    """Background and network in one; both take time on a clock of their own."""

    def __init__(self, people: int, crop_ms: float, subtraction_ms: float = 5.0) -> None:
        self.people, self.crop_ms, self.subtraction_ms = people, crop_ms, subtraction_ms
        self.now_s = 0.0
        self.masked_boxes: list[list[float]] = []  # of each frame, the left edges
        self.nobody: set[float] = set()  # left edges where the network finds nobody
        self.doubtful: set[float] = set()
        self.state = SceneState.READY
        self.learned = False

    def clock(self) -> float:
        return self.now_s

    def learn(self, samples, *, rolling: bool = False) -> None:
        self.learned = True

    def boxes(self) -> list[Detection]:
        full = np.full((100, 40), 255, np.uint8)
        lefts = [50.0 * i for i in range(self.people)]
        return [Detection((x, 100.0, 40.0, 100.0), full.copy(), False) for x in lefts]

    def segment(self, image, time_s, expected=()) -> list[Detection]:
        self.now_s += self.subtraction_ms / 1e3
        return self.boxes()

    def masked(self, image, pairs, detections, second_passes) -> list[tuple[Detection, int]]:
        self.now_s += len(pairs) * self.crop_ms / 1e3
        self.masked_boxes.append([d.box[0] for d, _ in pairs])
        people = []
        for detection, _ in pairs:
            x, y, w, h = detection.box
            if x in self.nobody:
                people.append((replace(detection, score=0.3 * detection.score), 1))
                continue
            mask = np.full((50, 20), 255, np.uint8)
            mask[:, : 10 if x in self.doubtful else 2] = 0
            people.append((Detection((x, y, w, h), mask, False), 1))
        return people


def run(street: Street, seconds: float) -> AutoSegmenter:
    segmenter = AutoSegmenter(street, street, street.clock)
    for i in range(round(seconds * FPS)):
        segmenter.segment(IMAGE, i / FPS)
    return segmenter


def test_everybody_is_masked_in_every_frame_where_the_time_allows() -> None:
    street = Street(2, crop_ms=8)
    segmenter = run(street, 6)
    assert all(len(lefts) == 2 for lefts in street.masked_boxes[10:])
    assert segmenter.detail is None


def test_no_more_is_masked_than_the_time_allows() -> None:
    street = Street(8, crop_ms=12)
    segmenter = run(street, 8)
    late = street.masked_boxes[100:]
    per_frame = sum(len(lefts) for lefts in late) / len(late)
    assert per_frame == pytest.approx((0.7 * 40 - 5) / 12, rel=0.1)
    assert "12 ms" in str(segmenter.detail)


def test_frames_that_come_in_bursts_have_time_as_well() -> None:
    steady, bursts = Street(8, crop_ms=12), Street(8, crop_ms=12)
    run(steady, 8)
    segmenter = AutoSegmenter(bursts, bursts, bursts.clock)
    for i in range(200):  # three at once, 120 ms apart
        segmenter.segment(IMAGE, (i // 3) * 3 / FPS + i % 3 * 1e-3)
    counts = [sum(map(len, street.masked_boxes[100:])) for street in (steady, bursts)]
    assert 0.3 * counts[0] < counts[1] <= counts[0]


def test_a_crop_that_takes_longer_than_a_frame_is_still_made_at_times() -> None:
    street = Street(2, crop_ms=100)
    run(street, 8)
    late = street.masked_boxes[100:]
    assert sum(len(lefts) for lefts in late) == pytest.approx(len(late) * 23 / 100, rel=0.2)


def test_everybody_gets_a_turn_and_doubtful_masks_twice_as_many() -> None:
    street = Street(6, crop_ms=12)
    street.doubtful = {100.0}
    run(street, 12)
    turns = [left for lefts in street.masked_boxes[100:] for left in lefts]
    counts = {50.0 * i: turns.count(50.0 * i) for i in range(6)}
    doubtful = counts.pop(100.0)
    assert min(counts.values()) > 0.8 * max(counts.values())
    assert doubtful == pytest.approx(2 * np.mean(list(counts.values())), rel=0.35)


def test_where_the_network_finds_nobody_the_score_stays_low_between_its_turns() -> None:
    street = Street(6, crop_ms=12)
    street.nobody = {150.0}
    segmenter = run(street, 4)
    for i in range(100, 130):
        people = {d.box[0]: d for d in segmenter.segment(IMAGE, i / FPS)}
        assert people[150.0].score == pytest.approx(0.3)
        assert people[50.0].score == 1.0


def test_a_change_is_reported_after_seconds_and_taken_back() -> None:
    street = Street(2, crop_ms=8)
    segmenter = run(street, 4)
    street.people = 12
    details = []
    for i in range(100, 400):
        if i == 250:
            street.people = 1
        segmenter.segment(IMAGE, i / FPS)
        details.append(segmenter.detail is not None)
    changes = [i for i in range(1, 300) if details[i] != details[i - 1]]
    assert len(changes) == 2
    assert changes[0] <= 2 * 3.0 * FPS
    assert 150 < changes[1] <= 150 + 2 * 3.0 * FPS


def test_a_report_stays_the_same_while_the_cost_of_a_crop_varies() -> None:
    street = Street(8, crop_ms=12)
    segmenter = run(street, 4)
    sentences = set()
    for i in range(100, 400):
        street.crop_ms = 12 + 5 * (i % 50 > 25)
        segmenter.segment(IMAGE, i / FPS)
        sentences.add(segmenter.detail)
    assert len(sentences) == 1
    assert "a crop takes 12 ms here" in str(sentences)


def test_everybody_of_a_recording_is_masked_however_long_it_takes() -> None:
    street = Street(8, crop_ms=1000)
    whole = Street(8, crop_ms=1)
    segmenter = AutoSegmenter(street, whole, street.clock)
    segmenter.learn([])
    assert whole.learned
    assert len(segmenter.segment(IMAGE, 0.0)) == 8
    assert segmenter.detail is None
    assert street.now_s == 0  # no clock was looked at
