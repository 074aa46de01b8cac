"""Preparation of a dataset from an untrusted source: parallel, resumable, reproducible bytes.

The recordings of a source, in their order, are dealt out to at most SHARDS shards: which ones share
a shard follows from the source alone, never from the number of workers. A shard is named by a hash
of settings and recordings. The report of a shard is written when the shard is whole: a killed run
is resumed with the shards whose report is missing. The index comes last, when all shards exist and
few enough files were bad. An existing shard is trusted: whoever changes files of the source in
between empties the output first.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from cstl_edge.config import StrictModel
from cstl_edge.data.dataset import (
    DROPPED,
    INDEX,
    SHARD_REPORT,
    DatasetIndex,
    ShardFile,
    file_sha256,
    open_dataset,
    read_index,
)
from cstl_edge.data.importing.frames import RecordingReader
from cstl_edge.data.importing.layouts.base import (
    Layout,
    SourceRecording,
    SourceTree,
    find_recordings,
    is_inside,
    person_ids,
)
from cstl_edge.data.importing.layouts.open import LAYOUTS
from cstl_edge.data.importing.report import HARMFUL, LINK, Drop, ImportReport, summarise
from cstl_edge.data.importing.safe_pickle import HostileFile
from cstl_edge.data.importing.settings import PrepareSettings
from cstl_edge.data.process_pool import ProgressCallback, run_jobs
from cstl_edge.data.shards import ShardedSequences, ShardWriter
from cstl_edge.errors import DataError, one_line
from cstl_edge.opencv import import_cv2
from cstl_edge.output import storing, write_file

SHARDS = 200  # at most: every one costs a file descriptor while it is mapped
MIN_RECORDINGS = 8  # of a shard
PREFIX = "people-"
RESUMES = "Run the same command again: it goes on where it was"

Result = TypeVar("Result")


class ShardPlan(NamedTuple):
    """One shard to be written."""

    name: str
    recordings: tuple[SourceRecording, ...]
    ids: tuple[int, ...]  # of the person of each recording


class ShardReport(StrictModel):
    """First line of a shard's report; a line for each drop follows."""

    files: int  # images and pickles that were read
    shard: ShardFile | None  # None when none of its recordings is usable


def prepare(
    source: str | Path,
    out: str | Path,
    settings: PrepareSettings,
    *,
    workers: int = 2,
    max_bad: float = 0.01,
    progress: ProgressCallback | None = None,
) -> DatasetIndex:
    """Write the prepared dataset of a source, or resume writing it, and return its index.

    Args:
        source: Folder of the dataset as it was given out, unpacked.
        out: Folder for the result alone; it must not hold another dataset.
        settings: Layout of the source, size, limits.
        workers: Number of processes; 0 works in this one, without a limit of memory.
        max_bad: Share of the files that may be bad, see report.BAD.
        progress: Callback, called with the number of finished recordings and of all.

    Raises:
        DataError: the source has another layout, too many files are bad, nothing is usable, a file
            was made to do harm; then there is no index.
        StorageError: the disk refuses; another run goes on from there.
    """
    place = Path(out)
    tree, plans, reader = _plan(source, settings)
    if is_inside(tree.root, place):
        raise DataError(f"expected an --out that is not inside the source, got {one_line(place)}")
    with storing(place, RESUMES), _locked(place):
        if (place / INDEX).exists():
            return _reopen(place, plans, max_bad)
        _refuse_foreign_shards(place, plans)
        write = partial(_write_shard, reader=reader, out=place)
        missing = [plan for plan in plans if not (place / f"{plan.name}{SHARD_REPORT}").exists()]
        _run_plans(write, missing, workers, len(tree.recordings), progress)
        return _write_index(place, tree, plans, settings, max_bad)


def check_source(
    source: str | Path,
    settings: PrepareSettings,
    *,
    workers: int = 2,
    progress: ProgressCallback | None = None,
) -> tuple[ImportReport, list[Drop]]:
    """Read a source as `prepare` does, write nothing, and return the report and every drop.

    Args:
        source: Folder of the dataset, unpacked; DataError when it has another layout.
        settings: Layout of the source, size, limits.
        workers: Number of processes; 0 works in this one, without a limit of memory.
        progress: Callback, called with the number of finished recordings and of all.
    """
    tree, plans, reader = _plan(source, settings)
    read = partial(_read_recordings, reader=reader)
    results = _run_plans(read, plans, workers, len(tree.recordings), progress)
    drops = [Drop(link, LINK) for link in tree.links]
    drops += [drop for _, dropped in results for drop in dropped]
    files = len(tree.links) + sum(files for files, _ in results)
    return summarise(drops, files, tree.notes), drops


def _run_plans(
    work: Callable[[ShardPlan], Result],
    plans: Sequence[ShardPlan],
    workers: int,
    total: int,
    progress: ProgressCallback | None,
) -> list[Result]:
    """Return each plan's result; report how many of `total` recordings are done."""
    done, results = total - sum(len(plan.recordings) for plan in plans), {}
    for number, result in run_jobs(work, plans, workers):
        results[number] = result
        done += len(plans[number].recordings)
        if progress:
            progress(done, total)
    return [results[number] for number in range(len(plans))]


def _plan(
    source: str | Path, settings: PrepareSettings
) -> tuple[SourceTree, list[ShardPlan], RecordingReader]:
    """List a source and deal its recordings out to shards, named by recordings and settings.

    Of the settings `partial` is no part of the names: it changes no byte.
    """
    import_cv2()  # before any worker begins: masks are aligned by it
    layout: Layout = LAYOUTS.load(settings.dataset)
    tree = find_recordings(source, layout, partial=settings.partial)
    ids = person_ids(tree.recordings, layout)
    each = max(MIN_RECORDINGS, math.ceil(len(tree.recordings) / SHARDS))
    plans: list[ShardPlan] = []
    for start in range(0, len(tree.recordings), each):
        recordings = tuple(tree.recordings[start : start + each])
        numbers = tuple(ids[recording.person] for recording in recordings)
        named_by = settings.model_dump(mode="json", exclude={"partial"})
        content = [named_by, [astuple(recording) for recording in recordings], numbers]
        digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:8]
        plans.append(ShardPlan(f"{PREFIX}{len(plans):05d}-{digest}", recordings, numbers))
    return tree, plans, RecordingReader(tree.root, settings, layout)


def _fingerprint(plans: Sequence[ShardPlan]) -> str:
    """Return 12 hex digits that name settings and recordings of a whole dataset."""
    return hashlib.sha256(" ".join(plan.name for plan in plans).encode()).hexdigest()[:12]


def _read_recordings(
    plan: ShardPlan, reader: RecordingReader, shard: ShardWriter | None = None
) -> tuple[int, list[Drop]]:
    """Read the recordings of a plan, into a shard when one is given; return files and drops.

    Without a shard a hostile file is one more bad file; with one it ends the run.
    """
    files, drops = 0, []
    for recording, person in zip(plan.recordings, plan.ids, strict=True):
        try:
            result = reader.read(recording)
        except HostileFile as err:
            if shard is not None:
                raise
            files += 1
            drops.append(Drop(recording.path, HARMFUL, str(err)))
            continue
        files += result.files
        drops += result.drops
        if shard is not None and result.frames is not None:
            sequence, view = recording.sequence, recording.view_deg
            shard.add(result.frames, person=person, sequence=sequence, view_deg=view)
    return files, drops


def _write_shard(plan: ShardPlan, reader: RecordingReader, out: Path) -> None:
    """Write one shard, and then its report: the sign that the shard is whole."""
    stem, file = out / plan.name, None
    with ShardWriter(stem, reader.settings.size) as shard:
        files, drops = _read_recordings(plan, reader, shard)
    if shard.path.exists():
        json_sha256, npy_sha256 = (file_sha256(Path(f"{stem}.{s}")) for s in ("json", "npy"))
        file = ShardFile(name=plan.name, json_sha256=json_sha256, npy_sha256=npy_sha256)
    head = ShardReport(files=files, shard=file).model_dump_json()
    lines = "\n".join([head, *(drop.to_json() for drop in drops)])
    write_file(Path(f"{stem}{SHARD_REPORT}"), f"{lines}\n")


def _write_index(
    out: Path, tree: SourceTree, plans: list[ShardPlan], settings: PrepareSettings, max_bad: float
) -> DatasetIndex:
    """Write the index, unless too many files are bad or nothing is usable."""
    shards, report = _merge_reports(out, tree, plans)
    report.check(max_bad)
    if not shards:
        reasons = ", ".join(f"{count} {reason}" for reason, count in report.reasons.items())
        raise DataError(f"no usable sequence in {one_line(tree.root)}: {reasons}")
    data = ShardedSequences([out / f"{shard.name}.json" for shard in shards])
    names = {i: r.person for plan in plans for r, i in zip(plan.recordings, plan.ids, strict=True)}
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
        fingerprint=_fingerprint(plans),
    )
    write_file(out / INDEX, index.model_dump_json(indent=1) + "\n")
    for part in out.glob(f".{PREFIX}*.part"):  # of a killed run; no other one has this folder
        part.unlink(missing_ok=True)
    _remove_shard_reports(out)
    return index


def _merge_reports(
    out: Path, tree: SourceTree, plans: list[ShardPlan]
) -> tuple[list[ShardFile], ImportReport]:
    """Write all shards' drops to one file; return the shards with sequences and the sum."""
    links = [Drop(link, LINK) for link in tree.links]
    shards, files = [], len(links)
    lines = [f"{drop.to_json()}\n" for drop in links]
    for plan in plans:
        text = (out / f"{plan.name}{SHARD_REPORT}").read_text(encoding="utf-8")
        head, *rest = text.splitlines(keepends=True)
        report = ShardReport.model_validate_json(head)
        files += report.files
        lines += rest
        if report.shard:
            shards.append(report.shard)
    write_file(out / DROPPED, "".join(lines))
    return shards, summarise((Drop(**json.loads(line)) for line in lines), files, tree.notes)


def _remove_shard_reports(out: Path) -> None:
    """Remove the reports of single shards, whose sum the index holds."""
    for report in out.glob(f"{PREFIX}*{SHARD_REPORT}"):
        report.unlink()


def _reopen(out: Path, plans: Sequence[ShardPlan], max_bad: float) -> DatasetIndex:
    """Return the index of an existing dataset when it has the same plans."""
    index = read_index(out)
    if index.fingerprint != _fingerprint(plans):
        raise DataError(
            f"{one_line(out)} holds a dataset of other settings or another source; give another "
            "--out, or remove it"
        )
    index.report.check(max_bad)
    open_dataset(out)
    _remove_shard_reports(out)
    return index


def _refuse_foreign_shards(out: Path, plans: Sequence[ShardPlan]) -> None:
    """Raise DataError when the output folder holds shards of other plans."""
    expected_names = {plan.name for plan in plans}
    for file in sorted(out.glob(f"{PREFIX}*")):
        if file.name.partition(".")[0] not in expected_names:
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
