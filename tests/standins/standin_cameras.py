"""Network cameras of a few lines: servers on this machine that speak HTTP or RTSP."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from short_walk import CLIP


class Server:
    """Accepts connections on a free port and talks to each in a thread of its own."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.place = f"user:s3cret@127.0.0.1:{self._server.getsockname()[1]}"
        self._clients: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def talk(self, client: socket.socket) -> None:
        """Say nothing until the client goes."""
        while client.recv(4096):
            pass

    def hang_up(self) -> None:
        for client in self._clients:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._server.close()
        self.hang_up()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                self._clients.append(client)
                threading.Thread(target=self._talk, args=(client,), daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError, IndexError), client:
            self.talk(client)


class HttpCamera(Server):
    """Motion JPEG over HTTP, 50 pictures per second, as many small cameras send it."""

    def __init__(self) -> None:
        super().__init__()
        self.address = f"http://{self.place}/video"
        self.shape, self.silent, self.sent = (48, 64), threading.Event(), 0

    def talk(self, client: socket.socket) -> None:
        client.recv(4096)
        kind = b"Content-Type: multipart/x-mixed-replace; boundary=cut"
        client.sendall(b"HTTP/1.1 200 OK\r\n" + kind + b"\r\n\r\n")
        while True:
            if not self.silent.is_set():
                self.sent += 1
                image = np.full((*self.shape, 3), self.sent % 250, np.uint8)
                jpeg = cv2.imencode(".jpg", image)[1].tobytes()
                lines = f"--cut\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                client.sendall(lines.encode() + jpeg + b"\r\n")
            time.sleep(1 / 50)


class RtspServer(Server):
    """Answers RTSP requests, each with 401: the password is refused."""

    player: socket.socket | None = None  # who has asked to play

    @property
    def address(self) -> str:
        return f"rtsp://{self.place}/walk"

    def talk(self, client: socket.socket) -> None:
        while request := client.recv(4096).decode(errors="replace"):
            verb, number = request.split()[0], request.lower().split("cseq:")[1].split()[0]
            status, lines, body = self.answer(verb)
            head = "\r\n".join([f"RTSP/1.0 {status}\r\nCSeq: {number}", *lines])
            client.sendall(f"{head}\r\n\r\n{body}".encode())
            if verb == "PLAY":
                self.player = client

    def answer(self, verb: str) -> tuple[str, list[str], str]:
        """Return status, lines of the head, body."""
        return "401 Unauthorized", ['WWW-Authenticate: Basic realm="camera"'], ""


class RtspCamera(RtspServer):
    """FFmpeg packs the shipped clip; its RTP packets are relayed over the connection."""

    def __init__(self, folder: Path) -> None:
        self._packets = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._packets.bind(("127.0.0.1", 0))
        port = self._packets.getsockname()[1]
        self._sdp = folder / "walk.sdp"
        codec = "-vf scale=442:248 -c:v mpeg4 -g 10"  # a key frame three times a second
        argv = f"ffmpeg -v error -re -stream_loop -1 -i {CLIP} {codec} -f rtp".split()
        target = ["-sdp_file", str(self._sdp), f"rtp://127.0.0.1:{port}?pkt_size=1200"]
        self._ffmpeg = subprocess.Popen([*argv, *target])
        super().__init__()
        threading.Thread(target=self._relay, daemon=True).start()

    def close(self) -> None:
        self._ffmpeg.kill()
        self._ffmpeg.wait()
        super().close()
        self._packets.close()

    def answer(self, verb: str) -> tuple[str, list[str], str]:
        lines, body = ["Session: 1"], ""
        if verb == "OPTIONS":
            lines.append("Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN")
        elif verb == "DESCRIBE":
            described = self._sdp.read_text().splitlines()
            body = "\r\n".join(x for x in described if not x.startswith(("SDP:", "c=")))
            body = body.split("m=")[0] + "m=" + body.split("m=")[1] + "\r\na=control:t\r\n"
            lines += ["Content-Type: application/sdp", f"Content-Length: {len(body)}"]
        elif verb == "SETUP":
            lines.append("Transport: RTP/AVP/TCP;unicast;interleaved=0-1")
        return "200 OK", lines, body

    def _relay(self) -> None:
        with contextlib.suppress(OSError):
            while packet := self._packets.recv(65536):
                if self.player is not None:
                    with contextlib.suppress(OSError):
                        self.player.sendall(b"$\0" + len(packet).to_bytes(2, "big") + packet)


def wait_until(condition: Callable[[], bool], limit_s: float = 5.0) -> None:
    end_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.005)
