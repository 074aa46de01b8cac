"""Sets of walkers in the CASIA-B layout: people × recordings × views, made in parallel.

Recordings of a person are numbered nm-01.., bg-01.., cl-01..; every one is seen by all cameras at
once. The bytes depend on `seed`, the ids and the layout, never on the number of workers.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import numpy.typing as npt

from cstl_edge.silhouette import SIZES, SMALL, Silhouette
from cstl_edge.walkers.frames import silhouettes
from cstl_edge.walkers.person import Person, make_person
from cstl_edge.walkers.recording import CONDITIONS, make_recording

VIEWS_DEG = tuple(range(0, 181, 18))
CASIA_B: Mapping[str, int] = {"nm": 6, "bg": 2, "cl": 2}  # recordings per person
SEED_STRIDE = 1000  # recordings a person may have per seed of a set


@dataclass(frozen=True)
class WalkersSet:
    """Sequences with what is known of each."""

    silhouettes: Silhouette  # uint8 [m, s, h, w]
    people: npt.NDArray[np.int64]  # [m]
    conditions: npt.NDArray[np.str_]  # [m] nm, bg or cl
    sequences: npt.NDArray[np.str_]  # [m] nm-01 ..
    views_deg: npt.NDArray[np.int64]  # [m]


def generate(
    ids: Sequence[int],
    *,
    recordings: Mapping[str, int] = CASIA_B,
    frames: int = 30,
    size: tuple[int, int] = SMALL,
    views_deg: Sequence[int] = VIEWS_DEG,
    workers: int = 1,
    seed: int = 0,
    body_seed: int | None = None,
) -> WalkersSet:
    """Make every recording of every person from every view.

    ids: seeds of the people, all different; subject-disjoint sets have disjoint ids
    recordings: number per condition; seed: of the recordings; body_seed: one body for all
    workers: processes; above 1 the calling script needs its `if __name__ == "__main__"`
    """
    _check(ids, recordings, frames, size, workers)
    make = partial(
        _person_sequences,
        layout=_layout(recordings, views_deg),
        frames=frames,
        size=size,
        seed=seed,
        body_seed=body_seed,
    )
    if workers == 1 or len(ids) < 2:
        made = [make(i) for i in ids]
    else:
        with worker_pool(workers, one_thread) as pool:
            made = list(pool.map(make, ids))
    return _collect(ids, made, _layout(recordings, views_deg))


def recording_seed(seed: int, person: int, sequence: int) -> int:
    """Return the seed of one recording of a set, no other recording's."""
    return int(np.random.SeedSequence([seed, person, sequence]).generate_state(1, np.uint64)[0])


def _layout(recordings: Mapping[str, int], views: Sequence[int]) -> list[tuple[str, int, int]]:
    """Return condition, number within it and view of each of a person's sequences."""
    return [
        (condition, number, int(view))
        for condition in CONDITIONS
        for number in range(1, recordings.get(condition, 0) + 1)
        for view in views
    ]


def _person_sequences(
    identity: int,
    *,
    layout: Sequence[tuple[str, int, int]],
    frames: int,
    size: tuple[int, int],
    seed: int,
    body_seed: int | None,
) -> Silhouette:
    who: Person = make_person(identity, identity if body_seed is None else body_seed)
    out = np.empty((len(layout), frames, *size), np.uint8)
    for row, (condition, number, view) in enumerate(layout):
        sequence = CONDITIONS.index(condition) * SEED_STRIDE + number
        walk = make_recording(recording_seed(seed, identity, sequence), condition, view, {})
        out[row] = silhouettes(who, walk, frames, size)
    return out


def _collect(
    ids: Sequence[int], made: Sequence[Silhouette], layout: Sequence[tuple[str, int, int]]
) -> WalkersSet:
    conditions, numbers, views = zip(*layout, strict=True)
    names = [f"{c}-{n:02d}" for c, n in zip(conditions, numbers, strict=True)]
    return WalkersSet(
        silhouettes=np.concatenate(made),
        people=np.repeat(np.asarray(ids, dtype=np.int64), len(layout)),
        conditions=np.tile(np.array(conditions), len(ids)),
        sequences=np.tile(np.array(names), len(ids)),
        views_deg=np.tile(np.array(views, dtype=np.int64), len(ids)),
    )


def _check(
    ids: Sequence[int],
    recordings: Mapping[str, int],
    frames: int,
    size: tuple[int, int],
    workers: int,
) -> None:
    if not len(ids) or len(set(ids)) != len(ids):
        raise ValueError(f"expected ids that all differ, got {len(ids)} with {len(set(ids))} kinds")
    if unknown := set(recordings) - set(CONDITIONS):
        raise ValueError(f"expected conditions of {CONDITIONS}, got {sorted(unknown)}")
    most = max(recordings.values(), default=0)
    if min(recordings.values(), default=0) < 0 or not 0 < most < SEED_STRIDE:
        raise ValueError(f"expected 1..{SEED_STRIDE - 1} recordings, got {dict(recordings)}")
    for name, value in (("frames", frames), ("workers", workers)):
        if value < 1:
            raise ValueError(f"expected {name} of at least 1, got {value}")
    if size not in SIZES:
        raise ValueError(f"expected a size of {' or '.join(map(str, SIZES))}, got {size}")


def worker_pool(workers: int, initializer: Callable[[], None]) -> ProcessPoolExecutor:
    """Return processes that render. Spawned, not forked: torch's threads do not survive a fork."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, context, initializer)


def one_thread() -> None:
    """Keep cv2 to the thread that calls it."""
    cv2.setNumThreads(1)
