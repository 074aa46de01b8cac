"""Published walkers stand beside ours for the boards that were published, and for no other."""

import pytest

from cstl_edge.bench.jetson.published import beside_published
from cstl_edge.bench.record import Row


def row(**fields):
    return Row(**{"run": "r", "scenario": "multi", "contender": "tensorrt float16", **fields})


@pytest.mark.parametrize(
    ("board", "published"),
    [
        ("NVIDIA Jetson Orin Nano Developer Kit", "42 at 25"),
        ("NVIDIA Jetson AGX Orin Developer Kit", "188 at 25"),
    ],
)
def test_a_published_board(board, published):
    rows = [row(values={"walkers": 60.0}), row(skipped="no engines"), row(scenario="single")]
    (line,) = beside_published(rows, board)
    assert "tensorrt float16: 60 walkers" in line
    assert published in line
    assert "15:19276" in line


def test_other_boards_have_nothing_beside_them():
    assert beside_published([row(values={"walkers": 60.0})], "NVIDIA Jetson AGX Thor") == []
