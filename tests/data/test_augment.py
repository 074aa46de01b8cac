"""Augmentations of silhouettes: the input stays, every change keeps its bounds."""

import numpy as np
import pytest
from pydantic import ValidationError

from cstl_edge.data.augment import Augmentation


@pytest.fixture
def walk():
    frames = np.zeros((6, 64, 44), np.uint8)
    frames[:, :, 15:30] = 255
    return frames


def rng(seed=0):
    return np.random.default_rng(seed)


def test_all_augmentations_are_off_by_default(walk):
    off = Augmentation()
    assert off(walk, rng()) is walk
    assert off.span(16, 40, rng()) == 16


@pytest.mark.parametrize(
    "change", [{"shift_px": 2}, {"jitter_px": 2}, {"erase": 1.0}, {"lost_rows": 1.0}], ids=str
)
def test_the_input_stays_and_the_result_differs(walk, change):
    before, change = walk.copy(), Augmentation(**change)
    results = [change(walk, rng(seed)) for seed in range(8)]
    assert (walk == before).all()
    assert all(r.shape == walk.shape and r.dtype == np.uint8 for r in results)
    assert any((r != walk).any() for r in results)
    assert set(np.unique(np.stack(results)).tolist()) <= {0, 255}
    again = [change(walk, rng(seed)) for seed in range(8)]
    assert all((a == b).all() for a, b in zip(results, again, strict=True))


def test_a_shift_moves_all_frames_alike_and_jitter_each_by_itself(walk):
    def lefts(change, seed):
        return change(walk, rng(seed))[:, 30].argmax(axis=1)  # first column of the person

    together = [lefts(Augmentation(shift_px=2), seed) for seed in range(30)]
    assert {int(x[0]) for x in together} == {13, 14, 15, 16, 17}
    assert all(len(set(x.tolist())) == 1 for x in together)
    apart = [lefts(Augmentation(jitter_px=2), seed) for seed in range(10)]
    assert any(len(set(x.tolist())) > 1 for x in apart)


def test_rotation_turns_all_frames_by_at_most_its_angle(walk):
    change = Augmentation(rotate_deg=5.0)
    angles = []
    for seed in range(20):
        turned = change(walk, rng(seed))
        assert (turned == turned[0]).all()
        assert turned.sum() == pytest.approx(walk.sum(), rel=0.1)
        rows = np.arange(20, 45)  # away from the ends, which leave the picture
        middle = [np.average(np.arange(44), weights=turned[0, row]) for row in rows]
        angles.append(float(np.rad2deg(np.arctan(np.polyfit(rows, middle, 1)[0]))))
    assert max(map(abs, angles)) < 5.2
    assert max(map(abs, angles)) > 3
    assert min(angles) < 0 < max(angles)


def test_perspective_moves_corners_and_keeps_most_pixels(walk):
    change = Augmentation(perspective=0.1)
    for seed in range(10):
        seen = change(walk, rng(seed))
        assert (seen == seen[0]).all()
        assert 0.6 < seen.sum() / walk.sum() < 1.4
        assert (seen != walk).any()


def test_erasing_takes_one_rectangle_of_bounded_size(walk):
    change = Augmentation(erase=1.0, erase_share=0.25)
    for seed in range(30):
        gone = (walk != change(np.full_like(walk, 255), rng(seed))) & (walk == 255)
        rows, columns = gone[0].any(axis=1), gone[0].any(axis=0)
        assert (gone == gone[0]).all()
        assert rows.sum() <= 16
        assert columns.sum() <= 11


def test_only_the_lowest_rows_are_lost(walk):
    lost = Augmentation(lost_rows=0.5, lost_rows_px=3)(walk, rng(1))
    assert (lost[:, :61] == walk[:, :61]).all()
    whole = (lost == walk).all(axis=(1, 2))
    assert whole.any()
    assert not whole.all()


def test_thinning_never_spans_more_than_the_sequence():
    change = Augmentation(stride=2.0)
    spans = [change.span(16, 40, rng(seed)) for seed in range(200)]
    assert min(spans) >= 16
    assert 28 < max(spans) <= 32
    assert all(change.span(16, 20, rng(seed)) <= 20 for seed in range(50))
    assert change.span(16, 9, rng()) == 16


def test_unknown_and_impossible_settings_are_refused():
    with pytest.raises(ValidationError, match="flip"):
        Augmentation(flip=0.5)
    with pytest.raises(ValidationError, match="stride"):
        Augmentation(stride=0.5)
