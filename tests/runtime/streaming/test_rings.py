"""SlidingRing: the worked example of its docstring, and the order of the shares."""

import numpy as np
import pytest

from cstl_edge.runtime.streaming.rings import TAPS, SlidingRing


def test_shares_are_in_the_order_of_the_incremental_head():
    pytest.importorskip("torch", reason="the incremental head needs torch")
    from cstl_edge.model import incremental_head

    assert incremental_head.TAPS == TAPS


def sums_of_five(shares):
    """Return T_f + T_s [5] of a window of five frames, from the shares [5, 7] of each."""
    left2, left1, whole, first, right1, right2, end = shares.T
    return [
        first[0] + right1[1] + right2[2],
        left1[0] + whole[1] + right1[2] + right2[3],
        left2[0] + left1[1] + whole[2] + right1[3] + right2[4],
        left2[1] + left1[2] + whole[3] + right1[4],
        left2[2] + left1[3] + whole[4] - end[4],
    ]


def test_sums_of_a_window_of_five_frames_as_it_slides():
    shares = np.random.default_rng(0).random((1, 8, len(TAPS)), np.float32)  # [p, frames, 7c]
    ring = SlidingRing(window=5, parts=1, channels=1, min_frames=5)
    for begin, end in ((0, 5), (5, 6), (6, 7), (7, 8)):
        for frame in range(begin, end):
            ring.push(np.full((1, 1), frame, np.float32))
        assert ring.unanswered_features().ravel().tolist() == list(range(begin, end))
        slots, sums = ring.add_frames(shares[:, begin:end])
        np.testing.assert_array_equal(slots, ring.slots())  # in so short a window all sums change
        np.testing.assert_allclose(sums.ravel(), sums_of_five(shares[0, end - 5 : end]), atol=1e-6)
        ring.store_changed(slots, sums, {})
