"""Gallery of enrolled people with open-set identification: "who is this, if anybody we know?".

    with Gallery.open("people.db", model=encoder) as gallery:
        gallery.enroll("alice", silhouettes, consent="signed 2026-11-01", retention_days=365)
        decision = gallery.identify(visitor, fpir=0.01)

All data is in one SQLite file. Several processes may use it at once, and a thread that identifies
sees what another process enrols. Letters: k windows of one walk, s frames, p parts, d embedding
dimensions.
"""

from __future__ import annotations

import logging
import math
import os
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from cstl_edge.arrays import Array
from cstl_edge.errors import ConfigError, DataError, GalleryError
from cstl_edge.gallery.camera_means import CameraMeans
from cstl_edge.gallery.erasure import Erasure, erase, finish, note_of, purge
from cstl_edge.gallery.loading import Snapshot
from cstl_edge.gallery.match import Decision, NoMatch, Walk, decide, walk_distances
from cstl_edge.gallery.people import EnrolledPerson, utc_now
from cstl_edge.gallery.records import WalkOrigin
from cstl_edge.gallery.rows import Rows
from cstl_edge.gallery.store import GalleryStore, nobody
from cstl_edge.gallery.stored_people import find_row
from cstl_edge.gallery.templates import (
    EncoderLike,
    ModelId,
    as_stored,
    check_same_model,
    embeddings_of,
)
from cstl_edge.gallery.thresholds import ImpostorTable, Threshold, choose_threshold

logger = logging.getLogger(__name__)


class Gallery:
    """People and their templates in one file; every method may be called from any thread."""

    def __init__(self, store: GalleryStore, model: EncoderLike | None = None) -> None:
        """Use `Gallery.open`; raises GalleryError when `store` holds another model's templates."""
        self.model = model
        self._store = store
        self._lock = threading.RLock()
        self._cache: Snapshot | None = None
        self.camera_means = CameraMeans(store, self._lock)
        self._impostors = None
        if model is not None:
            table = model.info.impostors
            self._impostors = ImpostorTable(table) if table else None
            self._refuse_other_weights(store.model_id())

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        model: EncoderLike | None = None,
        *,
        create: bool = True,
        clock: Callable[[], datetime] = utc_now,
    ) -> Gallery:
        """Open a gallery file.

        Args:
            path: Path of the SQLite file.
            model: Encoder, needed to enrol and to identify silhouettes, not to list, show, remove.
            create: Whether a missing file is made.
            clock: Function that returns the current time in UTC.

        Raises:
            GalleryError: the file is no gallery, is damaged, or holds another model's templates.
        """
        rows = Rows(Path(path), create=create)
        try:
            gallery = cls(GalleryStore(rows, clock), model)
            if rows.writable:
                gallery._finish_erasure()
            return gallery
        except BaseException:
            rows.close()
            raise

    def enroll(
        self,
        name: str,
        walk: Array,
        *,
        consent: str,
        retention_days: float | None = None,
        origin: WalkOrigin | None = None,
        force: bool = False,
    ) -> int:
        """Store the templates of a walk under a name; durable when it returns.

        Args:
            name: Name of the person. A name in use adds to that person.
            walk: Embeddings [k, p, d] or [p, d], or silhouettes uint8 [s, h, w] of one walk.
            consent: Note of what the person agreed to, when and how; stored with the enrolment.
            retention_days: Days from now after which the person never matches, in place of an
                earlier retention; None keeps that, and is no limit for a new person.
            origin: Camera, view, frame rate and seconds of the walk, as far as they are known.
            force: Whether a walk that is enrolled already, and a name that looks like another one,
                are taken.

        Returns:
            How many templates were stored.

        Raises:
            ConfigError: a name, consent note or retention that is not valid.
            DataError: unusable embeddings or silhouettes.
            GalleryError: another model, a name that differs by case only, an ended retention that
                is not renewed, or storage that fails, such as a full disk.
        """
        if self.model is None:
            remedy = "open the gallery with model="
            raise GalleryError(f"a template must say which model made it: {remedy}")
        vectors = as_stored(embeddings_of(walk, self.model))
        if vectors is None:
            raise DataError(
                "an embedding is not finite in float16 and nothing was stored: look at the"
                " silhouettes, then at the model"
            )
        with self._lock:
            self._cache = None
            sha256 = self.model.info.weights_sha256
            self._store.add(
                name,
                vectors,
                sha256,
                consent=consent,
                retention_days=retention_days,
                origin=origin or WalkOrigin(),
                force=force,
            )
        return len(vectors)

    def identify(self, walk: Array, fpir: float = 0.01, threshold: float | None = None) -> Decision:
        """Decide who a walk belongs to, or that nobody enrolled is near enough.

        Args:
            walk: Embeddings [p, d], or [k, p, d] of windows of one walk, or silhouettes [s, h, w].
            fpir: False-positive identification rate: how often a stranger may be given a name,
                0..1 exclusive.
            threshold: Distance to use in place of the one for `fpir`.

        Raises:
            ConfigError: a rate or a threshold out of range.
            DataError: unusable embeddings or silhouettes.
            GalleryError: the gallery holds another model's templates, or cannot be read.
        """
        if not 0 < fpir < 1:
            raise ConfigError(f"fpir {fpir}: expected a rate between 0 and 1, such as 0.01")
        if threshold is not None and not 0 < threshold < math.inf:
            raise ConfigError(f"threshold {threshold}: expected a distance above 0")
        queries = embeddings_of(walk, self.model)
        current = self._current()
        stored_model, index = current.model_id, current.index
        threshold_used = Threshold(threshold, "none" if threshold is None else "given")
        if stored_model is None or not index.names:
            return _no_answer(NoMatch.GALLERY_EMPTY, threshold_used, fpir, 0)
        query_model = ModelId(stored_model.weights_sha256, *queries.shape[1:])
        check_same_model(query_model, stored_model, self._store.path)
        if as_stored(queries) is None:
            return _no_answer(NoMatch.NOT_FINITE, threshold_used, fpir, len(index.names))
        if threshold is None:
            threshold_used = choose_threshold(index, self._impostors, fpir)
        distances = walk_distances(index, Walk.of_windows(queries), None)
        return decide(index, distances, threshold_used, fpir)

    def people(self) -> tuple[EnrolledPerson, ...]:
        """Return everybody in order of name, expired people included."""
        with self._lock:
            return self._store.people()

    def show(self, name: str) -> EnrolledPerson:
        """Return one person, the name taken in any case; raises GalleryError when there is none."""
        with self._lock:
            people = self._store.people(name)
            if people:
                return people[0]
            raise nobody(name)

    def remove(self, name: str) -> int:
        """Erase one person without residue in the files; return how many templates were erased.

        Works for damaged records too. A warning tells what must wait for another process or for
        room on the disk; it is finished at the next opening.
        """
        rows = self._store.rows
        with self._lock:
            row = find_row(rows, name)
            if row is None:
                raise nobody(name)
            self._cache = None
            count = (
                "SELECT count(*) FROM templates JOIN enrolments ON enrolment_id = enrolments.id"
                " WHERE person_id = ?"
            )
            (templates,) = rows.one(count, row[0])
            erase(rows, [row[0]], self._store.now())
            self._finish_erasure()
            return int(templates)

    def purge(self) -> tuple[str, ...]:
        """Erase people whose retention has ended, and return their names.

        An expired person never matches, purge or not. Erasing takes two purges at least 24 hours
        apart that both find the retention over, so that a clock that jumped ahead erases nobody.
        """
        with self._lock:
            self._cache = None
            names = purge(self._store.rows, self._store.clock())
            self._finish_erasure()
            return names

    def _finish_erasure(self) -> Erasure:
        erasure = finish(self._store.rows)
        if erasure.unfinished:
            logger.warning("%s", note_of(erasure, self._store.path))
        return erasure

    @property
    def templates(self) -> int:
        """Number of templates, those of expired people included."""
        with self._lock:
            return self._store.count()

    def close(self) -> None:
        """Close the file; may be called twice."""
        with self._lock:
            self._cache = None
            self._store.rows.close()

    def __enter__(self) -> Gallery:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _current(self) -> Snapshot:
        """Return the templates, read again after a change of the file or an ended retention."""
        with self._lock:
            revision, now = self._store.rows.head().revision, self._store.now()
            if self._cache is None or not self._cache.is_current(revision, now):
                self._cache = None  # frees the old templates before as many are read again
                snapshot = self._store.load()
                self._refuse_other_weights(snapshot.model_id)
                self._cache = snapshot
            return self._cache

    def _refuse_other_weights(self, stored: ModelId | None) -> None:
        if self.model is not None and stored is not None:
            ours = stored._replace(weights_sha256=self.model.info.weights_sha256)
            check_same_model(ours, stored, self._store.path)


def _no_answer(reason: NoMatch, threshold: Threshold, fpir: float, people: int) -> Decision:
    value, source, _ = threshold
    return Decision(
        threshold=value, threshold_source=source, fpir=fpir, people=people, reason=reason
    )
