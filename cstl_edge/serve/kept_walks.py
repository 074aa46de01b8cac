"""Walks of visits that are kept: for corrections, enrolment from a visit, and unknowns.

Sealed like the gallery's templates, so encrypted where those are. Letters: k windows, p parts, d
embedding dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cstl_edge.arrays import Floats
from cstl_edge.gallery.match import SeenWalk
from cstl_edge.gallery.sealing import BrokenSeal, Seal, place
from cstl_edge.serve.store import Store
from cstl_edge.serve.store_rows import TrackRow

MAX_WINDOWS = 4  # of a track that are kept beside the mean of all


@dataclass(frozen=True, kw_only=True)
class KeptWalk:
    """What is kept of the walk of one track."""

    camera: str
    number: int  # of the track
    started_utc: str
    ended_utc: str
    mean: Floats  # [p, d], over all windows
    windows: Floats  # [k, p, d], some of them
    seen: float  # windows that do not overlap
    view: str | None
    frames_per_second: float | None = None

    @property
    def walk(self) -> SeenWalk:
        """The walk, to search for."""
        return SeenWalk(self.windows, self.mean, self.seen)


def joined_walk(walks: list[SeenWalk]) -> SeenWalk:
    """Return several walks of one person as one: the mean of all, each by what was seen of it."""
    if len(walks) == 1:
        return walks[0]
    total = sum(walk.seen for walk in walks)
    mean = np.sum([walk.mean * np.float32(walk.seen / total) for walk in walks], axis=0)
    windows = np.concatenate([walk.windows for walk in walks])
    return SeenWalk(windows, np.asarray(mean, np.float32), total)


def save_walk(store: Store, seal: Seal, visit: str, walk: KeptWalk, weights_sha256: str) -> None:
    """Store a walk of a visit.

    Args:
        store: The service's store.
        seal: The gallery's.
        visit: Id of the visit, which is stored.
        walk: What is kept.
        weights_sha256: Hash of the weights of the model.
    """
    rows = np.concatenate([walk.mean[None], walk.windows[:MAX_WINDOWS]])  # [1 + k, p, d]
    store.add_track(
        TrackRow(
            visit=visit,
            camera=walk.camera,
            number=walk.number,
            started_utc=walk.started_utc,
            ended_utc=walk.ended_utc,
            windows=walk.seen,
            view=walk.view,
            parts=rows.shape[1],
            dimensions=rows.shape[2],
            embedding=seal.close(rows.astype("<f2").tobytes(), _place(walk)),
            weights_sha256=weights_sha256,
            frames_per_second=walk.frames_per_second,
        )
    )


def load_walks(store: Store, seal: Seal, visit: str, weights_sha256: str) -> list[KeptWalk]:
    """Return the kept walks of a visit; none that another model made or that do not open.

    Args:
        store: The service's store.
        seal: The gallery's.
        visit: Id of the visit.
        weights_sha256: Hash of the weights of the model.
    """
    tracks = store.tracks("visit = ?", visit)
    walks = [opened(seal, track) for track in tracks if track.weights_sha256 == weights_sha256]
    return [walk for walk in walks if walk is not None]


def opened(seal: Seal, track: TrackRow) -> KeptWalk | None:
    """Return the walk of a row, None where there is none or the gallery has another key now."""
    if track.embedding is None:
        return None
    try:
        content = bytes(seal.open(track.embedding, _place(track)))
        stored = np.frombuffer(content, "<f2").reshape(-1, track.parts, track.dimensions)
    except (BrokenSeal, ValueError):
        return None
    rows = stored.astype(np.float32)  # [1 + k, p, d]
    return KeptWalk(
        camera=track.camera,
        number=track.number,
        started_utc=track.started_utc,
        ended_utc=track.ended_utc,
        mean=rows[0],
        windows=rows[1:] if len(rows) > 1 else rows,
        seen=track.windows,
        view=track.view,
        frames_per_second=track.frames_per_second,
    )


def _place(walk: KeptWalk | TrackRow) -> bytes:
    return place("walks", walk.camera, walk.number, walk.started_utc)
