"""The service with a broker, a receiver and a camera around it, for the fault runs."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cstl_edge.serve.reader import Reader
from cstl_edge.serve.store import STORE_NAME
from cstl_edge.serve.store_rows import VisitFilter
from serving.peers import Broker, HttpCamera, Receiver
from serving.running import Service, rows, wait_for

STREET = "synthetic://2?seed={seed}&fps=10&size={size}&dense=1&live=1&loop=1"
BACK_S = 120.0  # how long something may take to be back
DISK_MB = 64


@dataclass
class House:
    """The service with everything around it."""

    service: Service
    receiver: Receiver
    camera: HttpCamera
    broker: Broker | None
    kills: int = 20  # of every camera's process
    first_event: int = 0  # newest one before anything was taken away

    @property
    def streets(self) -> list[str]:
        """Names of the synthetic cameras."""
        return [name for name in self.service.site["cameras"] if name != "net"]

    @property
    def reader(self) -> Reader:
        """The store."""
        return Reader(self.service.folder / "data")

    def newest_visit(self) -> str | None:
        """Return the id of the newest visit, None before the first."""
        rows = self.reader.visits(VisitFilter(), limit=1).visits
        return rows[0].id if rows else None

    def stored_faults(self) -> tuple[int, str]:
        """Return how many stored visits go on, and what SQLite says of the file; while it ended."""
        path = self.service.folder / "data" / STORE_NAME
        with contextlib.closing(sqlite3.connect(path)) as store:
            query = "SELECT count(*) FROM visits WHERE ended_utc IS NULL"
            (visits,) = store.execute(query).fetchone()
            return int(visits), str(store.execute("PRAGMA integrity_check").fetchone()[0])

    def pids(self) -> dict[str, int]:
        """Return the numbers of all processes that run."""
        return {name: p["pid"] for name, p in self.service.processes().items() if p["pid"]}

    def same_pids(self, before: dict[str, int], why: str, but: tuple[str, ...] = ()) -> None:
        """Raise AssertionError where a process was started anew.

        Args:
            before: Numbers of the processes by name.
            why: What happened to one of them.
            but: Names that do not count.
        """
        now = self.pids()
        changed = {x for x in before.keys() | now.keys() if before.get(x) != now.get(x)} - {*but}
        if changed:
            states = {x: (self.service.processes().get(x) or {}).get("reason") for x in changed}
            raise AssertionError(f"started anew when {why}: {states}")

    def frames(self) -> dict[str, float]:
        """Return the frames of each camera so far."""
        return rows(self.service.metrics(), "camera_frames_total")

    def wait_frames(self, cameras: list[str], within_s: float = BACK_S) -> None:
        """Wait until every one of these cameras sends again."""
        before = self.frames()

        def grown() -> bool:
            now = self.frames()
            return all(now.get(camera, 0.0) > before.get(camera, 0.0) for camera in cameras)

        wait_for(lambda: quietly(grown), within_s, f"frames of {', '.join(cameras)}")

    def lost(self) -> dict[str, int]:
        """Wait until nothing is queued; return how many events are missing, and are there twice."""

        def all_sent() -> bool:
            queues = rows(self.service.metrics(), "output_queue_length")
            return bool(queues) and not any(queues.values())

        wait_for(lambda: quietly(all_sent), BACK_S, "empty queues of the outputs")
        newest = self.reader.last_event_id
        stored = [x for x in all_events(self.reader, self.first_event) if x[0] <= newest]
        keys = {key for _, key in stored}
        wait_for(lambda: keys <= self._received(self.receiver.events), 20, "all at the receiver")
        counts = {
            "events": len(stored),
            "missing_at_receiver": len(keys - self._received(self.receiver.events)),
            "twice_at_receiver": len(self.receiver.ids) - len(set(self.receiver.ids)),
        }
        if self.broker is not None:
            counts["missing_at_broker"] = len(keys - self._received(self.broker.events))
        return counts

    @staticmethod
    def _received(events: list[dict[str, Any]]) -> set[str]:
        return {key_of(event) for event in events}


def key_of(event: dict[str, Any]) -> str:
    """Return what tells an event from all others."""
    return (
        f"{event['utc']} {event['monotonic_s']} {event['event']} {event['visit']} {event['track']}"
    )


def all_events(reader: Reader, after: int) -> list[tuple[int, str]]:
    """Return number and key of every event in the store behind one."""
    found: list[tuple[int, str]] = []
    while batch := reader.events(found[-1][0] if found else after, 500):
        found += [(row.id, key_of(row.event)) for row in batch]
    return found


def quietly(condition: Any) -> Any:
    """Return what a condition says, nothing while the page does not answer."""
    with contextlib.suppress(RuntimeError, OSError):
        return condition()
    return None


@contextlib.contextmanager
def house_of(folder: Path, cameras: int, size: str, *, own_disk: bool) -> Iterator[House]:
    """Start everything and wait until it is ready.

    Args:
        folder: For site and data.
        cameras: Synthetic ones, besides one on HTTP.
        size: Of their pictures.
        own_disk: Whether the data folder gets a small file system of its own, as root.
    """
    own_disk = own_disk and os.geteuid() == 0
    data = folder / "data"
    data.mkdir(parents=True)
    if own_disk:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m,mode=0700", "tmpfs", str(data)]
        own_disk = subprocess.run(mount, check=False).returncode == 0
    network, hook = HttpCamera(), Receiver()
    listener = Broker(folder, "bench/events") if Broker.installed() else None
    outputs: dict[str, Any] = {"webhooks": [hook.settings]}
    if listener is not None:
        listener.give()
        own = {"host": "127.0.0.1", "port": listener.port, "topic": "bench", "keepalive_s": 5}
        outputs["mqtt"] = own
    network.give()
    sources = [STREET.format(seed=n, size=size) for n in range(cameras)]
    site = {
        "segmenter": "background",
        "cameras": {
            **{f"c{n}": {"source": source} for n, source in enumerate(sources)},
            "net": {"source": network.address},
        },
        "keep": {"unknowns": {"enabled": True}, "max_gb": 0.5, "min_free_gb": 0},
        "outputs": outputs,
    }
    try:
        with Service(folder, site) as service:
            service.wait_ready()
            yield House(service, hook, network, listener)
    finally:
        network.take_away()
        hook.close()
        if listener is not None:
            listener.take_away()
        if own_disk:
            subprocess.run(["umount", "-l", str(data)], check=False)
