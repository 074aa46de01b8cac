"""Read all templates of a gallery into memory, each compared with its checksum.

Letters: n templates, p parts, d embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cstl_edge.arrays import Floats
from cstl_edge.gallery.index import FAST_FROM, TemplateIndex
from cstl_edge.gallery.records import WalkOrigin
from cstl_edge.gallery.sealed_rows import SealedRows
from cstl_edge.gallery.sealing import BrokenSeal, Content
from cstl_edge.gallery.stored_people import StoredEnrolment, StoredPerson, read_people
from cstl_edge.gallery.templates import ModelId

_CHUNK = 256  # templates turned into [p, d, n] at once: 4 MiB of 32x256 float16


@dataclass(frozen=True)
class Snapshot:
    """All templates of people whose retention has not ended."""

    index: TemplateIndex
    origins: tuple[WalkOrigin, ...]  # [walks], as `index.walks`
    model_id: ModelId | None  # None when nobody is enrolled
    revision: int
    read_utc: str
    valid_until: str | None  # UTC, when the next retention ends

    def is_current(self, revision: int, now: str) -> bool:
        """Return whether neither the people nor somebody's retention has changed since."""
        in_time = self.valid_until is None or now < self.valid_until
        return self.revision == revision and self.read_utc <= now and in_time


def load(rows: SealedRows, now: str) -> Snapshot:
    """Read the templates of people whose retention has not ended at `now`, in one state.

    Raises GalleryError where anything that decides who is named is damaged or missing.
    """
    with rows.transaction():
        head = rows.head()
        everybody = read_people(rows, head)
        model_id = one_model(rows, everybody)
        people = [p for p in everybody if not p.record.expires_utc or p.record.expires_utc > now]
        counts = np.array([person.templates for person in people], np.intp)
        walks = [(person, walk) for person in people for walk in person.enrolments]
        vectors = _read_vectors(rows, walks, model_id)
    per_walk = np.array([len(walk.record.templates) for _, walk in walks], np.intp)
    ends = [p.record.expires_utc for p in people if p.record.expires_utc]
    return Snapshot(
        index=TemplateIndex(
            names=tuple(person.record.name for person in people),
            starts=np.cumsum(counts) - counts,
            templates=vectors,
            walks=np.cumsum(per_walk) - per_walk,
            cameras=tuple(walk.record.camera or "" for _, walk in walks),
        ),
        origins=tuple(walk.record.origin for _, walk in walks),
        model_id=model_id,
        revision=head.revision,
        read_utc=now,
        valid_until=min(ends, default=None),
    )


def one_model(rows: SealedRows, people: list[StoredPerson]) -> ModelId | None:
    """Return the model of all templates, None without any (GalleryError: there are several)."""
    models = {walk.model_id for person in people for walk in person.enrolments}
    if len(models) > 1:
        raise rows.damaged(f"the model of the templates ({len(models)} in place of one)")
    return models.pop() if models else None


def stored_vectors(
    rows: SealedRows, walks: list[tuple[StoredPerson, StoredEnrolment]]
) -> Iterator[tuple[int, Content]]:
    """Yield the position and the bytes of every template of walks, in the order of the file.

    Raises GalleryError where one is damaged or missing.
    """
    expected = {
        template: (position, person, walk)
        for position, (person, walk, template) in enumerate(
            (person, walk, template) for person, walk in walks for template in walk.record.templates
        )
    }
    total = len(expected)
    for row, body in rows.each("SELECT id, body FROM templates ORDER BY id"):
        if row not in expected:  # of somebody whose retention has ended
            continue
        position, person, walk = expected.pop(row)
        model = walk.model_id
        try:
            vector = rows.seal.open(body, walk.place_of("templates", row))
            if len(vector) != 2 * model.parts * model.dimensions:
                raise BrokenSeal
        except (BrokenSeal, TypeError) as err:
            raise rows.damaged(f"a template of '{person.record.name}'") from err
        yield position, vector
    if expected:
        _, person, _ = next(iter(expected.values()))
        raise rows.damaged(f"{len(expected)} of {total} templates, one of '{person.record.name}',")


def unpacked(rows: SealedRows, walk: StoredEnrolment, bodies: list[tuple[int, bytes]]) -> Floats:
    """Return the templates [k, p, d] of a walk (GalleryError: one is damaged or missing).

    Args:
        rows: Open store.
        walk: The walk.
        bodies: Ids and bodies of its rows of `templates`, in the order of their ids.
    """
    what = f"a template of walk {walk.id}"
    if [row for row, _ in bodies] != sorted(walk.record.templates):
        raise rows.damaged(what)
    shape = (len(bodies), walk.record.parts, walk.record.dimensions)
    content = b"".join(
        rows.content(body, walk.place_of("templates", row), what) for row, body in bodies
    )
    try:
        return np.frombuffer(content, "<f2").reshape(shape).astype(np.float32)
    except ValueError as err:
        raise rows.damaged(what) from err


def _read_vectors(
    rows: SealedRows, walks: list[tuple[StoredPerson, StoredEnrolment]], model_id: ModelId | None
) -> Floats:
    """Return the templates of walks, [p, d, n].

    The numbers of a template lie together where there are many (`fast_index`), else those of a
    dimension do.
    """
    parts, dimensions = (model_id.parts, model_id.dimensions) if model_id else (0, 0)
    count = sum(len(walk.record.templates) for _, walk in walks)
    if count < FAST_FROM:
        vectors = np.empty((parts, dimensions, count), np.float32)
    else:
        vectors = np.empty((count, parts, dimensions), np.float32).transpose(1, 2, 0)
    positions: list[int] = []
    blobs: list[Content] = []

    def flush() -> None:
        chunk = np.frombuffer(b"".join(blobs), "<f2").reshape(-1, parts, dimensions)
        columns: slice | list[int] = positions
        if positions == [*range(positions[0], positions[0] + len(positions))]:
            columns = slice(positions[0], positions[0] + len(positions))  # twice as fast
        vectors[:, :, columns] = chunk.transpose(1, 2, 0)  # [p, d, n]
        positions.clear()
        blobs.clear()

    for position, vector in stored_vectors(rows, walks):
        positions.append(position)
        blobs.append(vector)
        if len(blobs) == _CHUNK:
            flush()
    if blobs:
        flush()
    return vectors
