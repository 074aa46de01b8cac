"""The people of a large gallery, read as they change, and the file that keeps its short vectors.

After the first reading only people whose record changed are read again. The file is a cache of the
store: sealed as the store is, named after all that it depends on, written whole or not at all, and
made again where it is damaged or does not fit. Whoever is erased leaves it: `erasure` deletes it.
"""

from __future__ import annotations

import hashlib
import io
import logging
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cstl_edge.arrays import Bools, Floats
from cstl_edge.distance import Distance
from cstl_edge.errors import CstlEdgeError, StorageError
from cstl_edge.gallery.index_cache import cache_path, forget_cache
from cstl_edge.gallery.large_index import LargeIndex, LargeSearch
from cstl_edge.gallery.loading import Snapshot, one_model, unpacked
from cstl_edge.gallery.records import GalleryHead
from cstl_edge.gallery.replication import tails
from cstl_edge.gallery.rows import Rows
from cstl_edge.gallery.sealing import BrokenSeal, place
from cstl_edge.gallery.short_vectors import ShortVectors
from cstl_edge.gallery.stored_people import (
    PERSON_ROWS,
    StoredEnrolment,
    StoredPerson,
    read_people,
    read_person,
)
from cstl_edge.output import PRIVATE, whole_file

_VERSION = 2  # 1: principal components were not turned
_WALK = tuple[int, str, int]  # id, moment and templates of a walk: not used again for another one

logger = logging.getLogger(__name__)


class LargeGallery:
    """People and walks of a file with many templates. Not thread-safe but for what it reads."""

    def __init__(self, rows: Rows, lock: threading.RLock) -> None:
        """Use an open file and the lock of its owner."""
        self._rows, self._lock = rows, lock
        self._people: dict[int, tuple[bytes, StoredPerson]] = {}
        self._numbers: dict[_WALK, int] = {}  # of all walks since the file was opened
        self._walks: dict[int, StoredEnrolment] = {}  # by number, those enrolled
        self.search = LargeSearch(self._read, self.open_cache, self.save_cache)
        self._revision = -1

    @property
    def path(self) -> Path:
        """Path of the cache."""
        return cache_path(self._rows.path)

    def load(self, now: str) -> Snapshot:
        """Read who is enrolled and not expired, without their templates (GalleryError)."""
        with self._rows.transaction():
            head = self._rows.head()
            everybody = self._read_people(head)
            model_id = one_model(self._rows, everybody)
        people = [p for p in everybody if not p.record.expires_utc or p.record.expires_utc > now]
        walks = [walk for person in people for walk in person.enrolments]
        numbers = [self._number(walk) for walk in walks]
        self._walks = dict(zip(numbers, walks, strict=True))
        per_walk = np.array([len(walk.record.templates) for walk in walks], np.intp)
        counts = np.array([person.templates for person in people], np.intp)
        ends = [p.record.expires_utc for p in people if p.record.expires_utc]
        parts, dimensions = model_id[1:] if model_id else (0, 0)
        self._revision = head.revision
        index = LargeIndex(
            names=tuple(person.record.name for person in people),
            starts=np.cumsum(counts) - counts,
            templates=np.empty((parts, dimensions, 0), np.float32),
            walks=np.cumsum(per_walk) - per_walk,
            cameras=tuple(walk.record.camera or "" for walk in walks),
            search=self.search,
            numbers=np.array(numbers, np.int64),
            total=int(counts.sum()),
        )
        return Snapshot(
            index=index,
            origins=tuple(walk.record.origin for walk in walks),
            model_id=model_id,
            revision=head.revision,
            read_utc=now,
            valid_until=min(ends, default=None),
        )

    def open_cache(self, distance: Distance) -> ShortVectors | None:
        """Return the short vectors of the cache, None where it does not fit store and distance."""
        if not self.path.exists():
            return None
        try:
            short = self._from_cache(self.path.read_bytes(), distance)
        except (OSError, ValueError, KeyError, BrokenSeal) as err:
            logger.warning("index '%s' is made anew: %s", self.path, str(err) or "it does not fit")
            return None
        gone = self._gone(short)
        if not gone.any():
            return short
        forget_cache(self._rows.path)  # a copy of earlier: it is written again without them
        return short.without(gone)

    def save_cache(self, short: ShortVectors, distance: Distance) -> bool:
        """Write the short vectors of who is enrolled; returns False where that is not possible.

        Nothing stays of them where the gallery changes meanwhile: somebody may have been erased.
        """
        if not self._rows.writable:
            return False
        gone = self._gone(short)
        content = self._cache_content(short.without(gone) if gone.any() else short, distance)
        try:
            with whole_file(self.path, mode=PRIVATE) as file:
                file.write(content)
                if self._rows.head().revision != self._revision:
                    raise StorageError("the gallery has changed")
            if self._rows.head().revision != self._revision:
                forget_cache(self._rows.path)
                return False
        except CstlEdgeError as err:
            logger.info("index '%s' is not kept: %s", self.path, err)
            return False
        return True

    def _gone(self, short: ShortVectors) -> Bools:
        """Tell which entries are of walks that are not enrolled, [n]."""
        return ~np.isin(short.walks, np.fromiter(self._walks, np.int64))

    def close(self) -> None:
        """Save what is not saved yet."""
        if self.search.short is not None and not self.path.exists():
            self.search.unsaved = len(self.search.short.walks)
        self.search.save(at_end=True)

    def _read_people(self, head: GalleryHead) -> list[StoredPerson]:
        """Return everybody; who has not changed since the last time is not read again."""
        present = tails(self._rows)
        if not self._people or head.unfinished:
            everybody = read_people(self._rows, head)
            self._people = {p.id: (present[p.id], p) for p in everybody}
            return everybody
        if len(present) != head.people:
            raise self._rows.damaged(f"the list of people ({len(present)} of {head.people})")
        for person in self._people.keys() - present.keys():
            del self._people[person]
        for person, tail in present.items():
            if person not in self._people or self._people[person][0] != tail:
                row = self._rows.one(f"{PERSON_ROWS} WHERE id = ?", person)
                self._people[person] = (tail, read_person(self._rows, row))
        return [person for _, person in self._people.values()]

    def _number(self, walk: StoredEnrolment) -> int:
        record = walk.record
        key = (walk.id, record.created_utc, len(record.templates))
        return self._numbers.setdefault(key, len(self._numbers))

    def _read(self, numbers: Sequence[int]) -> dict[int, Floats]:
        """Return the templates [k, p, d] of walks by their numbers, of those that are there."""
        with self._lock, self._rows.transaction():
            walks = {n: self._walks[n] for n in numbers if n in self._walks}
            by_id = {walk.id: (n, walk) for n, walk in walks.items()}
            marks = ", ".join("?" * len(by_id))
            query = f"SELECT id, enrolment_id, body FROM templates WHERE enrolment_id IN ({marks})"
            bodies: dict[int, list[tuple[int, bytes]]] = {}
            for row, enrolment, body in self._rows.all(query, *by_id):
                bodies.setdefault(enrolment, []).append((row, body))
            return {
                n: unpacked(self._rows, walk, sorted(bodies[walk.id]))
                for n, walk in by_id.values()
                if walk.id in bodies
            }

    def _cache_content(self, short: ShortVectors, distance: Distance) -> bytes:
        keys = {number: key for key, number in self._numbers.items()}
        owners, walks = np.unique(short.walks, return_inverse=True)
        names = ["|".join(map(str, keys[int(owner)])) for owner in owners]
        file = io.BytesIO()
        np.savez(
            file,
            names=np.array(names),
            walks=walks,
            integers=short.integers,
            scales=short.scales,
            components=short.components,
            codebook=short.codebook,
        )
        return self._rows.seal.close(file.getvalue(), self._cache_place(distance))

    def _from_cache(self, content: bytes, distance: Distance) -> ShortVectors:
        """Return the short vectors of a cache; raises ValueError, KeyError, BrokenSeal."""
        opened = self._rows.seal.open(content, self._cache_place(distance))
        with np.load(io.BytesIO(opened), allow_pickle=False) as file:
            split = [name.split("|") for name in file["names"].tolist()]
            numbers = np.array(
                [
                    self._numbers.setdefault((int(i), utc, int(count)), len(self._numbers))
                    for i, utc, count in split
                ],
                np.int64,
            )
            return ShortVectors(
                file["components"],
                file["codebook"],
                numbers[file["walks"]],
                file["integers"],
                file["scales"],
            )

    def _cache_place(self, distance: Distance) -> bytes:
        """Return what a cache is valid for: gallery, version, distance."""
        digest = hashlib.sha256()
        for array in (distance.weights, distance.whitening, distance.mean, distance.joint):
            digest.update(b"none" if array is None else np.ascontiguousarray(array).tobytes())
        gallery = self._rows.head().gallery
        return place("index", _VERSION, gallery, distance.name, digest.hexdigest())
