"""People without motion: a detector finds them where background subtraction fails."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from cstl_edge.live.boxes import box_iou
from cstl_edge.live.segmentation.auto import BY_DETECTOR, AutoSegmenter
from cstl_edge.live.segmentation.background import BackgroundSegmenter
from cstl_edge.live.segmentation.base import Detection, SceneState
from cstl_edge.live.segmentation.person_mask import PersonMaskSegmenter
from cstl_edge.live.segmentation.without_motion import LOOK_S, STANDING_S, PeopleFinder
from cstl_edge.runtime.detector import FoundPerson

FPS = 25.0
RED = (20, 20, 220)  # BGR of everybody here; the wall has none of it
HEIGHT, WIDTH = 150, 60


def red(image):
    """Return uint8 [H, W], 255 where a picture is red."""
    blue, green, red_plane = (image[..., i].astype(int) for i in range(3))
    return ((red_plane > 150) & (blue < 90) & (green < 90)).astype(np.uint8) * 255


class RedDetector:
    """Detector to which a person is something red."""

    def __init__(self) -> None:
        self.sizes: list[tuple[int, int]] = []

    def __call__(self, image):
        self.sizes.append(image.shape[:2])
        _, _, stats, _ = cv2.connectedComponentsWithStats(red(image))
        return [FoundPerson(tuple(map(float, row[:4])), 0.9) for row in stats[1:] if row[4] > 400]


class RedNetwork:
    """Network that masks what is red."""

    side, provider = 128, "red"

    def __call__(self, crops):
        masks = np.stack([red(crop) for crop in crops])
        logits = np.where(masks > 0, 4.0, -4.0).astype(np.float32)
        return logits, masks.any(axis=(1, 2)).astype(np.float32)

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def wall():
    rng = np.random.default_rng(3)
    coarse = rng.uniform(60, 255, (45, 140, 1)).astype(np.float32)
    picture = cv2.resize(coarse, (1120, 360), interpolation=cv2.INTER_CUBIC)
    return np.repeat(np.clip(picture, 60, 255).astype(np.uint8)[..., None], 3, axis=2)


def picture(wall, left: float, people):
    """Return uint8 [360, 640, 3]: a view of the wall that begins at `left`, with people on it."""
    canvas = wall.copy()
    for x in people:
        canvas[120 : 120 + HEIGHT, round(x) : round(x) + WIDTH] = RED
    matrix = np.array([[1, 0, -left], [0, 1, 0]], np.float32)
    return cv2.warpAffine(canvas, matrix, (640, 360))


@pytest.fixture
def detector() -> RedDetector:
    return RedDetector()


@pytest.fixture
def segmenter(detector) -> AutoSegmenter:
    background, network = BackgroundSegmenter(), RedNetwork()
    person_mask = PersonMaskSegmenter(background, network)
    finder = PeopleFinder(detector, network)
    return AutoSegmenter(background, person_mask, clock=lambda: 0.0, finder=finder)


def nearest(people: list[Detection], box) -> float:
    return max((box_iou(person.box, box) for person in people), default=0.0)


def test_people_are_found_while_the_camera_pans_and_the_scene_is_learned_after_it(
    wall, segmenter, detector
) -> None:
    hits, states, details = [], [], []
    for i in range(200):
        time_s = i / FPS
        left = 100 + 3.0 * min(max(i - 75, 0), 50)  # pans from 3 to 5 s
        walker = 250 + 2.0 * i
        people = segmenter.segment(picture(wall, left, [walker]), time_s)
        hits.append(nearest(people, (walker - left, 120, WIDTH, HEIGHT)) > 0.8)
        states.append(segmenter.state)
        details.append(segmenter.detail)
    assert states[10] is SceneState.LEARNING  # waited for, as ever
    assert not detector.sizes or details[70] is None
    assert all(hits[85:]), [i for i in range(85, 200) if not hits[i]]
    assert BY_DETECTOR in details[85:130]
    assert details[-1] is None  # background subtraction again
    assert all(state is SceneState.READY for state in states[85:])


def test_the_detector_looks_no_more_often_than_the_rule_says(wall, segmenter, detector) -> None:
    for i in range(100):
        segmenter.segment(picture(wall, 100 + 4.0 * i, [400 + 3 * i]), i / FPS)
    assert 10 <= len(detector.sizes) <= 100 / FPS / LOOK_S + 1


def test_the_offset_of_the_camera_is_what_things_at_rest_have_moved(wall, segmenter) -> None:
    for i in range(60):
        segmenter.segment(picture(wall, 100 + 4.0 * i, []), i / FPS)
    assert segmenter.camera_offset[0] == pytest.approx(-4.0 * 59, abs=4)


def test_the_detector_is_off_where_background_subtraction_works(wall, segmenter, detector) -> None:
    for i in range(150):
        walker = 150 + 3.0 * i
        box = (walker - 100, 120.0, float(WIDTH), float(HEIGHT))
        people = segmenter.segment(picture(wall, 100, [walker]), i / FPS, [box] if i > 60 else [])
    assert nearest(people, box) > 0.8
    assert detector.sizes == []


def test_who_stands_until_nothing_of_them_differs_is_looked_for_where_they_are_expected(
    wall, segmenter, detector
) -> None:
    segmenter.learn([(picture(wall, 100, [400]), picture(wall, 100, [400]))] * 4)
    box = (300.0, 120.0, float(WIDTH), float(HEIGHT))  # is part of the scene that was learned
    found = []
    for i in range(50):
        people = segmenter.segment(picture(wall, 100, [400]), i / FPS, [box])
        found.append(nearest(people, box) > 0.8)
    assert all(found)
    assert all(person.score < 0.5 for person in people)  # goes on, but starts no track
    assert len(detector.sizes) <= 50 / FPS / STANDING_S + 1
    assert max(detector.sizes)[1] < 640  # a part of the picture
    assert not segmenter.segment(picture(wall, 100, [400]), 2.1, [])  # nobody expects them


def test_nobody_stands_where_somebody_was_expected_and_left(wall, segmenter) -> None:
    segmenter.learn([(picture(wall, 100, []), picture(wall, 100, []))] * 4)
    box = (300.0, 120.0, float(WIDTH), float(HEIGHT))
    assert [segmenter.segment(picture(wall, 100, []), i / FPS, [box]) for i in range(30)] == [
        []
    ] * 30


def test_whoever_covers_an_expected_person_is_not_taken_for_them(wall, segmenter, detector) -> None:
    segmenter.learn([(picture(wall, 100, []), picture(wall, 100, []))] * 4)
    behind = (310.0, 120.0, float(WIDTH), float(HEIGHT))
    people = segmenter.segment(picture(wall, 100, [400]), 0.0, [behind])
    assert len(people) == 1
    assert detector.sizes == []


def test_a_change_of_light_is_bridged_by_the_detector(wall, segmenter) -> None:
    hits = []
    for i in range(200):
        image = picture(wall, 100, [150 + 2 * i])
        if i >= 100:
            image[..., 0] = np.minimum(image[..., 0] // 2 + 120, 255)  # blue light
            image[red(image) > 0] = RED
            image[120:270][:, 50 + 2 * i : 50 + 2 * i + WIDTH] = RED
        people = segmenter.segment(image, i / FPS)
        hits.append(nearest(people, (50.0 + 2 * i, 120, WIDTH, HEIGHT)) > 0.8)
    assert np.mean(hits[100:]) > 0.95
