"""Numerics: cosines, errors and frame flips at their edges."""

import numpy as np
import pytest

from cstl_edge.numerics import (
    TOLERANCES,
    Flips,
    allowed_error,
    cosine_per_part,
    count_flips,
    largest_error,
)

A = np.array([[[3, 4], [0, 0], [1, 0], [1, 0]]], np.float32)  # [n, p, d]
B = np.array([[[6, 8], [0, 0], [0, 2], [np.nan, 0]]], np.float32)


def test_the_cosine_of_every_part():
    cosine = cosine_per_part(A, B)
    np.testing.assert_allclose(cosine[0, :3], [1, 1, 0], atol=1e-6)
    assert np.isnan(cosine[0, 3])


def test_two_zero_vectors_agree_or_count_nothing():
    assert cosine_per_part(A, A)[0].tolist() == [1, 1, 1, 1]
    assert cosine_per_part(A, A, equal_is_one=False)[0].tolist() == pytest.approx([1, 0, 1, 1])


def test_the_largest_error_of_the_parts_that_are_compared():
    assert np.isnan(largest_error(A, B))
    same = np.array([[True, True, False, False]])
    assert largest_error(A, B, same) == 4
    assert largest_error(A, B, np.zeros((1, 4), bool)) == 0


def test_an_error_is_relative_to_values_above_1():
    assert allowed_error(1e-4, 0.01) == 1e-4
    assert allowed_error(1e-4, 20.0) == pytest.approx(2e-3)


@pytest.mark.parametrize(("floor", "ties"), [(0.0, 1), (1.0, 2)])
def test_flips_between_tied_scores_are_told_from_wrong_ones(floor, ties):
    """The second pair is 5 % of the largest score apart, and 0.005 of 1."""
    scores = np.array([[[2.0, 1.99, 0], [0.1, 0.095, 0], [1, 0.5, 0], [1, 0, 0]]])  # [n, p, s]
    expected = np.zeros((1, 4), np.int32)
    flips = count_flips(expected, np.array([[1, 1, 1, 0]], np.int32), scores, 0.01, floor=floor)
    assert flips == Flips(compared=4, wrong=3 - ties, ties=ties)
    assert flips + Flips(1, 1, 0) == Flips(5, 4 - ties, ties)


def test_every_precision_of_a_check_is_in_the_table():
    assert {check: set(rows) for check, rows in TOLERANCES.items()} == {
        "parity": {"float32"},
        "simplify": {"float32"},
        "gate": {"fp16", "int8"},
        "engine": {"float32", "fp16", "int8"},
        "bench": {"float32", "tfloat32", "float16", "bfloat16", "int8"},
    }
