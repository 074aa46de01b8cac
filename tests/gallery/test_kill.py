"""Kill -9: an acknowledged change survives it, and several processes write at once.

CSTL_EDGE_KILLS=60 python -m pytest tests/gallery/test_kill.py -s    # 10 kills without it
"""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from cstl_edge.gallery.gallery import Gallery

KILLS = int(os.environ.get("CSTL_EDGE_KILLS", "10"))
PER_GALLERY = 5  # kills before a new gallery, so that its making is killed too
TEMPLATES = 3

CHILD = """
import sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from conftest import StandIn
from cstl_edge.gallery.gallery import Gallery

def report(*words):
    print(*words, flush=True)

path, tag, count = sys.argv[2], sys.argv[3], int(sys.argv[4])
walk = np.random.default_rng(0).standard_normal((3, 32, 256))
report("ready")
with Gallery.open(path, StandIn()) as gallery:
    for i in range(count):
        gallery.enroll(f"{tag}-{i}", walk, consent="yes", force=True)
        report("stored", f"{tag}-{i}")
        if i % 4 == 3 and tag.startswith("k"):
            report("removing", f"{tag}-{i - 2}")
            gallery.remove(f"{tag}-{i - 2}")
            report("removed", f"{tag}-{i - 2}")
"""


def start(path, tag, count):
    here = Path(__file__).parent
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(here), str(path), tag, str(count)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def killed_after(path, tag, lines, delay_s):
    """Kill an enrolling process some time after its first lines.

    Return the names that it reported, by event (stored, removing, removed).
    """
    with start(path, tag, 10_000) as child:
        reports = [child.stdout.readline() for _ in range(lines)]
        time.sleep(delay_s)
        child.send_signal(signal.SIGKILL)
        reported = {"stored": set(), "removing": set(), "removed": set()}
        for line in [*reports, *child.stdout]:
            if line.endswith("\n") and len(line.split()) == 2:
                event, name = line.split()
                reported[event].add(name)
    assert child.returncode == -signal.SIGKILL
    return reported


def check(path, reported):
    """The file is whole, nobody is half there, and every acknowledged change is."""
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
    db.close()
    with Gallery.open(path) as gallery:
        people = gallery.people()
        assert gallery.templates == TEMPLATES * len(people)
    assert {person.templates for person in people} <= {TEMPLATES}
    names = {person.name for person in people}
    assert reported["stored"] - reported["removing"] <= names
    assert not reported["removed"] & names


def test_acknowledged_changes_survive_kill_9(tmp_path):
    dice = random.Random(3)
    reported = {"stored": set(), "removing": set(), "removed": set()}
    acknowledged = 0
    for kill in range(KILLS):
        path = tmp_path / f"people{kill // PER_GALLERY}.db"
        if kill % PER_GALLERY == 0:
            reported = {event: set() for event in reported}
        lines = dice.choice((1, 2, 20))  # while it opens, at its first person, at work
        reports = killed_after(path, f"k{kill}", lines, dice.uniform(0, 0.1))
        for event, names in reports.items():
            reported[event] |= names
            acknowledged += len(names) if event != "removing" else 0
        if path.exists():
            check(path, reported)
    print(f"{KILLS} kills, {acknowledged} acknowledged changes, none lost")
    assert acknowledged > 3 * KILLS


def test_four_processes_write_at_once(tmp_path):
    """They begin together on a gallery that is not there yet."""
    path = tmp_path / "people.db"
    children = [start(path, f"w{i}", 25) for i in range(4)]
    for child in children:
        child.communicate(timeout=60)
        assert child.returncode == 0
    with Gallery.open(path) as gallery:
        assert len(gallery.people()) == 100
        assert gallery.templates == 100 * TEMPLATES
