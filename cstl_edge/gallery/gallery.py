"""The gallery: who is enrolled, and the open-set answer to "who is this?".

    with Gallery.open("people.db", model=encoder) as gallery:
        gallery.enroll("alice", silhouettes, consent="signed 2026-11-01", retention_days=365)
        decision = gallery.identify(visitor, fpir=0.01)

The only store is one SQLite file; several processes may use it at once, and a thread that
identifies sees what another process enrols. Letters: k windows of one walk, s frames, p parts,
d embedding dimensions.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from numpy.typing import NDArray

from cstl_edge.errors import ConfigError, DataError, GalleryError, one_line
from cstl_edge.gallery.match import (
    Decision,
    ImpostorTable,
    Index,
    Threshold,
    choose_threshold,
    decide,
)
from cstl_edge.gallery.people import Enrolment, Person, stamp, utc_now
from cstl_edge.gallery.store import Snapshot, Store
from cstl_edge.gallery.templates import EncoderLike, Maker, as_stored, embeddings_of, refuse_other

__all__ = ["Decision", "EncoderLike", "Enrolment", "Gallery", "Person"]


class Gallery:
    """People and their templates in one file; every method may be called from any thread."""

    def __init__(self, store: Store, model: EncoderLike | None = None) -> None:
        """Use `Gallery.open`; raises GalleryError when `store` is of another model."""
        self.model = model
        self._store = store
        self._lock = threading.RLock()
        self._read: tuple[Snapshot, Index] | None = None
        self._table = None
        if model is not None:
            self._table = ImpostorTable(model.info.impostors) if model.info.impostors else None
            self._refuse_other_weights(store.maker())

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        model: EncoderLike | None = None,
        *,
        create: bool = True,
        clock: Callable[[], datetime] = utc_now,
    ) -> Gallery:
        """Open the gallery at `path`, made when it is not there and `create` is true.

        model: needed to enrol, and to identify silhouettes; not to list, show and remove.
        Raises GalleryError for a file that is none, is damaged or is of another model.
        """
        store = Store(Path(path), create=create, clock=clock)
        try:
            return cls(store, model)
        except BaseException:
            store.close()
            raise

    def enroll(
        self,
        name: str,
        what: NDArray[Any],
        *,
        consent: str,
        retention_days: float | None = None,
    ) -> int:
        """Store templates of `what` under `name` and return how many; durable when it returns.

        what: embeddings [k, p, d] or [p, d], or silhouettes uint8 [s, h, w] of one walk.
        consent: what the person agreed to, when and how; stored with the enrolment.
        A name in use adds to that person. Raises ConfigError for a name, consent note or retention
        that cannot be, DataError for unusable input, GalleryError for another model or a full disk.
        """
        if self.model is None:
            raise GalleryError(
                "a template must say which model made it: open the gallery with model="
            )
        vectors = as_stored(embeddings_of(what, self.model))
        if vectors is None:
            raise DataError(
                "an embedding is not finite in float16 and nothing was stored: look at the"
                " silhouettes, then at the model"
            )
        with self._lock:
            self._read = None
            self._store.add(
                name,
                vectors,
                self.model.info.weights_sha256,
                consent=consent,
                retention_days=retention_days,
            )
        return len(vectors)

    def identify(
        self, what: NDArray[Any], fpir: float = 0.01, threshold: float | None = None
    ) -> Decision:
        """Answer who `what` is, or that nobody enrolled is near enough.

        what: embeddings [p, d], or [k, p, d] of windows of one walk, or silhouettes [s, h, w].
        fpir: how often a stranger may be given a name, 0..1 exclusive.
        threshold: a distance to use in place of the one for `fpir`.
        """
        if not 0 < fpir < 1:
            raise ConfigError(f"fpir {fpir}: expected a rate between 0 and 1, such as 0.01")
        if threshold is not None and not 0 < threshold < math.inf:
            raise ConfigError(f"threshold {threshold}: expected a distance above 0")
        queries = embeddings_of(what, self.model)
        maker, index = self._current()
        given = None if threshold is None else Threshold(threshold, "given")
        if maker is None or not index.names:
            return _no_answer("gallery is empty", given, fpir, 0)
        refuse_other(Maker(maker.weights_sha256, *queries.shape[1:]), maker, self._store.path)
        if as_stored(queries) is None:
            return _no_answer("embedding is not finite", given, fpir, len(index.names))
        chosen = given or choose_threshold(index, self._table, fpir)
        return decide(index, queries, chosen, fpir)

    def people(self) -> tuple[Person, ...]:
        """Return everybody in order of name, expired people included."""
        with self._lock:
            return self._store.people()

    def show(self, name: str) -> Person:
        """Return one person, the name taken in any case; raises GalleryError when there is none."""
        with self._lock:
            found = self._store.people(name)
            if not found:
                raise GalleryError(
                    f"nobody is enrolled as '{one_line(name)}': gallery list shows who is"
                )
            return found[0]

    def remove(self, name: str) -> int:
        """Erase one person, without residue in the files; returns how many templates went."""
        with self._lock:
            person = self.show(name)
            self._read = None
            self._store.remove(name)
            return person.templates

    def purge(self) -> tuple[str, ...]:
        """Erase people whose retention has ended, and return their names.

        An expired person never matches, purge or not. Erasing takes two purges at least 24 hours
        apart that both find the retention over, so that a clock that jumped ahead erases nobody.
        """
        with self._lock:
            self._read = None
            return self._store.purge()

    @property
    def templates(self) -> int:
        """Number of templates, those of expired people included."""
        with self._lock:
            return self._store.count()

    def close(self) -> None:
        """Close the file; may be called twice."""
        with self._lock:
            self._read = None
            self._store.close()

    def __enter__(self) -> Gallery:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _current(self) -> tuple[Maker | None, Index]:
        """Return the templates, read again when anybody changed them or somebody's time is up."""
        with self._lock:
            version, now = self._store.version(), stamp(self._store.clock())
            if self._read is None or not self._read[0].holds(version, now):
                self._read = None  # given back before as much is taken again
                held = self._store.load()
                self._refuse_other_weights(held.maker)
                self._read = held, Index(held.names, held.starts, held.vectors)
            return self._read[0].maker, self._read[1]

    def _refuse_other_weights(self, maker: Maker | None) -> None:
        if self.model is not None and maker is not None:
            ours = maker._replace(weights_sha256=self.model.info.weights_sha256)
            refuse_other(ours, maker, self._store.path)


def _no_answer(reason: str, threshold: Threshold | None, fpir: float, people: int) -> Decision:
    return Decision(
        name=None,
        distance=None,
        threshold=threshold.value if threshold else None,
        runner_up=None,
        margin=None,
        threshold_source=threshold.source if threshold else "none",
        fpir=fpir,
        people=people,
        reason=reason,
    )
