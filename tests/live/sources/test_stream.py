"""Live sources over scripted captures: newest frame, stalls, faults, reopening, closing."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest
from standin_cameras import wait_until

from cstl_edge.arrays import Image
from cstl_edge.errors import ConfigError, SourceUnavailable
from cstl_edge.live.sources import stream
from cstl_edge.live.sources.base import Frame, SourceState
from cstl_edge.live.sources.options import SourceOptions
from cstl_edge.live.sources.stream import Capture, LiveSource


class Script(Capture):
    """Plays a list: a number is a frame's grey, "stall" hangs, "lost" fails, an error is raised."""

    def __init__(self, steps: Sequence[object], shape: tuple[int, int] = (4, 6)) -> None:
        self._steps: queue.Queue[object] = queue.Queue()
        self.feed(*steps)
        self.fps, self._shape = 10.0, shape
        self._stopped, self.closed = threading.Event(), threading.Event()

    def feed(self, *steps: object) -> None:
        for step in steps:
            self._steps.put(step)

    def open(self) -> None:
        if self._steps.queue and self._steps.queue[0] == "deaf":
            self._stopped.wait()
            raise SourceUnavailable("stopped")

    def read(self) -> Image | None:
        step = self._steps.get()
        if step == "stall":
            self._stopped.wait()
            raise SourceUnavailable("stopped")
        if step == "lost":
            raise SourceUnavailable("cable pulled at rtsp://u:s3cret@cam/1")
        if step == "end":
            return None
        if isinstance(step, Exception):
            raise step
        assert isinstance(step, int)
        return np.full((*self._shape, 3), step, np.uint8)

    def stop(self) -> None:
        self._stopped.set()
        self._steps.put("end")

    def close(self) -> None:
        self.closed.set()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let timeouts and delays pass fifty times faster."""
    quick = {"OPEN": 0.1, "FIRST_FRAME": 0.2, "STALL": 0.1}
    for name, seconds in quick.items():
        monkeypatch.setattr(stream, f"{name}_TIMEOUT_S", seconds)
    monkeypatch.setattr(stream, "FIRST_DELAY_S", 0.02)
    monkeypatch.setattr(stream, "MAX_DELAY_S", 0.6)


def open_live(*captures: Script | Exception, uri: str = "gst:x", **options: Any) -> LiveSource:
    """Open a source that starts one of the captures after the other."""
    left = list(captures)

    def start() -> Script:
        capture = left.pop(0)
        if isinstance(capture, Exception):
            raise capture
        return capture

    return LiveSource(uri, start, SourceOptions(**options))


def greys(frames: Iterable[Frame]) -> list[int]:
    return [int(frame.image[0, 0, 0]) for frame in frames]


def test_the_newest_frame_wins_and_the_others_are_counted() -> None:
    capture = Script([1, 2, 3, 4, 5])
    source = open_live(capture)
    wait_until(lambda: source.dropped == 4)
    frame = next(source)
    assert (frame.index, int(frame.image[0, 0, 0]), source.dropped) == (4, 5, 4)
    capture.feed(6)
    assert next(source).index == 5
    assert (source.live, source.size, source.fps, source.frames) == (True, (4, 6), 10.0, None)
    source.close()
    assert capture.closed.wait(1)
    assert list(source) == []


def test_a_regular_end_ends_the_iteration() -> None:
    states: list[SourceState] = []
    source = open_live(Script([1, "end"]), on_state=states.append)
    assert [f.index for f in source] == [0]
    assert [s.state for s in states] == ["opening", "online", "ended"]


def test_a_stall_is_noticed_and_the_source_opened_again() -> None:
    states: list[SourceState] = []
    first, second = Script([1, "stall"]), Script([2, "end"])
    frames = list(open_live(first, second, on_state=states.append))
    assert greys(frames) == [1, 2]
    assert [f.index for f in frames] == [0, 1]
    assert frames[1].time_s > frames[0].time_s
    assert " ".join(s.state for s in states) == "opening online offline opening online ended"
    assert "no frame for 0.1 s; trying again in 0.02 s" in states[2].detail
    assert first.closed.is_set()


def test_a_fault_is_reported_without_the_password(caplog: pytest.LogCaptureFixture) -> None:
    states: list[SourceState] = []
    captures = Script([1, "lost"]), Script([2, "end"])
    source = open_live(*captures, uri="rtsp://u:s3cret@cam/1", on_state=states.append)
    assert len(list(source)) == 2
    text = "".join(s.detail for s in states) + caplog.text + repr(source) + source.uri
    assert "s3cret" not in text
    assert "cable pulled at rtsp://***@cam/1" in text
    assert "offline" in caplog.text


def test_delays_double_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    states: list[SourceState] = []
    monkeypatch.setattr(stream, "FIRST_DELAY_S", 0.002)
    monkeypatch.setattr(stream, "MAX_DELAY_S", 0.06)
    gone = [SourceUnavailable("gone")] * 6
    source = open_live(Script([1, "lost"]), *gone, Script([2, "end"]), on_state=states.append)
    assert len(list(source)) == 2
    delays = [float(s.detail.split()[-2]) for s in states if s.state == "offline"]
    np.testing.assert_allclose(delays, [0.002, 0.004, 0.008, 0.016, 0.032, 0.06, 0.06])


def test_a_refused_password_is_tried_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    states: list[SourceState] = []
    monkeypatch.setattr(stream, "REFUSED_DELAY_S", 0.07)
    refused = SourceUnavailable("DESCRIBE failed: 401 Unauthorized")
    with open_live(refused, Script([2, "end"]), wait=True, on_state=states.append) as source:
        assert next(source).index == 0
    assert "in 0.07 s" in next(s.detail for s in states if s.state == "offline")


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("deaf", "does not open"),
        ("stall", "does not open"),
        ("lost", "does not open"),
        ("end", "before its first frame"),
        (MemoryError("out of memory"), "out of memory"),  # a bug is a fault of the source
    ],
)
def test_the_first_failure_raises(step: object, message: str) -> None:
    capture = Script([step])
    begun_s = time.monotonic()
    with pytest.raises(SourceUnavailable, match=message) as caught:
        open_live(capture, uri="rtsp://u:s3cret@cam/1")
    assert time.monotonic() - begun_s < 2
    assert caught.value.exit_code == 5
    assert "s3cret" not in str(caught.value)
    assert capture.closed.wait(1)


def test_retry_keeps_trying_from_the_start() -> None:
    captures = SourceUnavailable("gone"), Script(["deaf"]), Script([7, "end"])
    assert greys(open_live(*captures, wait=True)) == [7]


def test_another_size_in_mid_stream_is_delivered() -> None:
    source = open_live(Script([1, "lost"]), Script([2, "end"], shape=(8, 10)))
    assert [f.image.shape for f in source] == [(4, 6, 3), (8, 10, 3)]


def test_close_from_another_thread_wakes_the_reader() -> None:
    capture = Script([1])
    source = open_live(capture)
    assert next(source).index == 0
    threading.Timer(0.03, source.close).start()
    assert list(source) == []
    assert capture.closed.wait(1)


def test_close_while_waiting_to_try_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "FIRST_DELAY_S", 60.0)
    monkeypatch.setattr(stream, "MAX_DELAY_S", 60.0)
    source = open_live(Script([1, "lost"]))
    threading.Timer(0.05, source.close).start()
    begun_s = time.monotonic()
    assert len(list(source)) <= 1
    assert time.monotonic() - begun_s < 5


def test_a_live_source_does_not_start_over() -> None:
    with open_live(Script([1])) as source, pytest.raises(ConfigError):
        source.reopen()


def test_no_thread_is_left_after_close() -> None:
    before = threading.active_count()
    for _ in range(5):
        with open_live(Script([1, 2, 3])) as source:
            next(source)
    wait_until(lambda: threading.active_count() == before)


def test_a_frozen_camera_is_no_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "STALL_TIMEOUT_S", 0.5)
    monkeypatch.setattr(stream, "FIRST_FRAME_TIMEOUT_S", 60.0)
    states: list[SourceState] = []
    frozen, again = Script([]), Script([])
    source = open_live_with(frozen, again, states)
    frozen.feed(1)
    assert int(next(source).image[0, 0, 0]) == 1
    running = threading.Event()

    def repeat() -> None:
        while not running.wait(0.01) and not any(s.state == "offline" for s in states):
            frozen.feed(1)  # the same picture at full rate, over two openings
        for _ in range(30):
            again.feed(1)
        for grey in range(2, 200):  # then it moves again
            again.feed(grey)
            if running.wait(0.01):
                return

    threading.Thread(target=repeat, daemon=True).start()
    last = ""
    for frame in source:
        last = states[-1].state
        if int(frame.image[0, 0, 0]) > 1:
            break
        assert not any(state.state == "offline" for state in states)
    running.set()
    source.close()
    assert last == "online"
    offline = [state for state in states if state.state == "offline"]
    assert "the camera is frozen for 0.5 s" in offline[0].detail
    online = [i for i, state in enumerate(states) if state.state == "online"]
    assert len(online) == 2  # not again before it shows something new


def open_live_with(first: Script, second: Script, states: list[SourceState]) -> LiveSource:
    """Return a source that waits, over two captures."""
    return open_live(first, second, wait=True, on_state=states.append)


class Late(Script):
    """Gives pictures that arrived long ago, as over a clogged connection."""

    def read(self) -> Image | None:
        image = super().read()
        self.captured_s = time.monotonic() - 1.5
        return image


def test_pictures_that_come_late_are_no_pictures() -> None:
    states: list[SourceState] = []
    source = open_live(Late([1, 2, 3]), Script([4, "end"]), wait=True, on_state=states.append)
    assert greys(source) == [4]
    assert source.dropped == 3
    detail = next(state.detail for state in states if state.state == "offline")
    assert "pictures come more than 1 s late" in detail


def test_a_picture_that_waited_too_long_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MAX_AGE_S", 0.05)
    monkeypatch.setattr(stream, "STALL_TIMEOUT_S", 5.0)
    capture = Script([1])
    with open_live(capture) as source:
        time.sleep(0.1)
        capture.feed(2)
        assert int(next(source).image[0, 0, 0]) == 2
        assert source.dropped == 1


def test_the_delay_begins_anew_when_pictures_come() -> None:
    states: list[SourceState] = []
    captures: list[Script | Exception] = [SourceUnavailable("gone")] * 3
    captures += [Script([1, "lost"]), Script([2, "end"])]
    assert greys(open_live(*captures, wait=True, on_state=states.append)) == [1, 2]
    delays = [float(s.detail.split()[-2]) for s in states if s.state == "offline"]
    np.testing.assert_allclose(delays, [0.02, 0.04, 0.08, 0.02])


def test_the_wanted_rate_replaces_the_declared_one() -> None:
    with open_live(Script([1]), fps=12.5) as source:
        assert source.fps == 12.5


def test_the_first_picture_may_take_longer_than_the_next_one() -> None:
    """A camera that sleeps is waited for; one that falls silent is noticed all the same."""
    slow, silent = Script([]), Script([2])
    threading.Timer(0.6, slow.feed, [1]).start()  # the default would have given up
    states: list[SourceState] = []
    source = open_live(
        slow, silent, wait=True, on_state=states.append, first_picture_s=30.0, next_picture_s=0.15
    )
    assert int(next(source).image[0, 0, 0]) == 1
    assert int(next(source).image[0, 0, 0]) == 2
    assert [s.state for s in states][:3] == ["opening", "online", "offline"]
    assert "no frame for 0.15 s" in states[2].detail
    source.close()


@pytest.mark.parametrize("name", ["first_picture_s", "next_picture_s"])
@pytest.mark.parametrize("seconds", [0.0, -1.0, float("inf"), float("nan")])
def test_impossible_waits_are_refused(name: str, seconds: float) -> None:
    with pytest.raises(ConfigError, match=name):
        SourceOptions(**{name: seconds})
