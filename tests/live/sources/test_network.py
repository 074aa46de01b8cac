"""Files and failures behind http:// addresses."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from standin_cameras import Server

from cstl_edge.errors import ConfigError, SourceUnavailable
from cstl_edge.live.sources import stream
from cstl_edge.live.sources.base import SourceState
from cstl_edge.live.sources.files import VideoFile
from cstl_edge.live.sources.open import open_source


class WebServer(Server):
    """Answers every request with a status and a body."""

    def __init__(self, body: bytes = b"", status: str = "200 OK") -> None:
        super().__init__()
        self.body, self.status = body, status

    def talk(self, client) -> None:
        client.recv(4096)
        head = f"HTTP/1.0 {self.status}\r\nContent-Type: video/mp4\r\n"
        head += f"Content-Length: {len(self.body)}\r\n\r\n"
        client.sendall(head.encode() + self.body)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[WebServer]:
    path = tmp_path / "a.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    for i in range(20):
        writer.write(np.full((48, 64, 3), 10 * i, np.uint8))
    writer.release()
    with contextlib.closing(WebServer(path.read_bytes())) as server:
        yield server


def test_a_file_behind_http_gives_every_frame_and_ends(served: WebServer) -> None:
    source = open_source(f"http://{served.place}/a.avi", fps=5.0)
    assert isinstance(source, VideoFile)
    assert (source.live, source.fps, source.size) == (False, 5.0, (48, 64))
    for again in (source, source.reopen()):
        frames = list(again)
        assert [frame.index for frame in frames] == list(range(20))
        assert [frame.time_s for frame in frames][:3] == [0, 0.2, 0.4]
    part = open_source(f"http://{served.place}/a.avi", start_s=0.5, stop_s=1.0)
    assert [frame.index for frame in part] == [5, 6, 7, 8, 9]


@pytest.mark.skipif(
    importlib.util.find_spec("av") is None, reason="OpenCV does not say what the server answered"
)
@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("404 Not Found", r"no such stream \(404 Not Found\)"),
        ("401 Unauthorized", r"refuses the user name or password \(401 Unauthorized\)"),
        ("403 Forbidden", r"forbids this stream to this user \(403 Forbidden\)"),
        ("500 Internal Server Error", "fault of its own|error"),
    ],
)
def test_what_the_server_answers_is_said_in_our_words(status: str, reason: str) -> None:
    with contextlib.closing(WebServer(status=status)) as server:
        with pytest.raises(SourceUnavailable, match=reason) as caught:
            open_source(f"http://{server.place}/x")
        assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_nothing_that_listens_is_said_in_our_words(scheme: str) -> None:
    with pytest.raises(SourceUnavailable, match="refused: nothing listens at that port"):
        open_source(f"{scheme}://127.0.0.1:9/x")
    with pytest.raises(SourceUnavailable, match=r"name nowhere\.invalid is not known"):
        open_source(f"{scheme}://nowhere.invalid/x")


def test_a_camera_that_is_off_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "FIRST_DELAY_S", 0.05)
    states: list[SourceState] = []
    source = open_source("http://127.0.0.1:9/x", wait=True, on_state=states.append)
    assert (source.live, source.size) == (True, (0, 0))

    def enough(state: SourceState) -> None:
        states.append(state)
        if len(states) == 4:
            source.close()

    source._on_state = enough
    assert list(source) == []
    assert [state.state for state in states] == ["opening", "offline"] * 2
    assert "nothing listens" in states[1].detail


def test_a_part_of_a_stream_that_has_no_end_is_refused() -> None:
    from standin_cameras import HttpCamera

    with contextlib.closing(HttpCamera()) as camera, pytest.raises(ConfigError, match="live"):
        open_source(camera.address, start_s=1.0)
