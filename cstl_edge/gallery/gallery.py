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
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np

from cstl_edge.arrays import Array, Floats
from cstl_edge.errors import ConfigError, DataError, GalleryError
from cstl_edge.gallery import retention
from cstl_edge.gallery.camera_means import CameraMeans
from cstl_edge.gallery.duplicates import refuse_enrolled_walk, refuse_somebody_else
from cstl_edge.gallery.erasure import Erasure, erase, finish, note_of
from cstl_edge.gallery.loading import Snapshot
from cstl_edge.gallery.match import Decision, NoMatch, SeenWalk
from cstl_edge.gallery.matcher import Matcher
from cstl_edge.gallery.people import EnrolledPerson, utc_now
from cstl_edge.gallery.records import WalkOrigin
from cstl_edge.gallery.rows import Rows
from cstl_edge.gallery.store import GalleryStore, nobody
from cstl_edge.gallery.stored_people import find_row
from cstl_edge.gallery.templates import (
    WINDOW,
    EncoderLike,
    ModelId,
    as_stored,
    check_same_model,
    embeddings_of,
)

logger = logging.getLogger(__name__)


class Gallery:
    """People and their templates in one file; every method may be called from any thread."""

    def __init__(self, store: GalleryStore, model: EncoderLike | None = None) -> None:
        """Use `Gallery.open`; raises GalleryError when `store` holds another model's templates."""
        self.model = model
        self._store = store
        self._lock = threading.RLock()
        self._cache: Snapshot | None = None
        self._purged: list[str] = []
        self._next_look_s = 0.0  # of the monotonic clock
        self.camera_means = CameraMeans(store, self._lock)
        self._matcher = Matcher(model.info if model is not None else None)
        if model is not None:
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
            gallery._purged = [*gallery.take_purged()]
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
            GalleryError: another model; a name that differs by case only or looks like another; a
                walk that is enrolled already or is taken for somebody else; an ended retention that
                is not renewed; storage that fails, such as a full disk.
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
        origin = origin or WalkOrigin()
        with self._lock:
            if not force:
                self._refuse_known(name, vectors.astype(np.float32), origin.camera)
            self._cache = None
            self._store.add(
                name,
                vectors,
                self.model.info.weights_sha256,
                consent=consent,
                retention_days=retention_days,
                origin=origin,
                force=force,
            )
        return len(vectors)

    def identify(
        self,
        walk: Array | SeenWalk,
        fpir: float = 0.01,
        threshold: float | None = None,
        *,
        camera: str | None = None,
        learn: bool = True,
    ) -> Decision:
        """Decide who a walk belongs to, or that nobody enrolled is near enough.

        Args:
            walk: Embeddings [p, d], or [k, p, d] of windows of one walk, each of which overlaps
                the last by half, or silhouettes [s, h, w], or a `SeenWalk`. Give all that was seen.
            fpir: False-positive identification rate: how often a stranger may be given a name,
                0..1 exclusive.
            threshold: Distance to use in place of the one for `fpir`.
            camera: Name of the camera that saw the walk; its mean is subtracted.
            learn: Whether the walk counts in the sums of that camera, once: one that begins with
                a window that was identified before is the same walk. Without a name of the camera
                nothing is learned.

        Raises:
            ConfigError: a rate or a threshold out of range.
            DataError: unusable embeddings or silhouettes.
            GalleryError: the gallery holds another model's templates, or cannot be read.
        """
        _check_rates(fpir, threshold)
        seen = self._walk(walk)
        finite = as_stored(seen.windows) is not None
        with self._lock:
            current = self._searchable(seen)
            people = len(current.index.names)
            if people and finite:
                prepared = self._matcher.prepare(current, self.camera_means, camera)
        if people and finite:
            decision = self._matcher.decide(prepared, seen, fpir, threshold)
        else:
            reason = NoMatch.NOT_FINITE if people else NoMatch.GALLERY_EMPTY
            decision = _no_answer(reason, threshold, fpir, people)
        if learn and finite and camera is not None:
            self.learn(seen, camera, decision)
        return decision

    def distances(self, walk: Array | SeenWalk, *, camera: str | None = None) -> dict[str, float]:
        """Return the distance of a walk to everybody who is searched, by name.

        Args:
            walk: As for `identify`.
            camera: Name of the camera that saw the walk.

        Raises:
            DataError: unusable embeddings or silhouettes.
            GalleryError: the gallery holds another model's templates, or cannot be read.
        """
        seen = self._walk(walk)
        with self._lock:
            current = self._searchable(seen)
            if not current.index.names:
                return {}
            prepared = self._matcher.prepare(current, self.camera_means, camera)
        distances = prepared.distances(seen).tolist()
        return dict(zip(prepared.index.names, distances, strict=True))

    def learn(self, walk: Array | SeenWalk, camera: str, decision: Decision | None = None) -> None:
        """Count a walk in the sums of its camera, once; `live` does so when a track ends.

        Args:
            walk: As for `identify`.
            camera: Name of the camera that saw it.
            decision: The answer about it: somebody named is counted once.

        Raises:
            ConfigError: a name of the camera that is not valid.
            GalleryError: the gallery cannot be written.
        """
        seen = self._walk(walk)
        with self._lock:
            if as_stored(seen.windows) is None:
                return
            self._matcher.learn(self.camera_means, seen, camera, decision)
            if self._matcher.is_stale:
                self._cache = None

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

    def purge(self, *, trust_clock: bool = False) -> tuple[str, ...]:
        """Erase people whose retention has ended, and return their names.

        Opening a gallery and `take_purged` do so by themselves. Finishes earlier erasures, too.
        While the clock is in doubt (`retention`), it takes two looks 24 hours apart.

        trust_clock: whether the clock is known to be right
        """
        with self._lock:
            self._cache = None
            rows = self._store.rows
            names = retention.purge(rows, self._store.clock(), trust_clock=trust_clock)
            self._finish_erasure()
            return names

    def take_purged(self) -> tuple[str, ...]:
        """Purge when it is time, and return the names erased so since the last call.

        For long runs: costs nothing but once an hour.
        """
        with self._lock:
            if time.monotonic() >= self._next_look_s and self._store.rows.writable:
                self._next_look_s = time.monotonic() + retention.LOOK_EVERY.total_seconds()
                try:
                    if retention.is_due(self._store.rows.head(), self._store.clock()):
                        self._purged += self.purge()
                except GalleryError as err:  # whoever reads the people next will raise it
                    logger.warning("nobody is purged: %s", err)
            names, self._purged = tuple(self._purged), []
            return names

    def _refuse_known(self, name: str, walk: Floats, camera: str | None) -> None:
        """Raise GalleryError for a walk that is enrolled, or that is taken for somebody else."""
        refuse_enrolled_walk(self._store.rows, walk)
        decision = self.identify(walk, camera=camera, learn=False)
        refuse_somebody_else(name, decision)

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

    def _walk(self, walk: Array | SeenWalk) -> SeenWalk:
        if isinstance(walk, SeenWalk):
            return walk
        windows = embeddings_of(walk, self.model)
        silhouettes = np.asarray(walk).dtype == np.uint8
        return SeenWalk.of_windows(windows, max(1.0, len(walk) / WINDOW) if silhouettes else None)

    def _searchable(self, walk: SeenWalk) -> Snapshot:
        """Return the templates, after comparing their model with that of a walk."""
        current = self._current()
        if current.model_id is not None and current.index.names:
            query_model = ModelId(current.model_id.weights_sha256, *walk.mean.shape)
            check_same_model(query_model, current.model_id, self._store.path)
        return current

    def _refuse_other_weights(self, stored: ModelId | None) -> None:
        if self.model is not None and stored is not None:
            ours = stored._replace(weights_sha256=self.model.info.weights_sha256)
            check_same_model(ours, stored, self._store.path)


def _check_rates(fpir: float, threshold: float | None) -> None:
    if not 0 < fpir < 1:
        raise ConfigError(f"fpir {fpir}: expected a rate between 0 and 1, such as 0.01")
    if threshold is not None and not 0 < threshold < math.inf:
        raise ConfigError(f"threshold {threshold}: expected a distance above 0")


def _no_answer(reason: NoMatch, threshold: float | None, fpir: float, people: int) -> Decision:
    source = "none" if threshold is None else "given"
    return Decision(
        threshold=threshold, threshold_source=source, fpir=fpir, people=people, reason=reason
    )
