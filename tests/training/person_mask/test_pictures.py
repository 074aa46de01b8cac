"""Training pictures: who is in the middle is the mask, whoever else is not."""

from __future__ import annotations

import numpy as np
import pytest

from cstl_edge.training.person_mask.clips import LabelledCrop
from cstl_edge.training.person_mask.network import SIDE
from cstl_edge.training.person_mask.pictures import Cutout, PictureMaker, draw_walkers, lay


@pytest.fixture(scope="module")
def maker() -> PictureMaker:
    image = np.full((256, 256, 3), 90, np.uint8)
    mask = np.zeros((256, 256), np.uint8)
    mask[64:192, 104:152] = 255
    image[mask > 0] = (30, 30, 200)
    crop = LabelledCrop(image, mask, (104, 64, 48, 128), 1.0, 0.0)
    photograph = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    return PictureMaker([crop], draw_walkers(2), [photograph])


def test_pictures_are_what_the_network_takes_and_the_same_for_a_seed(maker) -> None:
    first, again = (
        [maker.draw(np.random.default_rng([4, i])) for i in range(24)] for _ in range(2)
    )
    for a, b in zip(first, again, strict=True):
        assert a.image.shape == (SIDE, SIDE, 3)
        assert a.image.dtype == np.uint8
        assert a.mask.shape == (SIDE, SIDE)
        assert 0 <= a.mask.min() <= a.mask.max() <= 1.001
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.mask, b.mask)
    somebody = [s for s in first if s.presence > 0.5]
    assert 12 < len(somebody) < 24
    for sample in somebody:  # the mask lies around the middle
        rows, columns = np.nonzero(sample.mask > 0.5)
        assert abs(columns.mean() - SIDE / 2) < 0.25 * SIDE
        assert len(rows) > 60


def test_a_neighbour_hides_the_person_in_the_middle_and_is_no_part_of_the_mask() -> None:
    canvas, mask = np.zeros((100, 100, 3), np.float32), np.zeros((100, 100), np.float32)
    person = Cutout(np.full((40, 20, 3), 200, np.uint8), np.ones((40, 20), np.float32))
    lay(canvas, mask, person, (50, 50, 80), mine=True)
    assert mask[50, 50] == 1
    whole = mask.sum()
    lay(canvas, mask, person, (65, 50, 80), mine=False)
    assert mask[50, 70] == 0
    assert mask[50, 35] == 1
    assert 0.2 * whole < mask.sum() < 0.7 * whole


def test_walkers_are_cut_out_tightly() -> None:
    for cutout in draw_walkers(1):
        assert cutout.image.shape[:2] == cutout.alpha.shape
        rows = np.flatnonzero((cutout.alpha > 0.5).any(axis=1))
        assert rows[0] <= 6
        assert len(cutout.alpha) - rows[-1] <= 6
