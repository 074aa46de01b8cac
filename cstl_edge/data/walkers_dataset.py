"""Walkers as shards in a cache folder that is named by a hash of settings, code and bases.

One shard holds a few people, so that workers share the rendering, a stopped run is resumed, and
more people only add shards.
"""

from __future__ import annotations

import ast
import hashlib
import json
import logging
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from cstl_edge.config import StrictModel
from cstl_edge.data.process_pool import lower_priority, run_jobs
from cstl_edge.data.shards import ShardWriter
from cstl_edge.silhouette import SMALL
from cstl_edge.walkers.clothed.collection import ALL_VIEWS_DEG, person_walks
from cstl_edge.walkers.collection import VIEWS_DEG, generate

logger = logging.getLogger(__name__)

PACKAGE = Path(__file__).parents[1]
BASES = ("walker_body.npz", "stride_basis.npz")  # assets, see walkers.pose
CLOTHED_BASES = (*BASES, "walk_basis.npz", "garments.npz", "person_mask.onnx")
PEOPLE_PER_SHARD = 10


class WalkersSettings(StrictModel):
    """Synthetic people to render, and the recordings of each."""

    people: int = Field(default=300, ge=2)  # number of people
    first: int = Field(default=1000, ge=0)  # id of the first; those below 1000 are for testing
    nm: int = Field(default=2, ge=0)  # recordings of each person and view in normal clothes
    bg: int = Field(default=1, ge=0)  # recordings with a bag
    cl: int = Field(default=1, ge=0)  # recordings in a coat
    views_deg: tuple[int, ...] = VIEWS_DEG  # 0 towards the camera, 90 the left side, 180 away
    frames: int = Field(default=40, ge=1)  # frames of each recording
    size: tuple[int, int] = SMALL  # height and width of a silhouette in pixels
    seed: int = Field(default=0, ge=0)  # seed of the recordings; a person follows from the id
    generator: Literal[1, 2] = 1  # 1 the first; 2 recorded strides, garments, all directions
    views: int = Field(default=0, ge=0)  # generator 2: directions of each walk, 0 for all views_deg
    filmed: float = Field(default=0.0, ge=0, le=1)  # generator 2: share cut out of pictures

    @model_validator(mode="after")
    def _second_generator(self) -> WalkersSettings:
        if self.generator == 1 and (self.views or self.filmed):
            raise ValueError("views and filmed are settings of generator 2: set generator to 2")
        return self

    @classmethod
    def clothed(cls, **settings: Any) -> WalkersSettings:
        """Return settings of generator 2 that see people from all directions."""
        return cls(**{"generator": 2, "views_deg": ALL_VIEWS_DEG, **settings})

    @property
    def recordings(self) -> dict[str, int]:
        """Recordings of each person and view by condition."""
        return {"nm": self.nm, "bg": self.bg, "cl": self.cl}

    def fingerprint(self) -> str:
        """Return 12 hex digits that change with every setting and source that changes a Walker.

        The number of people is left out: more of them only add shards.
        """
        second = set() if self.generator == 2 else {"generator", "views", "filmed"}
        settings = self.model_dump(mode="json", exclude={"people", "first"} | second)
        total = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        total.update(sources_digest(PACKAGE, self.generator))
        return total.hexdigest()[:12]


def make_shards(
    settings: WalkersSettings,
    cache: str | Path,
    *,
    workers: int = 2,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Path]:
    """Return the shards of Walkers; those that the cache lacks are rendered.

    Args:
        settings: Number of people and their recordings.
        cache: Folder with a sub-folder for every fingerprint.
        workers: Number of processes, at low priority; the result does not depend on it.
        progress: Callback for the number of shards rendered and their total.
    """
    folder = Path(cache) / f"walkers-{settings.fingerprint()}"
    people = range(settings.first, settings.first + settings.people)
    groups = [people[i : i + PEOPLE_PER_SHARD] for i in range(0, len(people), PEOPLE_PER_SHARD)]
    shards = {folder / f"people-{ids[0]:06d}-{len(ids):03d}.json": ids for ids in groups}
    missing = {path: ids for path, ids in shards.items() if not path.exists()}
    if missing:
        logger.info("making %d of %d shards of Walkers in %s", len(missing), len(shards), folder)
        render = partial(_render_shard, settings=settings)
        rendered = run_jobs(render, list(missing.items()), workers, lower_priority)
        for done, _ in enumerate(rendered, start=1):
            logger.info("%d of %d shards of Walkers", done, len(missing))
            progress(done, len(missing))
    return list(shards)


def source_files(package: Path, generator: int = 1) -> list[Path]:
    """List the files of a package that decide the bytes of a Walker of a generator.

    A test compares them with what `walkers` imports, so that a new module cannot be forgotten.
    """
    code = [*sorted((package / "walkers").glob("*.py")), package / "silhouette.py"]
    if generator == 2:
        code += sorted((package / "walkers" / "clothed").glob("*.py"))
    names = BASES if generator == 1 else CLOTHED_BASES
    return [*code, *(package / "assets" / name for name in names)]


def sources_digest(package: Path, generator: int = 1) -> bytes:
    """Hash the source files; comments, docstrings and layout of code are left out."""
    total = hashlib.sha256()
    for file in source_files(package, generator):
        content = file.read_bytes()
        total.update(_code(content) if file.suffix == ".py" else content)
    return total.digest()


@cache
def _code(source: bytes) -> bytes:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value = ast.Constant(None)  # a docstring
    return ast.dump(tree).encode()


def _render_shard(shard: tuple[Path, range], settings: WalkersSettings) -> None:
    path, ids = shard
    if settings.generator == 2:
        return _render_clothed(path, ids, settings)
    walkers = generate(
        ids,
        recordings=settings.recordings,
        frames=settings.frames,
        size=settings.size,
        views_deg=settings.views_deg,
        seed=settings.seed,
    )
    labels = zip(walkers.people, walkers.sequences, walkers.views_deg, strict=True)
    with ShardWriter(path.with_suffix(""), settings.size) as writer:
        for silhouettes, (person, name, view) in zip(walkers.silhouettes, labels, strict=True):
            writer.add(silhouettes, person=person, sequence=name, view_deg=view)


def _render_clothed(path: Path, ids: range, settings: WalkersSettings) -> None:
    with ShardWriter(path.with_suffix(""), settings.size) as writer:
        for person in ids:
            walks = person_walks(
                person,
                recordings=settings.recordings,
                views_deg=settings.views_deg,
                views=settings.views,
                frames=settings.frames,
                size=settings.size,
                seed=settings.seed,
                filmed=settings.filmed,
            )
            for name, view, silhouettes in walks:
                writer.add(silhouettes, person=person, sequence=name, view_deg=view)
