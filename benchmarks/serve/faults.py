"""Take away what the service depends on, give it back, and look whether anything was lost.

python benchmarks/serve/faults.py --out faults.jsonl
python benchmarks/serve/faults.py workers broker --kills 20
sudo python benchmarks/serve/faults.py disk       # needs a file system of its own

`workers`   every camera's process is killed again and again; five deaths leave it off with a
            reason, a new start by the page brings it back; no other process notices
`others`    recogniser and front are killed
`broker`    mosquitto is killed with -9 and started again, and is away for a while
`receiver`  a webhook's receiver is away for a while
`camera`    a network camera hangs up and comes back
`disk`      the data folder is full, and is not any more
`deaf`      50 clients stop reading the wall

After each: every event of the store has reached the receiver of webhooks and the broker's listener.
One line of JSON per fault; exit 1 where one did not pass.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cstl_edge.measure.environment import environment
from cstl_edge.output import append_line
from cstl_edge.serve.reader import Reader

sys.path.insert(0, str(Path(__file__).parents[1]))
from serving.peers import Broker, HttpCamera, Receiver
from serving.running import TOKEN, Service, rows, value, wait_for
from serving.viewers import DeafClients, Viewers

STREET = "synthetic://2?seed={seed}&fps=10&size={size}&dense=1&live=1&loop=1"
AWAY_S = 15.0
BACK_S = 120.0  # how long something may take to be back
DEAF = 50
DEAF_MB = 60.0  # that the front may grow by while they do not read
DISK_MB = 64


@dataclass
class House:
    """The service with everything around it."""

    service: Service
    receiver: Receiver
    camera: HttpCamera
    broker: Broker | None
    arguments: argparse.Namespace
    first_event: int = 0  # newest one before anything was taken away

    @property
    def streets(self) -> list[str]:
        """Names of the synthetic cameras."""
        return [name for name in self.service.site["cameras"] if name != "net"]

    @property
    def reader(self) -> Reader:
        """The store."""
        return Reader(self.service.folder / "data")

    def pids(self) -> dict[str, int]:
        """Return the numbers of all processes that run."""
        return {name: p["pid"] for name, p in self.service.processes().items() if p["pid"]}

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


def workers(house: House) -> dict[str, Any]:
    """Kill the process of every synthetic camera again and again."""
    times_off = 0
    for camera in house.streets:
        name = f"camera:{camera}"
        for _ in range(house.arguments.kills):
            before = house.pids()
            os.kill(before[name], signal.SIGKILL)
            state = wait_for(
                partial(quietly, partial(_again, house, name, before)),
                BACK_S,
                f"{name} runs again or is off",
            )
            if state == "off":
                times_off += 1
                reason = house.service.processes()[name]["reason"]
                if not reason:
                    raise AssertionError(f"{name} is off without a reason")
                house.service.post(f"/cameras/{camera}/restart")
            house.wait_frames([camera])
            others = {x: pid for x, pid in before.items() if x != name}
            changed = {x for x, pid in house.pids().items() if others.get(x, pid) != pid}
            if changed:
                raise AssertionError(f"{', '.join(changed)} noticed the death of {name}")
    house.wait_frames([*house.streets, "net"])
    return {"kills": house.arguments.kills * len(house.streets), "times_off": times_off}


def _again(house: House, name: str, before: dict[str, int]) -> str | None:
    """Return `running` with another pid, or `off`; None for something in between."""
    process = house.service.processes()[name]
    if process["state"] == "off":
        return "off"
    runs = process["state"] == "running" and process["pid"] not in {None, before[name]}
    return "running" if runs else None


def others(house: House) -> dict[str, Any]:
    """Kill the recogniser and the front."""
    taken = {}
    for name in ("recogniser", "front"):
        before = house.pids()
        began_s = time.monotonic()
        os.kill(before[name], signal.SIGKILL)
        wait_for(
            partial(quietly, partial(_again, house, name, before)),
            BACK_S,
            f"{name} runs again",
        )
        house.wait_frames(house.streets)
        wait_for(lambda: house.service.status("/readyz") == 200, BACK_S, "ready")
        taken[name] = round(time.monotonic() - began_s, 1)
        workers_before = {x: pid for x, pid in before.items() if x.startswith("camera:")}
        workers_now = {x: pid for x, pid in house.pids().items() if x.startswith("camera:")}
        if workers_before != workers_now:
            raise AssertionError(f"a camera noticed the death of the {name}")
    return {"seconds_until_ready": taken}


def broker(house: House) -> dict[str, Any]:
    """Kill the broker, let events come, and start it again, three times."""
    if house.broker is None:
        return {"left_out": "mosquitto is not installed (Debian: apt-get install mosquitto)"}
    for _ in range(3):
        house.broker.take_away()
        _let_events_come(house)
        front = house.service.pid("front")
        os.kill(front, signal.SIGSTOP)  # so that nothing is sent before somebody listens
        try:
            house.broker.give()
        finally:
            os.kill(front, signal.SIGCONT)
        wait_for(lambda: quietly(lambda: _connected(house, "mqtt")), BACK_S, "mqtt is connected")
    return {"times": 3}


def receiver(house: House) -> dict[str, Any]:
    """Let the receiver of webhooks answer 503 for a while."""
    house.receiver.away = True
    _let_events_come(house)
    wait_for(lambda: not _connected(house, "webhook:bench"), BACK_S, "the page says so")
    house.receiver.away = False
    wait_for(lambda: _connected(house, "webhook:bench"), 900, "the webhook works again")
    return {}


def _connected(house: House, output: str) -> bool:
    return value(house.service.metrics(), "output_connected", output=output) == 1


def _let_events_come(house: House) -> None:
    """Wait a while, and until there are new events; frames must go on."""
    newest = house.reader.last_event_id
    time.sleep(AWAY_S)
    house.wait_frames(house.streets)
    wait_for(lambda: house.reader.last_event_id > newest, BACK_S, "events")


def camera(house: House) -> dict[str, Any]:
    """Take the network camera away and give it back, three times."""
    before = {name: pid for name, pid in house.pids().items() if name != "camera:net"}

    def state() -> str:
        found: str = house.service.get("/cameras/net")["state"]
        return found

    for _ in range(3):
        house.camera.take_away()
        wait_for(lambda: quietly(state) == "offline", BACK_S, "the camera is offline")
        house.wait_frames(house.streets)
        house.camera.give()
        wait_for(lambda: quietly(state) == "online", BACK_S, "the camera is online")
        house.wait_frames(["net"])
    now = {name: pid for name, pid in house.pids().items() if name != "camera:net"}
    if now != before:
        raise AssertionError("another process was started anew")
    return {"times": 3}


def disk(house: House) -> dict[str, Any]:
    """Fill the disk of the data folder, and make room again."""
    data = house.service.folder / "data"
    if not os.path.ismount(data):
        return {"left_out": "the data folder has no file system of its own: run it as root"}
    filler = data / "filler"
    with filler.open("wb") as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(2**16))
    time.sleep(AWAY_S)
    house.wait_frames(house.streets)
    if house.service.status("/livez") != 200:
        raise AssertionError("the page does not answer while the disk is full")
    filler.unlink()
    newest = house.reader.last_event_id
    wait_for(lambda: house.reader.last_event_id > newest, BACK_S, "events after there is room")
    wait_for(lambda: house.service.status("/readyz") == 200, BACK_S, "ready")
    return {}


def deaf(house: House) -> dict[str, Any]:
    """Let 50 clients stop reading; one that reads goes on seeing pictures."""
    names = house.streets
    before = house.service.metrics()
    reading = Viewers(house.service.port, TOKEN, names, 1)
    memory = value(before, "process_resident_memory_bytes", process="front")
    dropped = value(before, "page_clients_dropped_total")
    clients = DeafClients(house.service.port, TOKEN, names, DEAF)
    try:
        wait_for(
            lambda: value(house.service.metrics(), "page_clients_dropped_total") >= dropped + DEAF,
            BACK_S,
            f"{DEAF} clients are dropped",
        )
        grown_mb = (
            value(house.service.metrics(), "process_resident_memory_bytes", process="front")
            - memory
        ) / 1e6
    finally:
        clients.close()
    seen = reading.end()
    if grown_mb > DEAF_MB:
        raise AssertionError(f"the front grew by {grown_mb:.0f} MB")
    if not seen.get("pictures_per_s") or seen["connections_lost"]:
        raise AssertionError(f"who reads was disturbed: {seen}")
    return {"clients": DEAF, "front_grew_mb": round(grown_mb, 1), "reader": seen}


FAULTS = {run.__name__: run for run in (camera, broker, receiver, deaf, others, workers, disk)}


@contextlib.contextmanager
def house_of(folder: Path, args: argparse.Namespace) -> Iterator[House]:
    """Start everything and wait until it is ready."""
    own_disk = os.geteuid() == 0 and "disk" in args.faults
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
    cameras = {
        f"c{n}": {"source": STREET.format(seed=n, size=args.size)} for n in range(args.cameras)
    }
    cameras["net"] = {"source": network.address}
    site = {
        "segmenter": "background",
        "cameras": cameras,
        "keep": {"unknowns": {"enabled": True}, "max_gb": 0.5, "min_free_gb": 0},
        "outputs": outputs,
    }
    try:
        with Service(folder, site) as service:
            service.wait_ready()
            yield House(service, hook, network, listener, args)
            seconds, code = service.stop()
            if code != 143:
                raise AssertionError(f"SIGTERM ended the service with {code} after {seconds:.1f} s")
    finally:
        network.take_away()
        hook.close()
        if listener is not None:
            listener.take_away()
        if own_disk:
            subprocess.run(["umount", "-l", str(data)], check=False)


def main() -> int:
    """Run the faults that are named, or all, one after the other in one service."""
    args = arguments(sys.argv[1:])
    results = []
    with tempfile.TemporaryDirectory(prefix="cstl_edge_faults_") as folder:
        for row in run(Path(folder) / "site", args):
            results.append(row["passed"])
            print(row["fault"], "passed" if row["passed"] else "FAILED", row["result"])
            if args.out:
                append_line(args.out, {**row, "environment": environment()})
    return 0 if all(results) else 1


def arguments(words: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("faults", nargs="*", default=list(FAULTS), help=", ".join(FAULTS))
    parser.add_argument("--kills", type=int, default=20, help="of every camera's process")
    parser.add_argument(
        "--cameras", type=int, default=2, help="synthetic ones, besides one on HTTP"
    )
    parser.add_argument("--size", default="320x180", help="of the synthetic cameras")
    parser.add_argument("--out", type=Path, help="JSON lines to append to")
    args = parser.parse_args(words)
    unknown = set(args.faults) - set(FAULTS)
    if unknown:
        parser.error(f"expected {', '.join(FAULTS)}; got {', '.join(sorted(unknown))}")
    return args


def run(folder: Path, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield a row per fault."""
    with house_of(folder, args) as house:
        for output in ["webhook:bench", *(["mqtt"] if house.broker else [])]:
            wait_for(partial(quietly, partial(_connected, house, output)), BACK_S, output)
        wait_for(lambda: house.receiver.events, BACK_S, "a first event")
        house.first_event = house.reader.last_event_id
        for name, seen in Counter(args.faults).items():
            assert seen == 1, f"{name} is named twice"
            began_s = time.monotonic()
            try:
                result = FAULTS[name](house)
                if "left_out" not in result:
                    result |= house.lost()
                missing = sum(n for key, n in result.items() if key.startswith("missing"))
                passed = missing == 0
            except (AssertionError, TimeoutError, RuntimeError) as err:
                result, passed = {"fault": str(err)}, False
            seconds = round(time.monotonic() - began_s, 1)
            yield {"fault": name, "passed": passed, "seconds": seconds, "result": result}


if __name__ == "__main__":
    sys.exit(main())
