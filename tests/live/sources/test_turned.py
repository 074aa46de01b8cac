"""Pictures of cameras that hang upside down or sideways."""

from __future__ import annotations

import numpy as np
import pytest

from cstl_edge.live.sources.open import open_source
from cstl_edge.live.sources.turned import turn

STREET = "synthetic://1?seconds=0.5&size=160x120"
CORNERS = np.array([[1, 2], [3, 4]], np.uint8)[..., None].repeat(3, axis=2)


@pytest.mark.parametrize(
    ("rotate", "flip", "expected"),
    [
        (0, "h", [[2, 1], [4, 3]]),
        (0, "v", [[3, 4], [1, 2]]),
        (90, None, [[3, 1], [4, 2]]),
        (180, None, [[4, 3], [2, 1]]),
        (270, None, [[2, 4], [1, 3]]),
        (90, "h", [[1, 3], [2, 4]]),
    ],
)
def test_a_picture_is_turned_clockwise_then_mirrored(rotate, flip, expected) -> None:
    assert turn(CORNERS, rotate, flip)[..., 0].tolist() == expected


def test_every_frame_of_a_source_is_turned() -> None:
    plain = [frame.image for frame in open_source(STREET)]
    source = open_source(f"{STREET}&rotate=90")
    assert (source.size, source.fps, source.frames) == ((160, 120), 25.0, len(plain))
    for again in (source, source.reopen()):
        frames = list(again)
        assert len(frames) == len(plain)
        for frame, image in zip(frames, plain, strict=True):
            np.testing.assert_array_equal(frame.image, np.rot90(image, -1))
            assert frame.image.flags.c_contiguous
