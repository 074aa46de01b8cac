"""Sets of clothed Walkers: people × walks × views, in the CASIA-B naming.

Walks nm-01, nm-02 are one outfit, nm-03, nm-04 the next, and every bg and cl walk has its own: a
person comes in several outfits under one label. Letters: `m` sequences, `s` frames, `h w` pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from cstl_edge.arrays import Mask, Silhouettes
from cstl_edge.silhouette import SMALL, align
from cstl_edge.walkers.clothed.frames import silhouettes
from cstl_edge.walkers.clothed.session import WalkSession, make_session
from cstl_edge.walkers.person import Person, make_person, random_stream
from cstl_edge.walkers.recording import CONDITIONS

ALL_VIEWS_DEG = tuple(range(0, 360, 15))
WALKS_PER_OUTFIT = 2  # in ordinary clothes
VIEWS = 17  # purpose of random numbers, see `person.random_stream`
FILMED = 20  # as above
LEAST_FILMED = 0.7  # share of a walk's frames in which the segmenter must find a person
SEED_STRIDE = 1000  # most walks that a person may have per condition of a set


def person_walks(
    identity: int,
    *,
    recordings: Mapping[str, int],
    views_deg: Sequence[int] = ALL_VIEWS_DEG,
    views: int = 0,
    frames: int = 30,
    size: tuple[int, int] = SMALL,
    seed: int = 0,
    shifted: bool = False,
    filmed: float = 0.0,
) -> Iterator[tuple[str, int, Silhouettes]]:
    """Yield name, view in degrees and silhouettes [s, h, w] of every walk and view of a person.

    Args:
        identity: Seed of the person.
        recordings: Number of walks per condition (nm, bg, cl).
        views_deg: Directions, 0 towards the camera, 90 from the walker's left side.
        views: Number of directions of each walk, drawn from `views_deg` as opposite pairs; 0 for
            all of them.
        frames: Number of frames of each walk.
        size: Height and width of a silhouette in pixels.
        seed: Seed of the walks.
        shifted: Whether to draw strides, garments and bags that no training sees.
        filmed: Share of the sequences that a segmenter cuts out of pictures (`film`); the others
            have modelled faults, twenty times as fast.
    """
    person = make_person(identity)
    for condition in CONDITIONS:
        for number in range(1, recordings.get(condition, 0) + 1):
            place = CONDITIONS.index(condition) * SEED_STRIDE
            words = [seed, identity, place + number, 2]
            walk_seed = int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0])
            day = number if condition != "nm" else (number - 1) // WALKS_PER_OUTFIT
            for view in _chosen_views(walk_seed, views_deg, views):
                session = make_session(
                    walk_seed, place + day, identity, condition, view, shifted=shifted
                )
                seen = (
                    _filmed(person, session, frames, size) if _is_filmed(session, filmed) else None
                )
                if seen is None:
                    seen = silhouettes(person, session, frames, size)
                yield f"{condition}-{number:02d}", view, seen


def _is_filmed(session: WalkSession, share: float) -> bool:
    view = round(session.camera.view_deg * 100) % 36000
    return bool(random_stream(FILMED, session.seed, view).random() < share)


def _filmed(
    person: Person, session: WalkSession, frames: int, size: tuple[int, int]
) -> Mask | None:
    """Return a session's silhouettes as cut out of pictures, None when too few show a person."""
    from cstl_edge.walkers.clothed.film import FilmSettings, film_masks
    from cstl_edge.walkers.clothed.person_network import person_network

    masks = film_masks(person, session, frames, person_network(), FilmSettings())
    good = [align(mask, size) for mask in masks if mask.any()]
    return np.stack(good) if len(good) >= LEAST_FILMED * frames else None


def _chosen_views(seed: int, views_deg: Sequence[int], count: int) -> list[int]:
    """Return the directions of a walk in rising order; opposite ones are drawn together."""
    if not 0 < count < len(views_deg):
        return list(views_deg)
    order = random_stream(VIEWS, seed).permutation(len(views_deg))
    chosen: dict[int, None] = {}
    for place in order:
        view = views_deg[place]
        for each in (view, (view + 180) % 360):
            if each in views_deg and len(chosen) < count:
                chosen[each] = None
    return sorted(chosen)
