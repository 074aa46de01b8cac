"""Background model: estimated under people who stand, and its noise."""

from __future__ import annotations

import numpy as np
import pytest

from cstl_edge.live.segmentation.background_model import (
    FULL_WEIGHT,
    NEAR,
    _count_votes,
    estimate_background,
    noise_map,
    occupied_weights,
    revise_background,
)

RNG = np.random.default_rng(0)
SCENE = np.full((60, 80, 3), (120, 128, 128), np.uint8)
SCENE[:, ::4, 0] = 150  # a fence


def noisy(image: np.ndarray) -> np.ndarray:
    noise = RNG.normal(0, 1.5, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def with_person(colour: int, left: int = 30) -> np.ndarray:
    image = SCENE.copy()
    image[10:50, left : left + 15] = (colour, 128, 128)
    return noisy(image)


def test_the_background_excludes_somebody_who_stands_most_of_the_time() -> None:
    people = [with_person(c) for c in (170, 190, 210, 230) for _ in range(3)]
    background = estimate_background([*people, *(noisy(SCENE) for _ in range(8))])
    assert np.abs(background.astype(int) - SCENE)[:, 32:44].max() <= 6
    median = np.median(np.stack([*people, *(noisy(SCENE) for _ in range(8))]), axis=0)
    assert np.abs(median - SCENE)[10:50, 32:44, 0].mean() > 20  # what a median would give


def test_weights_let_a_minority_win_over_three_people_in_black() -> None:
    samples = [with_person(15) for _ in range(12)] + [noisy(SCENE) for _ in range(8)]
    boxes = [[(28, 8, 20, 44)]] * 12 + [[(33, 30, 6, 10)]] * 8  # the ghost of a leg is small
    assert abs(int(estimate_background(samples)[30, 37, 0]) - 15) < 6
    background = estimate_background(samples, occupied_weights(boxes, SCENE.shape[:2]))
    assert np.abs(background.astype(int) - SCENE)[12:48, 32:43].max() <= 6


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("shape", [(60, 80), (61, 80), (60, 79), (6, 8)])
def test_a_revised_background_is_the_one_of_all_votes_counted_again(
    shape: tuple[int, int], threads: int
) -> None:
    height, width = shape
    samples = [with_person(colour, left)[:height, :width] for colour, left in
               ((15, 20), (15, 22), (170, 24), (120, 26), (190, 28))]  # fmt: skip
    samples = [np.ascontiguousarray(np.resize(s, (height, width, 3))) for s in samples]
    boxes: list[list[tuple[float, float, float, float]]] = [
        [(20, 9, 17, 42)], [(21.5, 9, 17, 41)], [(23, 9, 17, 42)], [], [(50, 30, 3, 5)],
    ]  # fmt: skip
    weights = occupied_weights(boxes, shape)
    weights[0][3:5, 1:7] = 0.1  # somebody who was drawn
    first = estimate_background(samples, threads=threads)
    assert np.array_equal(first, estimate_background(samples))
    revised = revise_background(first, samples, weights, threads)
    assert np.array_equal(revised, estimate_background(samples, weights))


def test_a_background_without_weights_stays() -> None:
    samples = [with_person(15), noisy(SCENE)]
    first = estimate_background(samples)
    nobody = occupied_weights([[], []], SCENE.shape[:2])
    assert revise_background(first, samples, nobody) is first


def test_weights_are_one_where_nobody_is_and_small_under_the_largest() -> None:
    large, small = occupied_weights([[(0, 0, 40, 40)], [(0, 0, 10, 10)]], (60, 80))
    assert large[50, 70] == 1.0
    assert large[5, 5] < 0.2
    assert small[5, 5] == 1.0


def test_noise_is_what_flickers_and_not_what_moved_far() -> None:
    before, after = SCENE.copy(), SCENE.copy()
    after[:20, :, 0] += 10
    after[40:, :, 0] = 255
    noise = noise_map([(before, after)])
    assert noise[5, 5, 0] == 10
    assert noise[25, 5, 0] == 0
    assert noise[50, 5, 0] == 40


def test_votes_counted_by_strips_are_those_of_every_pair() -> None:
    samples = [with_person(c, left) for c, left in ((170, 30), (15, 5), (170, 28), (90, 50))]
    weights = [RNG.random(SCENE.shape[:2], dtype=np.float32) for _ in samples]
    own = (np.stack(weights) * FULL_WEIGHT).round()
    expected = own.copy()
    for i, a in enumerate(samples):
        for j, b in enumerate(samples):
            near = (np.abs(a.astype(int) - b) <= NEAR).all(axis=2)
            expected[i] += own[j] * (near & (i != j))
    np.testing.assert_array_equal(_count_votes(samples, weights), expected)
