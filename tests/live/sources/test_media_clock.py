"""Media time and frame rates of containers that declare nonsense."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cstl_edge.live.sources.media_clock import MediaClock, believable_fps


def test_the_media_clock_corrects_times_that_run_backwards() -> None:
    clock = MediaClock(10.0)
    stamps_s = [0, 0.1, 0.1, 0.05, math.nan, None, 0.7, 10.0]
    times = [clock.time_s(stamp) for stamp in stamps_s]
    np.testing.assert_allclose(times, [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 10.0])
    assert MediaClock(10.0).time_s(math.nan) == 0.0


@pytest.mark.parametrize("fps", [0.0, math.nan, 90_000.0])
def test_a_senseless_frame_rate_counts_as_25(fps: float) -> None:
    assert believable_fps(fps, None) == (25.0, f"declares {fps:g} frames per second; taking 25")
    assert believable_fps(fps, 12.0) == (12.0, "")
    assert believable_fps(29.97, None) == (29.97, "")
