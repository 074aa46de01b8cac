"""Segmentation noise of Walkers: bounded, in bursts, absent when switched off."""

import numpy as np
import pytest

from cstl_edge.silhouette import refusal
from cstl_edge.walkers import generate
from cstl_edge.walkers.noise import _bursts, draw_faults


def overlap(a, b):
    return ((a > 127) & (b > 127)).sum() / ((a > 127) | (b > 127)).sum()


def test_more_noise_differs_more_from_the_clean_walk():
    def walk(seed, noise):
        recording = generate.recording(seed, "nm", 90, noise=noise, height_px=128)
        return generate.silhouettes(generate.person(seed), recording, 6)

    clean = [walk(seed, 0.0) for seed in range(8)]
    shares = [
        np.mean([overlap(clean[seed], walk(seed, noise)) for seed in range(8)])
        for noise in (0.0, 0.6, 2.0)
    ]
    assert shares[0] == 1.0
    assert shares[0] > shares[1] > shares[2] > 0.6


def test_masks_look_like_those_of_a_segmenter():
    usable = total = 0
    for seed in range(16):
        view = 18.0 * (seed % 11)
        walk = generate.recording(seed, generate.CONDITIONS[seed % 3], view)
        for mask in generate.masks(generate.person(seed), walk, 6):
            assert mask.dtype == np.uint8
            assert set(np.unique(mask)) == {0, 255}
            assert not mask[0].any()
            assert not mask[:, -1].any()
            usable += refusal(mask, min_height_px=16) is None
            total += 1
    assert usable > 0.9 * total


def test_faults_come_in_bursts():
    rng = np.random.default_rng(0)
    on = _bursts(rng, 20_000, 25.0, 0.15) > 0
    assert 0.10 < on.mean() < 0.20
    starts = np.count_nonzero(on[1:] & ~on[:-1])
    assert 5 < on.sum() / starts < 13  # frames per burst: 0.35 s at 25 fps
    assert not _bursts(rng, 100, 25.0, 0.0).any()


def test_each_camera_has_a_segmenter_of_its_own():
    one, other = (draw_faults(generate.recording(3, "nm", view), 10) for view in (0, 90))
    assert not np.array_equal(one.threshold, other.threshold)


@pytest.mark.parametrize("noise", [0.0, 3.0])
def test_no_frame_is_lost(noise):
    for seed in range(6):
        walk = generate.recording(seed, "cl", 36.0, noise=noise, height_px=50)
        silhouettes = generate.silhouettes(generate.person(seed), walk, 12)
        assert len(silhouettes) == 12
        assert ((silhouettes > 127).mean((1, 2)) > 0.05).all()
