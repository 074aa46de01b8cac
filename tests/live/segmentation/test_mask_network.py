"""Mask network's input and output: square crops, masks between grids, the dilated hull."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from cstl_edge.live.segmentation.base import Detection
from cstl_edge.live.segmentation.mask_network import (
    SIDE,
    crop_square,
    dilated_hull,
    may_overlap,
    paste_mask,
    square_around,
)


def blob(x: float, y: float, w: int, h: int) -> Detection:
    return Detection((x, y, float(w), float(h)), np.full((h, w), 255, np.uint8), False)


def test_squares_reach_beyond_the_frame() -> None:
    image = np.full((100, 100, 3), 200, np.uint8)
    crop = crop_square(image, square_around((0.0, 0.0, 40.0, 80.0), 1.25))
    assert crop.shape == (SIDE, SIDE, 3)
    assert crop[:20].max() == 0
    assert crop[128, 128, 0] == 200


def test_large_crops_are_averaged_not_sampled() -> None:
    stripes = np.zeros((1000, 1000, 3), np.uint8)
    stripes[::2] = 255
    crop = crop_square(stripes, (0.0, 0.0, 1000.0, 1000.0))
    assert abs(int(crop[100:150, 100:150].mean()) - 127) < 10


def test_a_pasted_mask_keeps_its_place() -> None:
    grid = paste_mask(blob(50.0, 60.0, 20, 40), (40.0, 40.0, 64.0, 64.0))
    rows, columns = np.nonzero(grid)
    assert (rows.min(), rows.max() + 1) == pytest.approx((80, 240), abs=3)
    assert (columns.min(), columns.max() + 1) == pytest.approx((40, 120), abs=3)


def test_dilated_hull_equals_the_dilation_of_the_filled_hull() -> None:
    rng = np.random.default_rng(0)
    for number in range(60):
        mask = np.zeros((SIDE, SIDE), np.uint8)
        corners = rng.integers(0, SIDE, 2) + rng.integers(0, (2, 40, 150)[number % 3], (8, 2))
        for column, row in corners.clip(0, SIDE - 1)[: 1 + number % 8]:  # one point, a line, more
            mask[row, column] = 255
        distance = int(rng.integers(3, 30))
        hull = cv2.convexHull(cv2.findNonZero(mask))
        filled = cv2.fillConvexPoly(np.zeros_like(mask), hull, 255)
        shape = (2 * distance + 1, 2 * distance + 1)
        dilated = cv2.dilate(filled, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, shape))
        np.testing.assert_array_equal(dilated_hull(mask, distance), dilated)


def test_dilated_hull_of_an_empty_mask_is_empty() -> None:
    assert not dilated_hull(np.zeros((SIDE, SIDE), np.uint8), 5).any()


def test_a_detection_outside_a_square_has_no_pixel_on_its_grid() -> None:
    rng = np.random.default_rng(0)
    outside = 0
    for _ in range(300):
        person = blob(*rng.uniform(0, 400, 2), *(int(v) for v in rng.integers(5, 120, 2)))
        region = (*rng.uniform(0, 400, 2), *[float(rng.uniform(20, 200))] * 2)
        if not may_overlap(person, region):
            outside += 1
            assert not paste_mask(person, region).any()
    assert 50 < outside < 250
