"""From an untrusted source to a prepared dataset: in parallel, resumable, the same bytes always.

The report of a shard is written when the shard is whole: a run that was killed goes on with the
shards whose report is missing. The index comes last, when all is there and few enough files were
bad. A shard that is there is trusted: whoever changes files of the source in between empties the
output first.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path

from cstl_edge.data.dataset import (
    DROPPED,
    INDEX,
    PIECE,
    DatasetIndex,
    ShardFile,
    file_sha256,
    open_dataset,
    read_index,
)
from cstl_edge.data.importing.frames import Settings, read_recording
from cstl_edge.data.importing.layouts import Recording, Tree, find_recordings, person_ids
from cstl_edge.data.importing.report import HARMFUL, LINK, Drop, Report, summarise
from cstl_edge.data.importing.safe_pickle import HostileFile
from cstl_edge.data.process_pool import Tell, run_jobs
from cstl_edge.data.shards import ShardedSequences, ShardWriter, write_whole
from cstl_edge.errors import DataError, one_line

SHARDS = 200  # at most: every one costs a file descriptor while it is mapped
MIN_RECORDINGS = 8  # of a shard
PREFIX = "people-"


@dataclass(frozen=True)
class Job:
    """One shard to be made."""

    name: str
    recordings: tuple[Recording, ...]
    ids: tuple[int, ...]  # of the person of each recording


def plan(tree: Tree, settings: Settings) -> list[Job]:
    """Deal the recordings of a source out to shards."""
    ids = person_ids(tree.recordings, settings.dataset)
    each = max(MIN_RECORDINGS, math.ceil(len(tree.recordings) / SHARDS))
    jobs: list[Job] = []
    for start in range(0, len(tree.recordings), each):
        mine = tuple(tree.recordings[start : start + each])
        numbers = tuple(ids[recording.person] for recording in mine)
        told = [
            settings.model_dump(mode="json", exclude={"partial"}),
            [astuple(r) for r in mine],
            numbers,
        ]
        digest = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:8]
        jobs.append(Job(f"{PREFIX}{len(jobs):05d}-{digest}", mine, numbers))
    return jobs


def fingerprint(jobs: Sequence[Job]) -> str:
    """Return 12 hex digits that name settings and recordings of a whole dataset."""
    return hashlib.sha256(" ".join(job.name for job in jobs).encode()).hexdigest()[:12]


def examine(
    job: Job, *, root: Path, settings: Settings, shard: ShardWriter | None = None
) -> tuple[int, list[Drop]]:
    """Read the recordings of a job into its shard; return files looked at and what was dropped.

    Without a shard a hostile file is one more bad file; with one it ends the run.
    """
    files, drops = 0, []
    for recording, person in zip(job.recordings, job.ids, strict=True):
        try:
            found = read_recording(root, recording, settings)
        except HostileFile as err:
            if shard is not None:
                raise
            files += 1
            drops.append(Drop(recording.path, HARMFUL, str(err)))
            continue
        files += found.files
        drops += found.drops
        if shard is not None and found.frames is not None:
            shard.add(
                found.frames,
                person=person,
                sequence=recording.sequence,
                view_deg=recording.view_deg,
            )
    return files, drops


def look_through(
    source: str | Path, settings: Settings, *, workers: int = 2, tell: Tell | None = None
) -> tuple[Report, list[Drop]]:
    """Read a source as `prepare` does, and write nothing: return the report and every drop."""
    tree = find_recordings(source, settings.dataset, partial=settings.partial)
    jobs = plan(tree, settings)
    read = partial(examine, root=tree.root, settings=settings)
    results: dict[int, tuple[int, list[Drop]]] = {}
    for place, result in run_jobs(read, jobs, workers):
        results[place] = result
        if tell:
            tell(sum(len(jobs[i].recordings) for i in results), len(tree.recordings))
    drops = [Drop(link, LINK) for link in tree.links]
    drops += [drop for place in sorted(results) for drop in results[place][1]]
    files = len(tree.links) + sum(files for files, _ in results.values())
    return summarise(drops, files, tree.notes), drops


def prepare(
    source: str | Path,
    out: str | Path,
    settings: Settings,
    *,
    workers: int = 2,
    max_bad: float = 0.01,
    tell: Tell | None = None,
) -> DatasetIndex:
    """Make a prepared dataset of a source, or go on making it, and return its index.

    out: a folder for it alone; it must not hold another dataset
    workers: processes; 0 works in this one, without a limit of memory
    max_bad: share of the files that may be bad, see report.BAD
    Raises DataError when the layout is another one, too many files are bad, nothing is usable, a
    file was made to do harm, or the disk is full; then there is no index.
    """
    tree = find_recordings(source, settings.dataset, partial=settings.partial)
    place = Path(out)
    if Path(os.path.realpath(place)).is_relative_to(tree.root):
        raise DataError(f"expected an --out that is not inside the source, got {one_line(place)}")
    jobs = plan(tree, settings)
    with _told_errors(place), _locked(place):
        if (place / INDEX).exists():
            return _finished(place, jobs, max_bad)
        _refuse_strangers(place, jobs)
        _make(tree.root, place, jobs, settings, workers, tell)
        return _finish(place, tree, jobs, settings, max_bad)


def _make(
    root: Path, out: Path, jobs: list[Job], settings: Settings, workers: int, tell: Tell | None
) -> None:
    missing = [job for job in jobs if not (out / f"{job.name}{PIECE}").exists()]
    total = sum(len(job.recordings) for job in jobs)
    done = total - sum(len(job.recordings) for job in missing)
    write = partial(_write, root=root, out=out, settings=settings)
    for place, _ in run_jobs(write, missing, workers):
        done += len(missing[place].recordings)
        if tell:
            tell(done, total)


def _write(job: Job, *, root: Path, out: Path, settings: Settings) -> None:
    """Write one shard, and then its report: the sign that the shard is whole."""
    stem = out / job.name
    with _told_errors(out):
        with ShardWriter(stem, settings.size) as shard:
            files, drops = examine(job, root=root, settings=settings, shard=shard)
        head: dict[str, object] = {"files": files, "shard": None}
        if shard.path.exists():
            sums = [file_sha256(Path(f"{stem}{suffix}")) for suffix in (".json", ".npy")]
            names = ("name", "json_sha256", "npy_sha256")
            head["shard"] = dict(zip(names, (job.name, *sums), strict=True))
        lines = [json.dumps(head), *(drop.to_json() for drop in drops)]
        write_whole(Path(f"{stem}{PIECE}"), "".join(f"{line}\n" for line in lines))


def _finish(
    out: Path, tree: Tree, jobs: list[Job], settings: Settings, max_bad: float
) -> DatasetIndex:
    """Judge the reports and write the index."""
    shards, report = _sum_up(out, tree, jobs)
    report.check(max_bad)
    if not shards:
        reasons = ", ".join(f"{count} {reason}" for reason, count in report.reasons.items())
        raise DataError(f"no usable sequence in {one_line(tree.root)}: {reasons}")
    data = ShardedSequences([out / f"{shard.name}.json" for shard in shards])
    names = {number: name for name, number in person_ids(tree.recordings, settings.dataset).items()}
    index = DatasetIndex(
        format=1,
        kind=settings.dataset,
        size=settings.size,
        people={number: names[number] for number in sorted(set(data.people.tolist()))},
        sequences=len(data.people),
        frames=int(data.lengths.sum()),
        shards=shards,
        report=report,
        settings=settings,
        fingerprint=fingerprint(jobs),
    )
    write_whole(out / INDEX, index.model_dump_json(indent=1) + "\n")
    _clear(out)
    return index


def _sum_up(out: Path, tree: Tree, jobs: list[Job]) -> tuple[list[ShardFile], Report]:
    """Write what all shards dropped to one file; return the shards that are there and the sum."""
    links = [Drop(link, LINK) for link in tree.links]
    shards, files = [], len(links)
    lines = [f"{drop.to_json()}\n" for drop in links]
    for job in jobs:
        piece = out / f"{job.name}{PIECE}"
        head, *rest = piece.read_text(encoding="utf-8").splitlines(keepends=True)
        told = json.loads(head)
        files += told["files"]
        lines += rest
        if told["shard"]:
            shards.append(ShardFile(**told["shard"]))
    write_whole(out / DROPPED, "".join(lines))
    return shards, summarise((Drop(**json.loads(line)) for line in lines), files, tree.notes)


def _clear(out: Path) -> None:
    """Remove the reports of single shards, which the index has summed up."""
    for piece in out.glob(f"{PREFIX}*{PIECE}"):
        piece.unlink()


def _finished(out: Path, jobs: Sequence[Job], max_bad: float) -> DatasetIndex:
    """Return the index of a dataset that is there, when it is the one that was asked for."""
    index = read_index(out)
    if index.fingerprint != fingerprint(jobs):
        raise DataError(
            f"{one_line(out)} holds a dataset of other settings or another source; give another "
            "--out, or remove it"
        )
    index.report.check(max_bad)
    open_dataset(out)
    _clear(out)
    return index


def _refuse_strangers(out: Path, jobs: Sequence[Job]) -> None:
    """Raise DataError when the output folder holds shards that are not of this plan."""
    own = {job.name for job in jobs}
    for file in sorted(out.glob(f"{PREFIX}*")):
        if file.name.partition(".")[0] not in own:
            raise DataError(
                f"{one_line(out)} holds {one_line(file.name)}, which other settings or another "
                "state of the source made; empty it or give another --out"
            )


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Keep a second run out of the same folder."""
    out.mkdir(parents=True, exist_ok=True)
    handle = os.open(out, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as err:
        raise DataError(f"another run is preparing {one_line(out)}; wait for it") from err
    finally:
        os.close(handle)


@contextmanager
def _told_errors(out: Path) -> Iterator[None]:
    """Turn an error of the disk into one line; what was read is already judged by then."""
    try:
        yield
    except OSError as err:
        full = err.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        remedy = "make room" if full else "mend it"
        raise DataError(
            f"cannot write to {one_line(out)}: {one_line(err.strerror or err)}; {remedy} and run "
            "the same command again: it goes on where it was"
        ) from err
