"""Notice at enrolment that a walk is enrolled already, or that the gallery takes it for somebody.

Letters: k templates to enroll, c stored templates of a chunk, p parts, d embedding dimensions.
"""

from __future__ import annotations

import numpy as np

from cstl_edge.arrays import Floats
from cstl_edge.errors import GalleryError, one_line
from cstl_edge.gallery.loading import stored_vectors
from cstl_edge.gallery.match import Decision
from cstl_edge.gallery.people import clean_name, name_key
from cstl_edge.gallery.sealed_rows import SealedRows
from cstl_edge.gallery.sealing import Content
from cstl_edge.gallery.stored_people import StoredPerson, read_people

SAME_WALK = 0.03
"""Share of an embedding's length. The same recording is at 0.0002, the same walk cut one second
later at 0.06, encoded anew at 0.10 (the clip that is shipped, Euclidean mean over parts)."""
_CHUNK = 64  # stored templates compared at once


def refuse_enrolled_walk(rows: SealedRows, new: Floats) -> None:
    """Raise GalleryError when one of the templates [k, p, d] is enrolled, under whatever name."""
    near = SAME_WALK * float(np.linalg.norm(new, axis=2).mean())
    with rows.transaction():
        people = read_people(rows, rows.head())
        walks = [(person, walk) for person in people for walk in person.enrolments]
        owners = [person for person, walk in walks for _ in walk.record.templates]
        models = {walk.model_id[1:] for _, walk in walks}
        if models - {new.shape[1:]}:  # another model: `check_same_model` says so
            return
        chunk: list[tuple[int, Content]] = []
        for stored in stored_vectors(rows, walks):
            chunk.append(stored)
            if len(chunk) == _CHUNK:
                _refuse_near(new, chunk, owners, near)
                chunk = []
        if chunk:
            _refuse_near(new, chunk, owners, near)


def refuse_walk_like(name: str, stored: Floats, new: Floats) -> None:
    """Raise GalleryError when one of the templates [k, p, d] is among those of a stored walk.

    Args:
        name: Of whose walk it is.
        stored: Its templates [c, p, d].
        new: Templates to enroll [k, p, d].
    """
    near = SAME_WALK * float(np.linalg.norm(new, axis=2).mean())
    for template in new:
        distance = float(np.linalg.norm(stored - template, axis=2).mean(axis=1).min())
        if distance < near:
            raise _enrolled(name, distance)


def refuse_somebody_else(name: str, decision: Decision) -> None:
    """Raise GalleryError when the gallery names the walk to enroll as another person."""
    if decision.name is None or name_key(decision.name) == name_key(clean_name(name)):
        return
    raise GalleryError(
        f"this is already {one_line(decision.name)} (distance {decision.distance:.2f}, below the"
        f" threshold {decision.threshold:.2f}): enroll it under that name, or, if it is somebody"
        " else whom the gallery cannot tell apart, take it all the same (--force)"
    )


def _refuse_near(
    new: Floats, chunk: list[tuple[int, Content]], owners: list[StoredPerson], near: float
) -> None:
    blobs = b"".join(blob for _, blob in chunk)
    stored = np.frombuffer(blobs, "<f2").reshape(len(chunk), *new.shape[1:]).astype(np.float32)
    for template in new:
        distances = np.linalg.norm(stored - template, axis=2).mean(axis=1)  # [c]
        nearest = int(distances.argmin())
        if distances[nearest] < near:
            raise _enrolled(owners[chunk[nearest][0]].record.name, float(distances[nearest]))


def _enrolled(name: str, distance: float) -> GalleryError:
    return GalleryError(
        f"this is already {one_line(name)} (distance {distance:.2f}): this walk is enrolled; take"
        " another walk, or store it once more (--force)"
    )
