"""Walkers as shards in a cache folder, named by a hash of settings, code and bases.

One shard holds a few people, so that workers share the making, a stopped run goes on where it was,
and more people only add shards.
"""

from __future__ import annotations

import ast
import hashlib
import json
import logging
from collections.abc import Iterator
from concurrent.futures import as_completed
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from cstl_edge.data.process_pool import step_back
from cstl_edge.data.shards import write_shard
from cstl_edge.silhouette import SMALL
from cstl_edge.walkers.collection import VIEWS_DEG, generate, worker_pool

logger = logging.getLogger(__name__)

PEOPLE_PER_SHARD = 10


class WalkersSettings(BaseModel):
    """Which synthetic people, and what is recorded of each."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    people: int = Field(default=300, ge=2)
    """Number of people."""
    first: int = Field(default=1000, ge=0)
    """Id of the first; those below 1000 are for testing."""
    nm: int = Field(default=2, ge=0)
    """Recordings of each person and view in normal clothes."""
    bg: int = Field(default=1, ge=0)
    """Recordings with a bag."""
    cl: int = Field(default=1, ge=0)
    """Recordings in a coat."""
    views_deg: tuple[int, ...] = VIEWS_DEG
    """Views of each recording: 0 towards the camera, 90 the left side, 180 away."""
    frames: int = Field(default=40, ge=1)
    """Frames of each recording."""
    size: tuple[int, int] = SMALL
    """Height and width of a silhouette in pixels."""
    seed: int = Field(default=0, ge=0)
    """Seed of the recordings; a person follows from the id."""

    @property
    def recordings(self) -> dict[str, int]:
        """Recordings of each person and view by condition."""
        return {"nm": self.nm, "bg": self.bg, "cl": self.cl}

    def fingerprint(self) -> str:
        """Return 12 hex digits that name all people and recordings of the same kind.

        The number of people is left out: more of them only add shards.
        """
        kind = self.model_dump(mode="json", exclude={"people", "first"})
        total = hashlib.sha256(json.dumps(kind, sort_keys=True).encode())
        for text in _sources():
            total.update(text)
        return total.hexdigest()[:12]


def make_shards(settings: WalkersSettings, cache: str | Path, *, workers: int = 2) -> list[Path]:
    """Return the shards of these Walkers, making those that the cache does not hold.

    workers: processes that render, at low priority; the result does not depend on them
    """
    folder = Path(cache) / f"walkers-{settings.fingerprint()}"
    wanted = {folder / f"people-{ids[0]:06d}-{len(ids):03d}.json": ids for ids in _groups(settings)}
    missing = {path: ids for path, ids in wanted.items() if not path.exists()}
    if missing:
        logger.info("making %d of %d shards of Walkers in %s", len(missing), len(wanted), folder)
        _make(missing, settings, workers)
    return list(wanted)


def _sources() -> Iterator[bytes]:
    """Yield what the bytes of a Walker follow from, comments and layout of the code left out."""
    package = Path(__file__).parents[1]
    for module in [*sorted((package / "walkers").rglob("*.py")), package / "silhouette.py"]:
        yield ast.dump(ast.parse(module.read_text(encoding="utf-8"))).encode()
    for basis in ("walker_body.npz", "stride_basis.npz"):
        yield (package / "assets" / basis).read_bytes()


def _groups(settings: WalkersSettings) -> Iterator[list[int]]:
    ids = range(settings.first, settings.first + settings.people)
    for start in range(0, len(ids), PEOPLE_PER_SHARD):
        yield list(ids[start : start + PEOPLE_PER_SHARD])


def _make(missing: dict[Path, list[int]], settings: WalkersSettings, workers: int) -> None:
    with worker_pool(workers, step_back) as pool:
        jobs = [pool.submit(_shard, path, ids, settings) for path, ids in missing.items()]
        for done, job in enumerate(as_completed(jobs), start=1):
            job.result()
            logger.info("%d of %d shards of Walkers", done, len(jobs))


def _shard(path: Path, ids: list[int], settings: WalkersSettings) -> None:
    made = generate(
        ids,
        recordings=settings.recordings,
        frames=settings.frames,
        size=settings.size,
        views_deg=settings.views_deg,
        seed=settings.seed,
    )
    write_shard(
        path.with_suffix(""),
        made.silhouettes,
        people=made.people,
        sequences=made.sequences,
        views_deg=made.views_deg,
    )
