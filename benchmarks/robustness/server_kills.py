"""Kill -9 boxes and the server of a shared gallery while four of them write, and see what is left.

python benchmarks/robustness/server_kills.py                  # 60 kills, of which 12 of the server
python benchmarks/robustness/server_kills.py --kills 10 --out server_kills.jsonl

A PostgreSQL 16 (package pgserver) holds the gallery. Four boxes, each with a replica of its own,
enroll and remove people and report before and after each change. At random moments one box, or
every fifth time the server, is killed and started again. Right is: what a box was told to be stored
or removed is so, on the server and in every replica, and a change that was under way is there whole
or not at all. One line of JSON per kill, one at the end; exit 1 at a fault.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from cstl_edge.measure.environment import environment
from cstl_edge.output import append_line

BOXES = 4
SERVER_EVERY = 5  # kills
PAUSE_S = (0.1, 1.5)  # before a kill
SETTLE_S = 120.0  # for replicas to follow at the end

CHILD = """
import sys, time
import numpy as np
from types import SimpleNamespace
from cstl_edge.distance import EUCLIDEAN
from cstl_edge.errors import GalleryError
from cstl_edge.gallery.gallery import Gallery

address, tag, first = sys.argv[1], sys.argv[2], int(sys.argv[3])
model = SimpleNamespace(info=SimpleNamespace(
    weights_sha256="a" * 64, impostors=None, distance=EUCLIDEAN, confidence=None))
rng = np.random.default_rng(first)

def tell(*words):
    print(*words, flush=True)

def until_done(verb, name, change):
    tell("begin", verb, name)
    while True:
        try:
            change()
            return tell("done", verb, name)
        except GalleryError as err:
            tell("refused", verb, name, str(err).replace(" ", "_"))
            if "enrolled already" in str(err) or "nobody is enrolled" in str(err):
                return tell("done", verb, name)  # a commit whose answer was lost
            time.sleep(0.3)

while True:
    try:
        gallery = Gallery.open(address, model)
        break
    except GalleryError as err:
        tell("refused", "open", "-", str(err).replace(" ", "_"))
        time.sleep(0.3)
i = first
while True:
    name = f"{tag}-{i}"
    walk = rng.standard_normal((2, 8, 16)).astype(np.float32)
    until_done("enroll", name, lambda: gallery.enroll(name, walk, consent="yes", force=True))
    if i % 3 == 2:
        gone = f"{tag}-{i - 1}"
        until_done("remove", gone, lambda: gallery.remove(gone))
    i += 1
"""


class Box:
    """A process that writes, and what it reported."""

    def __init__(self, number: int, address: str, folder: Path) -> None:
        self.number, self.address, self.folder = number, address, folder
        self.log, self.runs = folder / f"box{number}.log", 0
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process; names go on, so that a run repeats none."""
        environment_of = {**os.environ, "XDG_DATA_HOME": str(self.folder / f"box{self.number}"),
                          "OMP_NUM_THREADS": "1"}  # fmt: skip
        arguments = [self.address, f"b{self.number}r{self.runs}", "0"]
        self.runs += 1
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", CHILD, *arguments], stdout=log, env=environment_of
            )

    def kill(self) -> None:
        """Kill -9, and wait for the end."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def reported(self) -> tuple[set[str], set[str], set[str]]:
        """Return the names that must be there, those that must not, those that may be either."""
        there, gone, open_names = set[str](), set[str](), set[str]()
        for line in self.log.read_text().splitlines():
            word, verb, name = [*line.split(" "), "", ""][:3]
            if word == "begin":
                open_names.add(name)
            elif word == "done":
                open_names.discard(name)
                (there if verb == "enroll" else gone).add(name)
                (gone if verb == "enroll" else there).discard(name)
        return there - open_names, gone, open_names


def restart_server(server: Any) -> Any:
    """Kill all processes of a PostgreSQL server by SIGKILL, and start it again."""
    import psutil  # type: ignore[import-untyped]

    parent = psutil.Process(server.get_pid())
    victims = [parent, *parent.children(recursive=True)]
    for process in victims:
        process.send_signal(signal.SIGKILL)
    psutil.wait_procs(victims, timeout=30)
    (Path(server.pgdata) / "postmaster.pid").unlink(missing_ok=True)
    for attempt in range(10):  # it allows ten seconds, and a busy machine takes more
        try:
            return server.ensure_postgres_running()
        except (subprocess.TimeoutExpired, AssertionError):  # it still recovers
            print(f"server: not there after try {attempt + 1}", file=sys.stderr)
            time.sleep(1)
    raise RuntimeError("the server does not start again")


def run(kills: int, seed: int, out: Path | None) -> int:
    """Kill so many times and compare; returns the number of faults."""
    import pgserver
    import psycopg

    dice, faults = random.Random(seed), 0
    with tempfile.TemporaryDirectory(prefix="cstl-edge-server-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        server: Any = pgserver.get_server(folder / "data", cleanup_mode=None)  # type: ignore[attr-defined]
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute("CREATE DATABASE people")
        address = server.get_uri().replace("/postgres?", "/people?")
        boxes = [Box(i, address, folder) for i in range(BOXES)]
        for box in boxes:
            box.start()
        try:
            for kill in range(kills):
                time.sleep(dice.uniform(*PAUSE_S))
                victim = "server" if kill % SERVER_EVERY == SERVER_EVERY - 1 else "box"
                if victim == "server":
                    restart_server(server)
                else:
                    box = dice.choice(boxes)
                    box.kill()
                    box.start()
                if out:
                    append_line(out, {"kill": kill, "victim": victim})
            time.sleep(2)
            for box in boxes:
                box.kill()
            result = compare(address, boxes, folder)
            faults = len(result["faults"])
            record = {"benchmark": "server_kills", "kills": kills, "seed": seed, **result}
            print(json.dumps(record))
            if out:
                append_line(out, {**record, "environment": environment()})
        finally:
            for box in boxes:
                if box.process is not None and box.process.poll() is None:
                    box.kill()
            with contextlib.suppress(ProcessLookupError):
                os.kill(server.get_pid(), signal.SIGQUIT)
            server.cleanup()
    return faults


def compare(address: str, boxes: list[Box], folder: Path) -> dict[str, Any]:
    """Compare what boxes were told with the server and with every replica."""
    from cstl_edge.gallery.gallery import Gallery

    faults, counts = list[str](), list[int]()
    everything = [box.reported() for box in boxes]
    there = set().union(*(known[0] for known in everything))
    gone = set().union(*(known[1] for known in everything))
    for box in boxes:
        os.environ["XDG_DATA_HOME"] = str(folder / f"box{box.number}")
        with Gallery.open(address) as gallery:
            names = {person.name for person in gallery.people()}
            faults += gallery.verify()
        faults += [f"box {box.number}: {name} is lost" for name in sorted(there - names)]
        faults += [f"box {box.number}: {name} came back" for name in sorted(gone & names)]
        counts.append(len(names))
    if len(set(counts)) > 1:
        faults.append(f"replicas differ: {counts}")
    return {"acknowledged": len(there) + len(gone), "people": counts[0], "faults": faults}


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="append one line of JSON per kill")
    args = parser.parse_args(argv)
    return 1 if run(args.kills, args.seed, args.out) else 0


if __name__ == "__main__":
    sys.exit(main())
