"""Kill -9 a process that changes a gallery, at any moment, and see what is left.

python benchmarks/robustness/gallery_kills.py                  # 1,000 kills
python benchmarks/robustness/gallery_kills.py --kills 100 --out kills.jsonl

A child enrolls, removes, renames, merges, backs up, encrypts anew and counts cameras, and reports
before and after each change; every tenth opens a file of version 1. It is killed after a random
time. Right is a gallery that is whole (every checksum, every page) and holds what was reported as
done, and the change that was under way entirely or not at all. One line of JSON per kill; exit 1 at
a fault.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from gallery_flips import SHA256, stand_in

from cstl_edge.errors import CstlEdgeError
from cstl_edge.gallery import keys
from cstl_edge.gallery.camera_means import CameraMean
from cstl_edge.gallery.gallery import Gallery
from cstl_edge.gallery.keys import GalleryKey
from cstl_edge.measure.environment import environment
from cstl_edge.output import append_line

OLD = Path(__file__).parents[2] / "tests" / "gallery" / "files" / "gallery_of_667fd8c.db"
OLD_PEOPLE = {"Ada Lovelace": 5, "Zo\u00eb": 2, "\u5f20\u4e09": 1}  # and one who has expired
PER_GALLERY = 10  # kills before a new gallery, so that its making is killed too
LONGEST_S = 0.5
PASSPHRASES = ("", "a passphrase to begin with", "another passphrase")  # "": not encrypted

People = dict[str, int]  # templates by name


class State:
    """What a gallery holds: people and their templates, the key, how often a camera counted."""

    def __init__(self, people: People, key: str = "", walks: int = 0) -> None:
        self.people, self.key, self.walks = dict(people), key, walks

    def after(self, change: list[str]) -> State:
        """Return the state after a change, as the child reports it."""
        state = State(self.people, self.key, self.walks)
        verb, *names = change
        if verb == "enroll":
            state.people[names[0]] = state.people.get(names[0], 0) + 2
        elif verb == "remove":
            del state.people[names[0]]
        elif verb == "rename":
            state.people[names[1]] = state.people.pop(names[0])
        elif verb == "merge":
            state.people[names[0]] += state.people.pop(names[1])
        elif verb == "rekey":
            state.key = PASSPHRASES[int(names[0])]
        elif verb == "count":
            state.walks += 1
        return state


def key_of(passphrase: str) -> GalleryKey | None:
    """Return the key of a gallery, None for one that is not encrypted."""
    return GalleryKey(passphrase=passphrase) if passphrase else None


def plan(state: State, dice: random.Random) -> list[str]:
    """Return the next change: its verb and names."""
    names = sorted(state.people)
    verb = dice.choices(
        ("enroll", "add", "remove", "rename", "merge", "backup", "rekey", "count"),
        (8, 2, 4, 2, 2, 1, 1, 3),
    )[0]
    new = f"p{dice.randrange(10**9)}"
    if verb == "enroll" or len(names) < 3:
        return ["enroll", new]
    if verb == "add":
        return ["enroll", dice.choice(names)]
    if verb in ("remove", "rename"):
        return [verb, dice.choice(names), *([new] if verb == "rename" else [])]
    if verb == "merge":
        return [verb, *dice.sample(names, 2)]
    return [verb, str(dice.randrange(len(PASSPHRASES)))]


def work(path: Path, state: State, dice: random.Random, report: int) -> None:
    """Change a gallery until the process is killed."""
    rng = np.random.default_rng(dice.randrange(2**31))
    with Gallery.open(path, stand_in(), key=key_of(state.key), encrypt=bool(state.key)) as gallery:
        while True:
            change = plan(state, dice)
            os.write(report, f"begin {' '.join(change)}\n".encode())
            apply(gallery, change, path, rng)
            os.write(report, b"done\n")
            state = state.after(change)


def apply(gallery: Gallery, change: list[str], path: Path, rng: np.random.Generator) -> None:
    """Make one change.

    Args:
        gallery: Open gallery.
        change: Verb and names, of `plan`.
        path: File of the gallery; the backup lies beside it.
        rng: Of the walks.
    """
    verb, *names = change
    if verb == "enroll":
        walk = rng.standard_normal((2, 16, 32))
        gallery.enroll(names[0], walk, consent="note", force=True)
    elif verb == "remove":
        gallery.remove(names[0])
    elif verb == "rename":
        gallery.rename(*names, force=True)
    elif verb == "merge":
        gallery.merge(*names)
    elif verb == "backup":
        gallery.backup(path.with_suffix(".bak"))
    elif verb == "rekey":
        gallery.rekey(key_of(PASSPHRASES[int(names[0])]))
    elif verb == "count":
        one = np.ones((16, 32), np.float32)
        gallery.camera_means.update(
            "door",
            SHA256,
            lambda mean: (mean or CameraMean.empty("door", SHA256, 16, 32)).with_walk(one),
        )


def killed(path: Path, state: State, dice: random.Random) -> tuple[State, State, int]:
    """Run a child and kill it; return the states that are right afterwards, and its changes."""
    reader, writer = os.pipe()
    seed, delay_s = dice.randrange(2**31), dice.uniform(0, LONGEST_S)
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            work(path, state, random.Random(seed), writer)
        finally:
            os._exit(1)
    os.close(writer)
    time.sleep(delay_s)
    os.kill(child, signal.SIGKILL)
    with os.fdopen(reader, "rb") as pipe:
        lines = pipe.read().decode().splitlines()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status != -signal.SIGKILL:
        raise RuntimeError(f"the child ended by itself with {status}, after {lines[-1:]}")
    before = after = state
    changes = 0
    for line in lines:
        if line == "done":
            before, changes = after, changes + 1
        elif line.startswith("begin "):
            after = before.after(line.split()[1:])
    return before, after, changes


def fault_of(path: Path, before: State, after: State) -> tuple[str | None, State]:
    """Return what is wrong with a gallery, None where nothing is, and the state that it is in."""
    for file in (path, path.with_suffix(".bak")):
        if file.exists():
            with closing(sqlite3.connect(file)) as db:
                if (pages := db.execute("PRAGMA integrity_check").fetchall()) != [("ok",)]:
                    return f"pages of {file.name}: {pages[:1]}", before
    with closing(sqlite3.connect(path)) as db:
        if db.execute("PRAGMA user_version").fetchone() == (0,):  # killed while it was made
            return None if before.people == {} else "it is empty", before
    error = ""
    for state in (before, after):
        try:
            with Gallery.open(path, stand_in(), key=key_of(state.key)) as gallery:
                people = {person.name: person.templates for person in gallery.people()}
                # a backup from before a new key cannot be erased in, and is reported
                left = [text for text in gallery.unfinished if "cannot be written" not in text]
                faults = gallery.verify() or left
                walks = sum(mean.walks for mean in gallery.camera_means.all())
                key = state.key if gallery.encrypted else ""
        except CstlEdgeError as err:
            error = str(err)
            continue
        if faults:
            return "; ".join(faults), state
        for right in (before, after):
            if (people, walks, key) == (right.people, right.walks, right.key):
                return None, right
        return f"holds {people}, {walks} walks; expected {before.people} or {after.people}", state
    return error, before


def migrated(path: Path, dice: random.Random) -> str | None:
    """Kill the migration of a file of version 1; return what is wrong with what is left."""
    shutil.copy(OLD, path)
    path.chmod(0o600)
    child = os.fork()
    if child == 0:
        Gallery.open(path).close()
        os._exit(0)
    time.sleep(dice.uniform(0, 0.05))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with Gallery.open(path) as gallery:
        people = {person.name: person.templates for person in gallery.people()}
        people.pop("Expired", None)
        return "; ".join(gallery.verify()) or (None if people == OLD_PEOPLE else str(people))


def run(kills: int, seed: int, out: Path | None) -> Counter[str]:
    """Kill so many children; return how often each outcome came.

    Args:
        kills: Number of kills.
        seed: Of the changes and the moments.
        out: File of JSON lines, appended to; None: none is written.
    """
    keys.SCRYPT.update(n=2**4)  # the cost of a guess is no matter here
    dice, counts = random.Random(seed), Counter[str]()
    record: dict[str, Any] = {"run": f"kills-{int(time.time())}"}
    if out:
        append_line(out, record | {"kills": kills, "environment": environment()})
    with tempfile.TemporaryDirectory() as folder:
        state = State({})
        for kill in range(kills):
            path = Path(folder) / f"{kill // PER_GALLERY}.db"
            if kill % PER_GALLERY == 0:
                state = State({}, dice.choice(PASSPHRASES))
                fault, changes = migrated(Path(folder) / f"{kill}.old.db", dice), 0
            else:
                before, after, changes = killed(path, state, dice)
                fault = None
                if path.exists() and path.stat().st_size:
                    fault, state = fault_of(path, before, after)
            counts["fault" if fault else "whole"] += 1
            counts["changes"] += changes
            if out:
                append_line(out, record | {"kill": kill, "changes": changes, "fault": fault})
    if out:
        append_line(out, record | {"counts": dict(counts)})
    return counts


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    results = Path(__file__).parents[1] / "results" / "robustness"
    parser.add_argument("--out", type=Path, default=results / "gallery_kills.jsonl")
    args = parser.parse_args()
    counts = run(args.kills, args.seed, args.out)
    print(f"{args.kills} kills, {counts['changes']} changes done: {counts['fault']} faults")
    return int(counts["fault"] > 0)


if __name__ == "__main__":
    sys.exit(main())
