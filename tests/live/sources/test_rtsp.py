"""A real RTSP stream, from a server of a few lines: FFmpeg packs the shipped clip, we relay it."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import cstl_edge
from cstl_edge.live.sources import stream
from cstl_edge.live.sources.base import SourceState
from cstl_edge.live.sources.open import open_source

WALK = Path(cstl_edge.__file__).parent / "assets" / "walk.mp4"
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")


class RtspServer:
    """Answers OPTIONS, DESCRIBE, SETUP and PLAY, and sends RTP packets over the same connection."""

    def __init__(self, folder: Path) -> None:
        self._packets = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._packets.bind(("127.0.0.1", 0))
        port = self._packets.getsockname()[1]
        self._sdp = folder / "walk.sdp"
        codec = "-vf scale=442:248 -c:v mpeg4 -g 10"  # a key frame three times a second
        argv = f"ffmpeg -v error -re -stream_loop -1 -i {WALK} {codec} -f rtp".split()
        self._ffmpeg = subprocess.Popen(
            [*argv, "-sdp_file", str(self._sdp), f"rtp://127.0.0.1:{port}?pkt_size=1200"]
        )
        self._player: socket.socket | None = None
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"rtsp://user:s3cret@127.0.0.1:{self._server.getsockname()[1]}/walk"
        threading.Thread(target=self._relay, daemon=True).start()
        threading.Thread(target=self._serve, daemon=True).start()

    def hang_up(self) -> None:
        if self._player is not None:
            with contextlib.suppress(OSError):
                self._player.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._ffmpeg.kill()
        self._ffmpeg.wait()
        self._server.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._server.close()
        self.hang_up()
        self._packets.close()

    def _relay(self) -> None:
        with contextlib.suppress(OSError):
            while packet := self._packets.recv(65536):
                if self._player is not None:
                    head = b"$\0" + len(packet).to_bytes(2, "big")
                    with contextlib.suppress(OSError):
                        self._player.sendall(head + packet)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                threading.Thread(target=self._talk, args=(client,), daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError, IndexError), client:
            while request := client.recv(4096).decode(errors="replace"):
                verb = request.split()[0]
                number = request.lower().split("cseq:")[1].split()[0]
                lines = [f"RTSP/1.0 200 OK\r\nCSeq: {number}", "Session: 1"]
                body = ""
                if verb == "OPTIONS":
                    lines.append("Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN")
                elif verb == "DESCRIBE":
                    body = "\r\n".join(
                        line
                        for line in self._sdp.read_text().splitlines()
                        if not line.startswith(("SDP:", "c="))
                    )
                    body = body.split("m=")[0] + "m=" + body.split("m=")[1] + "\r\na=control:t\r\n"
                    lines += ["Content-Type: application/sdp", f"Content-Length: {len(body)}"]
                elif verb == "SETUP":
                    lines.append("Transport: RTP/AVP/TCP;unicast;interleaved=0-1")
                client.sendall(("\r\n".join(lines) + "\r\n\r\n" + body).encode())
                if verb == "PLAY":
                    self._player = client


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RtspServer]:
    served = RtspServer(tmp_path)
    yield served
    served.close()


@needs_ffmpeg
def test_an_rtsp_stream_comes_and_comes_back(
    server: RtspServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "FIRST_DELAY_S", 0.2)
    states: list[SourceState] = []
    with open_source(server.address, retry=True, on_state=states.append) as source:
        assert source.size == (248, 442)
        times = [next(source).time_s for _ in range(10)]
        assert times == sorted(set(times))
        server.hang_up()
        while [s.state for s in states].count("online") < 2:
            assert next(source).image.shape == (248, 442, 3)
    assert "offline" in [s.state for s in states]
    assert "s3cret" not in repr(states)
