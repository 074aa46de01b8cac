"""What stands around the service in the fault runs: a camera, a broker, a receiver of webhooks."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2

from cstl_edge.live.sources.synthetic.source import SyntheticSource
from serving.running import free_port, wait_for

SECRET = f"whsec_{base64.b64encode(bytes(32)).decode()}"
FPS = 10.0


class HttpCamera:
    """Motion JPEG over HTTP, a street without an end; can be taken away and given back."""

    def __init__(self, people: int = 2, seed: int = 9) -> None:
        """Draw the street.

        people: who cross it; seed: of people and pictures
        """
        street = SyntheticSource(people, seed=seed, fps=FPS)
        self._jpegs = [cv2.imencode(".jpg", f.image)[1].tobytes() for f in street]
        self.port, self._server = free_port(), None
        self._clients: list[socket.socket] = []

    _server: socket.socket | None

    @property
    def address(self) -> str:
        """Address for the site."""
        return f"http://127.0.0.1:{self.port}/video"

    def give(self) -> None:
        """Listen."""
        self._server = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._server,), daemon=True).start()

    def take_away(self) -> None:
        """Hang up and listen no more."""
        server, self._server = self._server, None
        for end in ([server] if server else []) + self._clients:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._clients = []

    def _accept(self, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = server.accept()
                self._clients.append(client)
                threading.Thread(target=self._send, args=(client,), daemon=True).start()

    def _send(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            client.recv(4096)
            kind = b"Content-Type: multipart/x-mixed-replace; boundary=cut"
            client.sendall(b"HTTP/1.1 200 OK\r\n" + kind + b"\r\n\r\n")
            number = 0
            while True:
                jpeg = self._jpegs[number % len(self._jpegs)]
                head = f"--cut\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                client.sendall(head.encode() + jpeg + b"\r\n")
                number += 1
                time.sleep(1 / FPS)


class Receiver:
    """A receiver of webhooks that remembers every message, and can be away."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.ids: list[str] = []
        self.away = False
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if not receiver.away:
                    receiver.events.append(json.loads(body)["data"])
                    receiver.ids.append(self.headers["webhook-id"])
                self.send_response(503 if receiver.away else 204)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()

    @property
    def settings(self) -> dict[str, Any]:
        """The webhook for the site: every event."""
        return {"name": "bench", "url": self.url, "secrets": [SECRET], "send": {"events": []}}

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()


class Broker:
    """A mosquitto with a client that notes every event; can be killed and started again."""

    def __init__(self, folder: Path, topic: str) -> None:
        """Write the broker's file; `installed` tells whether there is a mosquitto.

        folder: for its file; topic: of the events
        """
        self.port, self._topic, self._file = free_port(), topic, folder / "mosquitto.conf"
        user = "user root\n" if os.geteuid() == 0 else ""
        self._file.write_text(f"{user}listener {self.port} 127.0.0.1\nallow_anonymous true\n")
        self.events: list[dict[str, Any]] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._client: Any = None

    @staticmethod
    def installed() -> str | None:
        """Return the program, None where it is missing."""
        return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")

    def give(self) -> None:
        """Start it, and listen to it."""
        program = self.installed()
        if program is None:
            raise RuntimeError("mosquitto is not installed")
        self._process = subprocess.Popen(
            [program, "-c", str(self._file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for(self._listens, 20, "mosquitto listens")
        self._client = self._listen()

    def take_away(self, how: int = signal.SIGKILL) -> None:
        """End it, by default so that it forgets what was retained."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(20)
            self._client.loop_stop()
        self._process = None

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def _listen(self) -> Any:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        ready = threading.Event()
        client = Client(CallbackAPIVersion.VERSION2)
        client.on_message = lambda _c, _d, message: self.events.append(json.loads(message.payload))
        client.on_subscribe = lambda *_: ready.set()
        client.connect("127.0.0.1", self.port)
        client.loop_start()
        client.subscribe(self._topic, qos=1)
        if not ready.wait(20):
            raise TimeoutError("mosquitto did not answer a subscription")
        return client
