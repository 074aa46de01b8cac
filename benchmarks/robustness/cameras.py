"""Lose a camera again and again: it goes away, changes its size, freezes, falls silent, refuses.

python benchmarks/robustness/cameras.py                        # 100 cycles, about 20 minutes
python benchmarks/robustness/cameras.py --cycles 10 --out x.jsonl

An MJPEG camera on this machine shows its time of sending in its pictures. Per cycle one line of
JSON: how long until the fault was reported, how long until new pictures came after it had passed,
the oldest picture that was given as new, threads, open files and children left. Exit 1 where a
fault took more than 8 s to be noticed (a change of size: none is due), pictures took more than 12 s
to come again, one was older than 1.5 s, or something was left behind.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from cstl_edge.live.sources.base import FrameSource, SourceState
from cstl_edge.live.sources.open import open_source
from cstl_edge.measure.environment import environment
from cstl_edge.output import append_line

Fault = Literal["gone", "size", "frozen", "silent", "refused"]
FAULTS: tuple[Fault, ...] = ("gone", "size", "frozen", "silent", "refused")
SIZES = ((240, 320), (480, 640))
GREY_PER_S = 4.0  # grey values; the shade repeats after 64 s
MAX_NOTICE_S, MAX_RETURN_S, MAX_AGE_S = 8.0, 12.0, 1.5


class Camera:
    """Motion JPEG over HTTP, 25 pictures per second, whose grey is the time."""

    def __init__(self) -> None:
        self.fault: Fault | None = None
        self.size = 0
        self._began_s = time.monotonic()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}/video"
        self._last = b""
        threading.Thread(target=self._accept, daemon=True).start()

    def age_s(self, image: Any) -> float:
        """Return the age of a picture."""
        return float((self._grey() - image.mean()) % 256) / GREY_PER_S

    def _grey(self) -> float:
        return (time.monotonic() - self._began_s) * GREY_PER_S % 256

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            client.recv(4096)
            if self.fault == "gone":
                return
            if self.fault == "refused":
                client.sendall(b"HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                return
            kind = b"Content-Type: multipart/x-mixed-replace; boundary=b"
            client.sendall(b"HTTP/1.0 200 OK\r\n" + kind + b"\r\n\r\n")
            while self.fault not in ("gone", "refused"):
                if self.fault != "silent":
                    client.sendall(self._part())
                time.sleep(0.04)

    def _part(self) -> bytes:
        if self.fault != "frozen" or not self._last:
            grey = np.full((*SIZES[self.size], 3), self._grey(), np.uint8)
            self._last = cv2.imencode(".jpg", grey)[1].tobytes()
        head = f"--b\r\nContent-Type: image/jpeg\r\nContent-Length: {len(self._last)}\r\n\r\n"
        return head.encode() + self._last + b"\r\n"


class Watcher:
    """Reads a camera in a thread of its own; remembers states and ages of pictures."""

    def __init__(self, camera: Camera) -> None:
        self.camera, self.states = camera, list[tuple[float, str]]()
        self.newest_s, self.oldest_age_s, self.height = 0.0, 0.0, 0
        self.source: FrameSource = open_source(camera.address, wait=True, on_state=self._state)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _state(self, state: SourceState) -> None:
        self.states.append((time.monotonic(), state.state))

    def _read(self) -> None:
        for frame in self.source:
            self.oldest_age_s = max(self.oldest_age_s, self.camera.age_s(frame.image))
            self.newest_s, self.height = time.monotonic(), frame.image.shape[0]

    def close(self) -> None:
        """Stop reading."""
        self.source.close()
        self._thread.join(10)


def wait_for(condition: Any, limit_s: float) -> float | None:
    """Return the seconds until a condition holds, None where it does not within the limit."""
    begun_s = time.monotonic()
    while time.monotonic() - begun_s < limit_s:
        if condition():
            return round(time.monotonic() - begun_s, 2)
        time.sleep(0.02)
    return None


def cycle(watcher: Watcher, fault: Fault) -> dict[str, Any]:
    """Let a fault happen and pass; return what was seen."""
    camera, watcher.oldest_age_s = watcher.camera, 0.0
    begun_s = time.monotonic()
    noticed_s: float | None = None
    if fault == "size":
        camera.size = 1 - camera.size
    else:
        camera.fault = fault
        noticed_s = wait_for(
            lambda: any(t > begun_s and s == "offline" for t, s in watcher.states), MAX_NOTICE_S
        )
    camera.fault, passed_s = None, time.monotonic()
    height = SIZES[camera.size][0]
    back_s = wait_for(lambda: watcher.newest_s > passed_s and watcher.height == height, 30)
    good = back_s is not None and back_s <= MAX_RETURN_S and watcher.oldest_age_s <= MAX_AGE_S
    good = good and (fault == "size" or noticed_s is not None)
    return {
        "fault": fault,
        "noticed_s": noticed_s,
        "back_s": back_s,
        "oldest_age_s": round(watcher.oldest_age_s, 2),
        "ok": good,
    }


def left_behind() -> dict[str, int]:
    """Return the numbers of threads, open files and children of this process."""
    tasks = Path("/proc/self/task").glob("*/children")
    children = [child for task in tasks for child in task.read_text().split()]
    files = len(os.listdir("/proc/self/fd"))
    return {"threads": threading.active_count(), "files": files, "children": len(children)}


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cycles", type=int, default=100)
    results = Path(__file__).parents[1] / "results" / "robustness"
    parser.add_argument("--out", type=Path, default=results / "cameras.jsonl")
    args = parser.parse_args()
    record = {"run": f"cameras-{int(time.time())}"}
    append_line(args.out, record | {"cycles": args.cycles, "environment": environment()})
    watcher = Watcher(Camera())
    wait_for(lambda: watcher.newest_s > 0, 20)
    before, failures = left_behind(), 0
    for number in range(args.cycles):
        row = cycle(watcher, FAULTS[number % len(FAULTS)])
        time.sleep(0.5)
        failures += not row["ok"]
        append_line(args.out, record | {"cycle": number} | row | left_behind())
    after = left_behind()
    watcher.close()
    grown = {key: after[key] - before[key] for key in after}
    append_line(args.out, record | {"failures": failures, "grown": grown})
    print(f"{args.cycles} cycles, {failures} failed, left behind {grown}")
    return int(failures > 0 or any(value > 2 for value in grown.values()))


if __name__ == "__main__":
    sys.exit(main())
