"""Take away what the service depends on, give it back, and look whether anything was lost.

python benchmarks/serve/faults.py --out faults.jsonl
python benchmarks/serve/faults.py workers broker --kills 20
sudo python benchmarks/serve/faults.py disk       # needs a file system of its own

`workers`   every camera's process is killed again and again; five deaths leave it off with a
            reason, a new start by the page brings it back; no other process notices
`others`    recogniser and front are killed right after a correction was acknowledged
`broker`    mosquitto is killed with -9 and started again, and is away for a while
`receiver`  a webhook's receiver is away for a while
`camera`    a network camera hangs up and comes back
`disk`      the data folder is full, and is not any more
`browser`   clients of the wall are killed and come back
`deaf`      50 clients stop reading the wall
`end`       SIGTERM with open streams: within 5 s, nothing half-written, and all goes on afterwards

After each: every event of the store has reached the receiver of webhooks and the broker's listener.
One line of JSON per fault; exit 1 where one did not pass.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from cstl_edge.measure.environment import environment
from cstl_edge.output import append_line

sys.path.insert(0, str(Path(__file__).parents[1]))
from serving.house import BACK_S, House, house_of, quietly
from serving.running import TOKEN, value, wait_for
from serving.viewers import DeafClients, Viewers

AWAY_S = 15.0
DEAF = 50
FRONT_KILLS = 4  # the fifth within ten minutes ends the service
END_S = 5.0  # from SIGTERM to the end
DEAF_MB = 60.0  # that the front may grow by while they do not read


def workers(house: House) -> dict[str, Any]:
    """Kill the process of every synthetic camera again and again."""
    times_off = 0
    for camera in house.streets:
        name = f"camera:{camera}"
        for _ in range(house.kills):
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
            house.same_pids(before, f"{name} died", but=(name,))
    house.wait_frames([*house.streets, "net"])
    return {"kills": house.kills * len(house.streets), "times_off": times_off}


def _again(house: House, name: str, before: dict[str, int]) -> str | None:
    """Return `running` with another pid, or `off`; None for something in between."""
    process = house.service.processes()[name]
    if process["state"] == "off":
        return "off"
    runs = process["state"] == "running" and process["pid"] not in {None, before[name]}
    return "running" if runs else None


def others(house: House) -> dict[str, Any]:
    """Kill recogniser and front; what the page acknowledged just before is there afterwards."""
    taken: dict[str, list[float]] = {"recogniser": [], "front": []}
    kills = {"recogniser": house.kills, "front": FRONT_KILLS}
    for name, seconds in taken.items():
        for _ in range(kills[name]):
            visit = wait_for(house.newest_visit, BACK_S, "a visit")
            said = len(house.reader.corrections(visit))
            before = house.pids()
            house.service.post(f"/visits/{visit}/correction", {"person": None})
            began_s = time.monotonic()
            os.kill(before[name], signal.SIGKILL)
            again = partial(quietly, partial(_again, house, name, before))
            if wait_for(again, BACK_S, f"{name} runs again or is off") == "off":
                house.service.post(f"/processes/{name}/restart")
            house.wait_frames(house.streets)
            wait_for(lambda: house.service.status("/readyz") == 200, BACK_S, "ready")
            seconds.append(round(time.monotonic() - began_s, 1))
            house.same_pids(before, f"the {name} died", but=(name,))
            if len(house.reader.corrections(visit)) != said + 1:
                raise AssertionError(f"a correction of {visit} was acknowledged and is lost")
    return {"kills": kills, "seconds_until_ready": taken}


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
    before = house.pids()

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
    house.same_pids(before, "the camera went away")
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


def browser(house: House) -> dict[str, Any]:
    """Kill clients of the wall without a word, and let them come back, three times."""
    names = house.streets
    for _ in range(3):
        viewers = Viewers(house.service.port, TOKEN, names, 3)
        wait_for(lambda: _clients(house) >= 3, BACK_S, "three clients")
        viewers.kill()
        wait_for(lambda: _clients(house) == 0, BACK_S, "no client any more")
    again = Viewers(house.service.port, TOKEN, names, 3)
    wait_for(lambda: _clients(house) >= 3, BACK_S, "three clients again")
    time.sleep(5)
    seen = again.end()
    if not seen.get("pictures_per_s") or seen["connections_lost"]:
        raise AssertionError(f"who came back sees nothing: {seen}")
    return {"times": 3, "pictures_per_s": seen["pictures_per_s"]}


def _clients(house: House) -> float:
    return value(house.service.metrics(), "page_clients")


def end(house: House) -> dict[str, Any]:
    """SIGTERM with open streams, some of which are not read; then start again."""
    viewers = Viewers(house.service.port, TOKEN, house.streets, 3)
    deaf_ones = DeafClients(house.service.port, TOKEN, house.streets, 5)
    wait_for(lambda: _clients(house) >= 3, BACK_S, "clients")
    time.sleep(2)
    seconds, code = house.service.stop()
    deaf_ones.close()
    viewers.kill()
    if code != 143 or seconds > END_S:
        raise AssertionError(f"SIGTERM ended the service with {code} after {seconds:.1f} s")
    visits, faults = house.stored_faults()
    if visits or faults != "ok":
        raise AssertionError(f"left behind: {visits} visits that go on; the store: {faults}")
    house.service.start()
    house.service.wait_ready()
    house.wait_frames([*house.streets, "net"])
    return {"seconds": round(seconds, 2), "exit_code": code, "streams": 8}


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


FAULTS = {
    run.__name__: run
    for run in (camera, broker, receiver, browser, deaf, others, workers, disk, end)
}


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
    parser.add_argument(
        "--kills", type=int, default=20, help="of every camera's process, and the recogniser"
    )
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
    own_disk = "disk" in args.faults
    with house_of(folder, args.cameras, args.size, own_disk=own_disk) as house:
        house.kills = args.kills
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
