"""Fitting of the walk basis: the shipped asset is what the script makes of the recordings."""

from pathlib import Path

import numpy as np
import pytest
from fit_strides import SHIFTED, aligned_strides, coefficients, fit

from cstl_edge.walkers.clothed.walk import INDEX, SEGMENTS, SWAY, walk_basis
from cstl_edge.walkers.pose import fourier

STRIDES = Path(__file__).parents[4] / "shared" / "data" / "stride_pack" / "strides.npz"
NAMES = ["pelvis", "lhip", "lknee", "lankle", "ltoe", "rhip", "rknee", "rankle", "rtoe",
         "thorax", "neck", "head", "lsho", "lelb", "lwri", "rsho", "relb", "rwri"]  # fmt: skip


def walking_points(shift):
    """Joint positions [1, 64, 18, 3] (x forward, y left, z up) of swinging sticks."""
    phase = (np.arange(64) + shift) / 64 * 2 * np.pi
    points = np.zeros((1, 64, 18, 3))
    points[0, :, :, 2] = np.linspace(0, 1.7, 18)[::-1]
    for name, sign in (("l", 1), ("r", -1)):
        for place, joint in enumerate(("knee", "ankle", "toe"), start=1):
            points[0, :, NAMES.index(name + joint), 0] = sign * 0.1 * place * np.cos(phase)
        points[0, :, NAMES.index(name + "hip"), 1] = sign * 0.1
    points[0, :, NAMES.index("lsho"), 1], points[0, :, NAMES.index("rsho"), 1] = 0.2, -0.2
    return points


@pytest.mark.parametrize("shift", [0, 9, 40])
def test_strides_begin_when_the_left_foot_is_foremost(shift):
    stored = {"pos": walking_points(shift), "joints": np.array(NAMES),
              "subject": np.array(["cmu_01"])}  # fmt: skip
    ankle = aligned_strides(stored)[0, :, NAMES.index("lankle"), 2]  # forward is z of the body
    assert ankle.argmax() == 0


def test_coefficients_give_the_directions_back():
    points = walking_points(0)[..., (1, 2, 0)]
    coeffs = coefficients(points, NAMES)
    assert coeffs.shape == (1, len(SEGMENTS) + 1, 11, 3)
    phases = np.arange(64) / 64
    lines = np.einsum("sf,fi->si", fourier(phases), coeffs[0, INDEX["LeftUpLeg"]])
    start, end = (points[0, :, NAMES.index(n)] for n in SEGMENTS["LeftUpLeg"])
    wanted = (end - start) / np.linalg.norm(end - start, axis=1, keepdims=True)
    assert np.abs(lines - wanted).max() < 0.02
    assert np.abs(coeffs[0, SWAY]).max() < 1e-9


def test_the_asset_is_made_of_the_recordings():
    if not STRIDES.exists():
        pytest.skip(f"no recorded strides at {STRIDES.parent.name}")
    with np.load(STRIDES) as stored:
        arrays = fit({key: stored[key] for key in stored.files})
    shipped = walk_basis()
    assert set(arrays) == set(shipped)
    for name in ("mean", "between_std", "within_std", "rest_std", "shifted"):
        assert np.abs(arrays[name].astype(np.float32) - shipped[name]).max() < 2e-3
    assert len(SHIFTED) == len(shipped["shifted"]) == 6
