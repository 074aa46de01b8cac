"""Sets of Walkers in the CASIA-B layout: people × recordings × views, rendered in parallel.

Recordings of a person are numbered nm-01.., bg-01.., cl-01..; all cameras see each of them at once.
The bytes depend on `seed`, the ids and the layout, never on the number of workers. Letters: `m`
sequences, `s` frames, `h w` pixels.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import numpy.typing as npt

from cstl_edge.arrays import Indices, Silhouettes
from cstl_edge.silhouette import SMALL
from cstl_edge.walkers.frames import silhouettes
from cstl_edge.walkers.person import make_person
from cstl_edge.walkers.recording import CONDITIONS, make_recording

VIEWS_DEG = tuple(range(0, 181, 18))
CASIA_B: Mapping[str, int] = {"nm": 6, "bg": 2, "cl": 2}  # recordings per person
SEED_STRIDE = 1000  # most recordings that a person may have per condition of a set


@dataclass(frozen=True)
class WalkersSet:
    """Sequences with their labels."""

    silhouettes: Silhouettes  # [m, s, h, w]
    people: Indices  # [m]
    conditions: npt.NDArray[np.str_]  # [m] nm, bg or cl
    sequences: npt.NDArray[np.str_]  # [m] nm-01 ..
    views_deg: Indices  # [m]


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
    """Render every recording of every person from every view.

    Args:
        ids: Seeds of the people, all different; subject-disjoint sets have disjoint ids.
        recordings: Number per condition (nm, bg, cl).
        frames: Number of frames of each recording.
        size: Height and width of a silhouette in pixels, one of `silhouette.SIZES`.
        views_deg: Cameras, 0 towards the camera, 90 from the walker's left side, 180 away.
        workers: Number of processes; above 1 the script needs its `if __name__ == "__main__"`.
        seed: Seed of the recordings.
        body_seed: Seed of one body for all people; None gives everybody their own.

    Raises:
        ValueError: a setting out of range.
    """
    _check(ids, recordings, frames, workers)
    sequences = [
        (condition, number, int(view))
        for condition in CONDITIONS
        for number in range(1, recordings.get(condition, 0) + 1)
        for view in views_deg
    ]
    render = partial(_person_silhouettes, sequences, frames, size, seed, body_seed)
    if workers == 1 or len(ids) < 2:
        people = [render(i) for i in ids]
    else:
        # spawned, not forked: torch's threads do not survive a fork
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, spawn, cv2.setNumThreads, (1,)) as pool:
            people = list(pool.map(render, ids))
    names = [f"{condition}-{number:02d}" for condition, number, _ in sequences]
    return WalkersSet(
        silhouettes=np.concatenate(people),
        people=np.repeat(np.asarray(ids, dtype=np.int64), len(sequences)),
        conditions=np.tile([condition for condition, _, _ in sequences], len(ids)),
        sequences=np.tile(names, len(ids)),
        views_deg=np.tile(np.array([view for _, _, view in sequences], np.int64), len(ids)),
    )


def _person_silhouettes(
    sequences: Sequence[tuple[str, int, int]],
    frames: int,
    size: tuple[int, int],
    seed: int,
    body_seed: int | None,
    identity: int,
) -> Silhouettes:
    person = make_person(identity, body_seed=body_seed)
    out = np.empty((len(sequences), frames, *size), np.uint8)
    for row, (condition, number, view) in enumerate(sequences):
        # a seed for every recording of every set
        words = [seed, identity, CONDITIONS.index(condition) * SEED_STRIDE + number]
        own_seed = int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0])
        recording = make_recording(own_seed, condition, view)
        out[row] = silhouettes(person, recording, frames, size)
    return out


def _check(ids: Sequence[int], recordings: Mapping[str, int], frames: int, workers: int) -> None:
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
