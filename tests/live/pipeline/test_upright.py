"""A camera that hangs upside down is noticed by who walks on their head."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import cstl_edge
from cstl_edge.errors import DataError
from cstl_edge.live.pipeline.collect import collect
from cstl_edge.live.pipeline.options import PipelineOptions
from cstl_edge.live.pipeline.run import run
from cstl_edge.live.pipeline.upright import MIN_FRAMES, UprightCheck
from cstl_edge.live.sources.options import SourceOptions

WALK = Path(cstl_edge.__file__).parent / "assets" / "walk.mp4"


def walk(frames: int, swing: float) -> Iterator[np.ndarray]:
    """Draw a head, a trunk and legs whose width swings by a share of the height."""
    for i in range(frames):
        mask = np.zeros((80, 60), np.uint8)
        mask[:15, 25:35] = mask[15:45, 20:40] = 255
        half = 6 + int(abs(swing * 80 * np.sin(i / 2)) / 2)
        mask[45:, 30 - half : 30 + half] = 255
        yield mask


def opinion(*walks: tuple[int, bool, float]) -> bool:
    """Return the opinion after walks of so many frames, upside down or not, with a swing."""
    check = UprightCheck()
    for number, (frames, inverted, swing) in enumerate(walks):
        for mask in walk(frames, swing):
            check.observe(number, mask[::-1] if inverted else mask)
        check.close(number)
    return check.everybody_inverted


def test_somebody_on_their_head_is_noticed_unless_others_walk_on_their_feet() -> None:
    assert opinion((30, True, 0.4))
    assert opinion((30, True, 0.4), (30, True, 0.4), (30, False, 0.0))
    assert not opinion((30, False, 0.4))
    assert not opinion((30, True, 0.4), (30, False, 0.4))


def test_who_shows_nothing_does_not_count() -> None:
    assert not opinion((30, True, 0.0))  # seen from the front
    assert not opinion((MIN_FRAMES - 1, True, 0.4))
    assert not opinion()


@pytest.mark.slow
def test_an_upside_down_camera_is_reported_once_and_enrols_nobody() -> None:
    from tests.live.pipeline.test_run import StandIn

    options = PipelineOptions(segmenter="background")
    for rotate, count in ((180, 1), (0, 0)):
        part = SourceOptions(start_s=1.0, stop_s=4.5, rotate=rotate)
        with run(WALK, encoder=StandIn(), options=options, source_options=part) as events:
            codes = [event.reason_code for event in events if event.event == "scene"]
        assert codes.count("upside_down") == count
    part = SourceOptions(start_s=1.0, stop_s=4.5)
    with pytest.raises(DataError, match="walks on their head") as caught:
        collect(f"{WALK}?rotate=180", StandIn(), options, source_options=part)
    assert "--rotate 180" in str(caught.value)
