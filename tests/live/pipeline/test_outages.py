"""Outages as events, ends by the clock and by request, whatever the camera does."""

from __future__ import annotations

import contextlib
import time

import pytest
from standin_cameras import HttpCamera

from cstl_edge.live.api import watch
from cstl_edge.live.events import Event
from cstl_edge.live.pipeline.options import PipelineOptions
from cstl_edge.live.pipeline.run import run
from cstl_edge.live.sources.options import SourceOptions
from tests.live.pipeline.test_run import StandIn

OPTIONS = PipelineOptions(segmenter="background")
NOBODY = "http://user:s3cret@127.0.0.1:9/video"


def states(events: list[Event]) -> list[str]:
    return [str(event.state) for event in events if event.event == "source"]


def test_a_camera_that_is_away_is_reported_and_ends_by_the_clock() -> None:
    begun_s = time.monotonic()
    wait = SourceOptions(wait=True)
    with run(
        NOBODY, encoder=StandIn(), options=OPTIONS, source_options=wait, duration_s=5.0
    ) as events:
        seen = list(events)
    assert time.monotonic() - begun_s < 30
    assert states(seen)[:2] == ["opening", "offline"]
    offline = next(event for event in seen if event.state == "offline")
    assert offline.reason_code == "source_offline"
    assert "nothing listens at that port; trying again in 1 s" in str(offline.reason)
    assert "s3cret" not in "".join(event.to_json() for event in seen)


@pytest.mark.slow
def test_an_outage_is_between_two_onlines_and_the_clock_ends_the_run() -> None:
    seen: list[Event] = []
    with contextlib.closing(HttpCamera()) as camera:
        for event in watch(camera.address, model=StandIn(), segmenter="background", duration_s=8.0):
            if event.state == "online" and states(seen).count("online") == 0:
                camera.hang_up()
            seen.append(event)
    assert states(seen)[:5] == ["opening", "online", "offline", "opening", "online"]
    assert any(event.event == "scene" and event.state == "learning" for event in seen)


def test_a_run_stops_from_elsewhere_while_its_camera_is_away() -> None:
    wait = SourceOptions(wait=True)
    with run(NOBODY, encoder=StandIn(), options=OPTIONS, source_options=wait) as events:
        for event in events:
            if event.state == "offline":
                begun_s = time.monotonic()
                events.stop()
        assert time.monotonic() - begun_s < 3
