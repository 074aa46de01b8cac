"""Person-mask segmenter: whole people from blobs that hold only pieces of them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from short_walk import CLIP

from cstl_edge.live.boxes import box_iou
from cstl_edge.live.segmentation.background import BackgroundSegmenter
from cstl_edge.live.segmentation.base import Detection
from cstl_edge.live.segmentation.mask_network import crop_square
from cstl_edge.live.segmentation.person_mask import (
    PersonMaskSegmenter,
    expected_region,
    split_resting,
)
from cstl_edge.live.sources.open import open_source
from cstl_edge.live.sources.synthetic.actor import Actor, WalkerSpec
from cstl_edge.live.sources.synthetic.source import SyntheticSource
from cstl_edge.runtime.masks.base import MaskNetwork
from cstl_edge.runtime.masks.open import open_mask_network

WOMAN = (360.0, 254.0, 107.0, 206.0)  # in the frame at 4 s: x, y, w, h, by eye


@pytest.fixture(scope="module")
def walking() -> np.ndarray:
    with open_source(CLIP, start_s=4.0) as source:
        return next(source).image


@pytest.fixture(scope="module")
def network() -> MaskNetwork:
    return open_mask_network()


@pytest.fixture
def segment(walking, network):
    """Return a function from given blobs to the people that the network finds there."""

    def run(*blobs: Detection) -> list[Detection]:
        background = SimpleNamespace(segment=lambda *_: list(blobs), look_ahead=lambda: None)
        return PersonMaskSegmenter(background, network).segment(walking, 0.0)

    return run


def blob(x: float, y: float, w: int, h: int, **more) -> Detection:
    return Detection((x, y, float(w), float(h)), np.full((h, w), 255, np.uint8), False, **more)


def test_a_batch_gives_what_each_crop_gives(walking, network) -> None:
    lefts = (100.0, 350.0, 500.0)
    crops = np.stack([crop_square(walking, (x, 200.0, 280.0, 280.0)) for x in lefts])
    logits, presence = network(crops)
    assert logits.shape == (3, 256, 256)
    assert ((presence >= 0) & (presence <= 1)).all()
    for i in range(3):
        alone, _ = network(crops[i : i + 1])
        np.testing.assert_allclose(alone[0], logits[i], atol=1e-3)
    for output, expected in zip(
        open_mask_network(threads=2)(crops), (logits, presence), strict=True
    ):
        np.testing.assert_array_equal(output, expected)


def test_a_torso_becomes_a_whole_person(segment) -> None:
    x, y, w, _ = WOMAN
    (person,) = segment(blob(x + w / 2 - 25, y + 40, 50, 110))
    assert person.score >= 0.5
    assert box_iou(person.box, WOMAN) > 0.75
    assert 0.2 < (person.mask > 0).mean() < 0.75


def test_two_pieces_of_one_person_are_one_person(segment) -> None:
    x, y, w, _ = WOMAN
    pieces = blob(x + w / 2 - 25, y + 5, 50, 100), blob(x + w / 2 - 25, y + 115, 50, 80)
    assert len(segment(*pieces)) == 1


def test_a_blob_without_a_person_gets_a_low_score(segment) -> None:
    (wall,) = segment(blob(60.0, 300.0, 40, 100))
    assert wall.score < 0.5


def test_a_shared_detection_passes_unchanged(segment) -> None:
    pair = blob(300.0, 200.0, 120, 150, shared=True)
    assert segment(pair) == [pair]


def test_a_network_of_another_side_masks_on_its_own_grid(walking) -> None:
    """A network that calls the middle of the upper half of a crop of 64 pixels a person."""

    class Upper:
        side = 64

        def __call__(self, crops):
            assert crops.shape[1:] == (64, 64, 3)
            logits = np.full((len(crops), 64, 64), -1.0)
            logits[:, 7:32, 20:44] = 1.0
            return logits, np.ones(len(crops))

    x, y, w, h = WOMAN
    people = [blob(x, y, round(w), round(h))]
    background = SimpleNamespace(segment=lambda *_: people, look_ahead=lambda: None)
    (person,) = PersonMaskSegmenter(background, Upper()).segment(walking, 0.0)
    assert person.box[1] + person.box[3] == pytest.approx(y + h / 2, abs=8)
    assert person.mask.shape == (25, 24)


def test_the_expected_region_grows_to_the_one_expected_person() -> None:
    leg = (100.0, 180.0, 20.0, 60.0)
    person = (90.0, 80.0, 50.0, 160.0)
    assert expected_region(leg, [person]) == person
    assert expected_region(leg, [(300.0, 80.0, 50.0, 160.0)]) == leg
    assert expected_region(leg, [person, (95.0, 80.0, 50.0, 160.0)]) == leg  # of whom is it?


def test_who_rests_where_expected_is_tracked_by_the_blob_and_others_are_masked():
    where, piece = blob(100, 50, 40, 100), blob(300, 90, 40, 60)
    expected = [(102.0, 50.0, 40.0, 100.0), (300.0, 50.0, 40.0, 100.0), (500.0, 50.0, 40.0, 100.0)]
    pairs = [(each, each.box) for each in (where, piece, blob(500, 50, 40, 100))]
    masked, interim = split_resting(pairs, expected, expected[:2])
    assert [detection.box[0] for detection, _ in masked] == [300, 500]  # a piece is no person
    assert [(detection.box[0], detection.interim) for detection in interim] == [(100, True)]
    assert split_resting(pairs, expected, []) == (pairs, [])
    assert split_resting(pairs, [], []) == (pairs, [])


def test_a_shadow_makes_nobody_wider(monkeypatch, network) -> None:
    def boxes() -> np.ndarray:
        with SyntheticSource([WalkerSpec(11, start_s=0.0)], seed=3) as source:
            frames = [frame.image for frame in source]
        segmenter = PersonMaskSegmenter(BackgroundSegmenter(), network)
        step = len(frames) // 12
        segmenter.learn([(frames[i], frames[i + 1]) for i in range(0, len(frames) - 1, step)])
        middle = len(frames) // 2
        seen = [segmenter.segment(frames[i], i / 25) for i in range(middle - 20, middle + 20, 8)]
        assert all(len(people) == 1 for people in seen)
        return np.array([people[0].box for people in seen])

    with_shadow = boxes()
    monkeypatch.setattr(Actor, "shade", lambda *_: None)
    without = boxes()
    np.testing.assert_allclose(with_shadow[:, 2:], without[:, 2:], rtol=0.08, atol=3)


@pytest.mark.parametrize("people", [0, 1, 2])
def test_the_next_frame_is_looked_at_beside_one_crop_and_behind_several(walking, people) -> None:
    order: list[str] = []

    class Blind:
        side = 64

        def __call__(self, crops):
            order.append(f"{len(crops)} crops")
            return np.full((len(crops), 64, 64), -1.0), np.zeros(len(crops))

    x, y, w, h = WOMAN
    blobs = [blob(x + 150 * i, y, round(w), round(h)) for i in range(people)]
    background = SimpleNamespace(
        segment=lambda *_: list(blobs),
        ahead=lambda _, *, at_once: order.append(f"ahead, at once: {at_once}"),
        look_ahead=lambda: order.append("look"),
    )
    segmenter = PersonMaskSegmenter(background, Blind())
    segmenter.ahead(walking)
    segmenter.segment(walking, 0.0)
    expected = {0: ["look"], 1: ["look", "1 crops", "look"], 2: ["2 crops", "look"]}[people]
    assert order == ["ahead, at once: False", *expected]
