"""What goes into which shard, and the work on one of them.

The recordings of a source, in their order, are dealt out to at most SHARDS shards: which ones go
together follows from the source alone, never from the number of workers. A shard is named by a hash
of settings and recordings.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from cstl_edge.data.frames import Settings, read_recording
from cstl_edge.data.layouts import person_ids
from cstl_edge.data.pickles import HostileFile
from cstl_edge.data.report import HARMFUL, Drop
from cstl_edge.data.shards import ShardWriter
from cstl_edge.data.trees import Recording, Tree

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
