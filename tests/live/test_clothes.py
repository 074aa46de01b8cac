"""Descriptor of clothes: garments, not the picture around them, and not how much is seen."""

import numpy as np
import pytest

from cstl_edge.live.clothes import BINS, clothes_distance, clothes_of


def person(jacket, trousers, size=(100, 40), noise=0.0):
    pixels = np.zeros((*size, 3))
    pixels[: size[0] // 2], pixels[size[0] // 2 :] = jacket, trousers
    pixels += np.random.default_rng(1).normal(0, noise, pixels.shape)
    return pixels.clip(0, 255).astype(np.uint8), np.full(size, 255, np.uint8)


def test_a_descriptor_has_unit_length():
    clothes = clothes_of(*person((90, 150, 100), (40, 120, 140)))
    assert clothes.shape == (6 * BINS,)
    assert float(clothes @ clothes) == pytest.approx(1, abs=1e-5)
    assert clothes_distance(clothes, clothes) == pytest.approx(0, abs=1e-3)


def test_the_same_clothes_are_near_at_any_size_and_in_part():
    red_over_blue = clothes_of(*person((90, 180, 100), (50, 110, 170), noise=4))
    smaller = clothes_of(*person((92, 179, 101), (48, 111, 168), (60, 25), noise=4))
    pixels, mask = person((90, 180, 100), (50, 110, 170), noise=4)
    mask[:, 20:] = 0
    half = clothes_of(pixels, mask)
    other_way_round = clothes_of(*person((50, 110, 170), (90, 180, 100), noise=4))
    assert clothes_distance(red_over_blue, smaller) < 0.2
    assert clothes_distance(red_over_blue, half) < 0.1
    assert clothes_distance(red_over_blue, other_way_round) > 0.8


def test_what_is_outside_the_mask_does_not_count():
    pixels, mask = person((90, 180, 100), (50, 110, 170))
    mask[:, 30:] = 0
    before = clothes_of(pixels, mask)
    pixels[:, 30:] = 255
    assert clothes_distance(before, clothes_of(pixels, mask)) == pytest.approx(0, abs=1e-3)


def test_a_mask_of_one_row_has_a_descriptor():
    assert np.isfinite(clothes_of(*person((9, 9, 9), (9, 9, 9), (1, 1)))).all()
