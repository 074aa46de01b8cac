"""A service that a benchmark starts, looks into and ends: its site, page, metrics and processes."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

TOKEN = secrets.token_urlsafe(24)
SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
LABEL = re.compile(r'(\w+)="([^"]*)"')
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
Json = Any


def street(side: int, people: int, fps: float, size: str = "640x360", seed: int = 1) -> str:
    """Return the address of one side of an endless street.

    Args:
        side: 0 to 3.
        people: Who walk about on all four sides.
        fps: Frames per second.
        size: Of the picture, WIDTHxHEIGHT.
        seed: Of people, times and pictures.
    """
    return (
        f"synthetic://street?side={side % 4}&people={people}&seed={seed + side // 4}&fps={fps:g}"
        f"&size={size}&live=1"
    )


def free_port() -> int:
    """Return a port that nobody uses now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_for(condition: Callable[[], Any], within_s: float, what: str) -> Any:
    """Wait for a condition and return its value; TimeoutError, naming it, where it never holds.

    Args:
        condition: Tried ten times a second.
        within_s: How long to wait.
        what: It is, for the message.
    """
    ends_s = time.monotonic() + within_s
    while time.monotonic() < ends_s:
        value = condition()
        if value:
            return value
        time.sleep(0.1)
    raise TimeoutError(f"not within {within_s:g} s: {what}")


class Service:
    """`cstl-edge serve` in a process of its own; a context manager that ends it."""

    def __init__(self, folder: Path, site: Mapping[str, Any]) -> None:
        """Write the site.

        Args:
            folder: Of site.yaml, the data and the log.
            site: Content of the site; page, data and metrics are added.
        """
        self.folder, self.port = folder, free_port()
        folder.mkdir(parents=True, exist_ok=True)
        self.site = {
            "name": "bench",
            "data": "data",
            **site,
            "page": {"port": self.port, "token": TOKEN, "max_viewers": 200},
            "outputs": {"metrics": {"public": True}, **site.get("outputs", {})},
        }
        self.path = folder / "site.yaml"
        self.path.write_text(yaml.safe_dump(self.site), encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Service:
        """Start it; SIGTERM to the benchmark ends it too."""
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it, by force where it does not end."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def start(self) -> None:
        """Start the service; its log goes to a file."""
        with (self.folder / "serve.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cstl_edge", "serve", str(self.path), "--strict"],
                stdout=log,
                stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )

    def wait_ready(self, within_s: float = 180.0) -> None:
        """Wait until every camera was seen."""
        wait_for(lambda: self._alive() and self.status("/readyz") == 200, within_s, "ready")

    def _alive(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"the service ended:\n{self.log_text()[-2000:]}")
        return True

    def stop(self) -> tuple[float, int]:
        """Send SIGTERM; return how long the end took [s] and the exit code."""
        if self._process is None:
            raise RuntimeError("the service does not run")
        began_s = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(30)
        self._process = None
        return time.monotonic() - began_s, code if code >= 0 else 128 - code

    def log_text(self) -> str:
        """Return what the service wrote."""
        path = self.folder / "serve.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def _open(
        self, path: str, method: str = "GET", content: Json = None, timeout_s: float = 20.0
    ) -> tuple[int, bytes]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            method=method,
            headers={"authorization": f"Bearer {TOKEN}"},
            data=None if content is None else json.dumps(content).encode(),
        )
        if content is not None:
            request.add_header("content-type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as answer:
                return int(answer.status), answer.read()
        except urllib.error.HTTPError as err:
            return err.code, err.read()
        except OSError:
            return 0, b""

    def status(self, path: str) -> int:
        """Return the status of a page, 0 where nobody answers."""
        return self._open(path)[0]

    def get(self, path: str) -> Json:
        """Return the JSON of REST (`/cameras`); RuntimeError for another answer than 2xx."""
        return self._json(path, "GET")

    def post(self, path: str, body: Json = None) -> Json:
        """Ask REST to do something."""
        return self._json(path, "POST", body or {})

    def _json(self, path: str, method: str, content: Json = None) -> Json:
        status, body = self._open(f"/api/v1{path}", method, content)
        if not 200 <= status < 300:
            raise RuntimeError(f"{method} {path}: {status} {body[:300]!r}")
        return json.loads(body) if body else None

    def metrics(self) -> Samples:
        """Return the figures of `/metrics` by name and labels."""
        status, body = self._open("/metrics")
        if status != 200:
            raise RuntimeError(f"/metrics: {status}")
        found: Samples = {}
        for line in body.decode().splitlines():
            match = SAMPLE.match(line)
            if match:
                found[match[1], frozenset(LABEL.findall(match[2] or ""))] = float(match[3])
        return found

    def processes(self) -> dict[str, Json]:
        """Return the processes by name, as the page shows them."""
        return {process["name"]: process for process in self.get("/health")["processes"]}

    def pid(self, process: str) -> int:
        """Return the number of a process that runs."""
        return int(
            wait_for(
                lambda: self.processes().get(process, {}).get("pid"), 60, f"{process} has a pid"
            )
        )


def value(samples: Samples, name: str, **labels: str) -> float:
    """Return one figure, 0 where it is not there."""
    return samples.get((f"cstl_edge_{name}", frozenset(labels.items())), 0.0)


def rows(samples: Samples, name: str) -> dict[str, float]:
    """Return a metric of one label by the label's value."""
    return {
        next(iter(labels))[1]: number
        for (key, labels), number in samples.items()
        if key == f"cstl_edge_{name}" and len(labels) == 1
    }
