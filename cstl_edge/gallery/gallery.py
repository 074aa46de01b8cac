"""Gallery of enrolled people with open-set identification: "who is this, if anybody we know?".

    with Gallery.open("people.db", model=encoder) as gallery:
        gallery.enroll("alice", silhouettes, consent="signed 2026-11-01", retention_days=365)
        decision = gallery.identify(visitor, fpir=0.01)

All data is in one SQLite file. Several processes may use it at once, and a thread that identifies
sees what another process enrolls. Letters: k windows of one walk, s frames, p parts, d embedding
dimensions.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cstl_edge.arrays import Array, Floats, Silhouettes
from cstl_edge.errors import ConfigError, DataError, GalleryError, MissingPackage
from cstl_edge.gallery import large_index
from cstl_edge.gallery.administration import Administration
from cstl_edge.gallery.duplicates import (
    refuse_enrolled_walk,
    refuse_somebody_else,
    refuse_walk_like,
)
from cstl_edge.gallery.keys import GalleryKey
from cstl_edge.gallery.large_gallery import LargeGallery
from cstl_edge.gallery.large_index import LargeIndex
from cstl_edge.gallery.loading import Snapshot
from cstl_edge.gallery.look_alikes import LookAlike
from cstl_edge.gallery.match import Decision, NoMatch, RuledOut, SeenWalk
from cstl_edge.gallery.matcher import Matcher
from cstl_edge.gallery.people import utc_now
from cstl_edge.gallery.records import WalkOrigin
from cstl_edge.gallery.rows import Rows
from cstl_edge.gallery.server_address import is_server, server_address
from cstl_edge.gallery.server_link import ServerLink
from cstl_edge.gallery.short_vectors import import_faiss
from cstl_edge.gallery.store import GalleryStore, NewWalk
from cstl_edge.gallery.templates import (
    WINDOW,
    EncoderLike,
    ModelId,
    as_stored,
    check_same_model,
    embeddings_of,
)

logger = logging.getLogger(__name__)


class Gallery(Administration):
    """People and their templates in one file; every method may be called from any thread."""

    def __init__(
        self,
        store: GalleryStore,
        model: EncoderLike | None = None,
        link: ServerLink | None = None,
    ) -> None:
        """Use `Gallery.open`; raises GalleryError when `store` holds another model's templates."""
        super().__init__(store, link)
        self.model = model
        self._large: LargeGallery | None = None
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
        key: GalleryKey | None = None,
        encrypt: bool = False,
        clock: Callable[[], datetime] = utc_now,
    ) -> Gallery:
        """Open a gallery.

        Args:
            path: Path of the SQLite file, or address of a PostgreSQL server (`server_link`).
            model: Encoder, needed to enroll and to identify silhouettes, not to list, show, remove.
            create: Whether a missing file is made.
            key: Passphrase or key file of an encrypted gallery; the environment is asked for it
                where none is given (`keys`).
            encrypt: Whether a file that is made is encrypted; one that is there must be, then.
            clock: Function that returns the current time in UTC.

        Raises:
            GalleryError: the file is no gallery, is damaged, or holds another model's templates.
        """
        with contextlib.ExitStack() as opened:
            link = None
            if is_server(path):
                address, key = server_address(path), (key or GalleryKey()).asking_once()
                link = ServerLink(address, create=create, key=key, encrypt=encrypt, clock=clock)
                opened.callback(link.close)
                path, create, encrypt, clock = link.path, False, False, link.clock
            rows = Rows(Path(path), create=create, key=key, encrypt=encrypt)
            opened.callback(rows.close)
            make = partial(cls, GalleryStore(rows, clock), model, link)
            gallery = make() if link is None else link.healed(make)
            gallery._purged = [*gallery.take_purged()]
            opened.pop_all()
            return gallery

    def enroll(
        self,
        name: str,
        walk: Array,
        *,
        consent: str,
        retention_days: float | None = None,
        origin: WalkOrigin | None = None,
        silhouettes: Silhouettes | None = None,
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
            silhouettes: [s, h, w] to keep with the walk, which the consent must cover.
            force: Whether a walk that is enrolled already, and a name that looks like another one,
                are taken.

        Returns: How many templates were stored.

        Raises:
            ConfigError: a name, consent note or retention that is not valid.
            DataError: unusable embeddings or silhouettes.
            GalleryError: another model; a name that differs by case only or looks like another; a
                walk that is enrolled already or is taken for somebody else; an ended retention that
                is not renewed; storage that fails, such as a full disk.
        """
        new = NewWalk(
            vectors=self._vectors(walk),
            weights_sha256=self.model.info.weights_sha256 if self.model else "",
            consent=consent,
            retention_days=retention_days,
            origin=origin or WalkOrigin(),
            silhouettes=silhouettes,
        )
        with self._lock, self._changing() as store:
            if not force:
                self._refuse_known(name, new.vectors.astype(np.float32), new.origin.camera)
            store.add(name, new, force=force)
        return len(new.vectors)

    def identify(
        self,
        walk: Array | SeenWalk,
        fpir: float = 0.01,
        threshold: float | None = None,
        *,
        camera: str | None = None,
        learn: bool = True,
        ruled_out: Sequence[RuledOut] = (),
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
                it counts as long as the gallery is open.
            ruled_out: Walks that are not of the person they were taken for: a walk that is more
                like one of them than like that person is not given that name.

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
                prepared = self._matcher.prepare(current, self.camera_means, camera, ruled_out)
        if people and finite:
            decision = self._matcher.decide(prepared, seen, fpir, threshold)
        else:
            reason = NoMatch.NOT_FINITE if people else NoMatch.GALLERY_EMPTY
            decision = _no_answer(reason, threshold, fpir, people)
        if learn and finite and camera is not None:
            self.learn(seen, camera, decision)
        elif learn and finite and people:
            with self._lock:
                self._matcher.remember(seen, decision)
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

    def look_alikes(self, fpir: float = 0.01) -> list[LookAlike]:
        """Return the pairs of people of whom one would be taken for the other, with distances.

        fpir: false-positive identification rate of the threshold
        """
        with self._lock:
            current = self._current()
            if len(current.index.names) < 2:
                return []
            return self._matcher.look_alikes(current, self.camera_means, fpir)

    def project(self, embeddings: Floats, camera: str | None = None) -> Floats:
        """Return walks [n, p, d] in the form in which `distance.between` compares them with others.

        Args:
            embeddings: Mean embeddings of walks, as the model gave them.
            camera: Name of the camera that saw them; its mean is subtracted.

        Raises:
            GalleryError: the gallery cannot be read.
        """
        with self._lock:
            return self._matcher.project(self.camera_means, embeddings, camera)

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

    def _vectors(self, walk: Array) -> npt.NDArray[np.float16]:
        """Return the templates [k, p, d] of a walk (DataError, GalleryError without a model)."""
        if self.model is None:
            remedy = "open the gallery with model="
            raise GalleryError(f"a template must say which model made it: {remedy}")
        vectors = as_stored(embeddings_of(walk, self.model))
        if vectors is None:
            raise DataError(
                "an embedding is not finite in float16 and nothing was stored: look at the"
                " silhouettes, then at the model"
            )
        return vectors

    def _refuse_known(self, name: str, walk: Floats, camera: str | None) -> None:
        """Raise GalleryError for a walk that is enrolled, or that is taken for somebody else."""
        current = self._current()
        if isinstance(current.index, LargeIndex) and current.index.names:
            prepared = self._matcher.prepare(current, self.camera_means, camera)
            for template in walk:
                for owner, stored in prepared.walks_like(template):
                    refuse_walk_like(owner, stored, walk)
        else:
            refuse_enrolled_walk(self._store.rows, walk)
        decision = self.identify(walk, camera=camera, learn=False)
        refuse_somebody_else(name, decision)

    def __enter__(self) -> Gallery:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _current(self) -> Snapshot:
        """Return the templates, read again after a change of the file or an ended retention."""
        with self._lock:
            if self._link is not None:
                self._link.freshen()
            revision, now = self._store.rows.head().revision, self._store.now()
            if self._matcher.is_stale:
                self._cache = None
            if self._cache is None or not self._cache.is_current(revision, now):
                self._cache = None  # frees the old templates before as many are read again
                snapshot = self._read(partial(self._load, now))
                self._refuse_other_weights(snapshot.model_id)
                self._cache = snapshot
            return self._cache

    def _load(self, now: str) -> Snapshot:
        """Read who is enrolled, with all templates where these are not too many."""
        measure = self._matcher.distance.name
        if measure == "euclidean" or self._store.count() <= large_index.LARGE_FROM:
            return self._store.load()
        try:
            import_faiss()
        except MissingPackage as err:
            logger.warning("%s; searches compare all of them, which takes longer", err)
            return self._store.load()
        if self._large is None:
            self._large = LargeGallery(self._file, self._lock)
        return self._large.load(now)

    def close(self) -> None:
        """Close the gallery; may be called twice."""
        with self._lock:
            if self._large is not None:
                self._large.close()
                self._large = None
        super().close()

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
