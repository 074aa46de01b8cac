"""The reliability diagram: its error, and the picture."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
pytest.importorskip("matplotlib")

from reliability import calibration_error, picture

BINS = [
    {"searches": 30, "confidence": 0.2, "right": 0.3},
    {"searches": 10, "confidence": 0.9, "right": 0.7},
]


def test_the_error_is_weighted_by_searches() -> None:
    assert calibration_error(BINS) == pytest.approx((30 * 0.1 + 10 * 0.2) / 40)


def test_the_picture_says_every_bin() -> None:
    svg = picture(BINS)
    assert svg.startswith("<svg xmlns=")
    assert "20 % sure, 30 % right" in svg
