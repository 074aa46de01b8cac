"""Weights for INT8 are chosen by their outputs, and that shows on silhouettes not calibrated on."""

import numpy as np
import pytest

from cstl_edge.export.quantization import weight_rounding
from cstl_edge.export.quantization.int8_trunk import WEIGHT_LEVELS, activations, quantise
from cstl_edge.export.quantization.tensor_ranges import measure_ranges
from cstl_edge.export.simplify import run


def blocks(seed, count):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 2, (count, 4, 3), np.uint8) * np.uint8(255)
    return {"silhouettes": coarse.repeat(4, 1).repeat(4, 2)}  # [m, 16, 12]


@pytest.fixture(scope="module")
def feeds():
    return [blocks(seed, 12) for seed in range(4)]


@pytest.fixture
def plain(traced):
    return traced("frames", widths=(8, 16, 16, 16))


@pytest.fixture
def limits(plain, feeds):
    return {n: span.largest for n, span in measure_ranges(plain, activations(plain), feeds).items()}


def test_outputs_come_nearer_on_other_silhouettes(plain, limits, feeds):
    other = blocks(99, 40)
    expected = run(plain, other)[0]
    rounded = quantise(plain, limits)
    chosen = quantise(plain, limits, weight_rounding.refit_weights(plain, limits, feeds))
    before, after = (
        np.square(run(model, other)[0] - expected).mean() for model in (rounded, chosen)
    )
    assert after < 0.6 * before


def test_it_is_one_set_of_weights_per_export(plain, limits, feeds):
    first, second = (weight_rounding.refit_weights(plain, limits, feeds) for _ in range(2))
    assert len(first) == 4
    for name, (steps, scale) in first.items():
        assert steps.dtype == np.int8
        assert np.abs(steps.astype(int)).max() <= WEIGHT_LEVELS
        np.testing.assert_array_equal(steps, second[name].steps)
        np.testing.assert_array_equal(scale, second[name].scale)


def test_independent_inputs_leave_the_weights_alone():
    wanted = np.random.default_rng(0).uniform(-60, 60, (5, 9))
    np.testing.assert_array_equal(weight_rounding.round_weights(wanted, np.eye(9)), np.rint(wanted))


def test_errors_are_made_good_by_inputs_that_go_along():
    rng = np.random.default_rng(1)
    common = rng.normal(size=(400, 1))
    inputs = common + 0.1 * rng.normal(size=(400, 18))  # all nearly the same
    wanted = rng.uniform(-40, 40, (6, 18))
    square = inputs.T @ inputs + 0.01 * np.eye(18)
    off = [
        inputs @ (steps - wanted).T
        for steps in (np.rint(wanted), weight_rounding.round_weights(wanted, square))
    ]
    assert np.square(off[1]).mean() < 0.2 * np.square(off[0]).mean()


def test_patches_are_the_inputs_of_a_convolution():
    import torch

    rng = np.random.default_rng(2)
    maps = rng.normal(size=(3, 4, 5, 6)).astype(np.float32)
    weight = rng.normal(size=(7, 4, 3, 3)).astype(np.float32)
    where = (np.array([0, 2, 1]), np.array([0, 4, 2]), np.array([5, 0, 3]))  # corners too
    expected = torch.nn.functional.conv2d(
        torch.tensor(maps), torch.tensor(weight), padding=1
    ).numpy()
    found = weight_rounding._patches(maps, where) @ weight.reshape(7, -1).T  # [i, o]
    np.testing.assert_allclose(found, expected[where[0], :, where[1], where[2]], rtol=1e-4)
