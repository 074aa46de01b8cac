"""Sums over the walkers of a camera, by which matching removes what all of them share.

Kept per camera and model beside the people, sealed like them: a mean [p, d] of the embeddings of
the camera's own walkers, and the scatter [p, d, d] of windows about the mean of their own track,
from which whitening is adapted. No single walk can be read from either. Letters: p parts, d
embedding dimensions.

    means = gallery.camera_means
    mean = means.load("door", model.info.weights_sha256)      # None: nobody was seen there yet
    means.update("door", sha256, lambda mean: (mean or CameraMean.empty(...)).with_walk(walk))
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cstl_edge.arrays import Doubles, Floats
from cstl_edge.errors import ConfigError, GalleryError, one_line
from cstl_edge.gallery.people import utc_timestamp
from cstl_edge.gallery.sealed_rows import SealedRows
from cstl_edge.gallery.sealing import BrokenSeal, Content, Seal, place
from cstl_edge.gallery.store import GalleryStore

MAX_CAMERA = 200  # characters of a camera's name


@dataclass(frozen=True, kw_only=True)
class CameraMean:
    """Running sum of the walks that a camera saw under one model."""

    camera: str
    weights_sha256: str  # of the model
    people: int  # different walkers, as far as tracks tell
    walks: int
    weight: float  # of the sum: the walks, less where older ones are faded out
    total: Doubles  # [p, d]: weighted sum of the walks' mean embeddings
    updated_utc: str = ""  # set by `save`

    @classmethod
    def empty(cls, camera: str, weights_sha256: str, parts: int, dimensions: int) -> CameraMean:
        """Return the sum of no walks.

        Args:
            camera: Name of the camera.
            weights_sha256: Hash of the weights of the model.
            parts: p.
            dimensions: d.
        """
        return cls(
            camera=camera,
            weights_sha256=weights_sha256,
            people=0,
            walks=0,
            weight=0.0,
            total=np.zeros((parts, dimensions)),
        )

    @property
    def mean(self) -> Doubles:
        """The mean embedding [p, d]; zeros when nobody was seen."""
        return self.total / max(self.weight, 1e-12)

    def with_walk(self, embedding: Floats, *, new_person: bool = True, fade: float = 1.0) -> Any:
        """Return the sum with one more walk.

        Args:
            embedding: [p, d], the mean of the walk's windows.
            new_person: Whether the walker counts as one more person.
            fade: Factor on all walks so far, below 1 for a mean that follows slow changes.
        """
        return replace(
            self,
            people=self.people + new_person,
            walks=self.walks + 1,
            weight=self.weight * fade + 1,
            total=self.total * fade + np.asarray(embedding, np.float64),
        )


@dataclass(frozen=True, kw_only=True)
class CameraScatter:
    """Running sum of outer products of windows about the mean of their own track."""

    camera: str
    weights_sha256: str
    degrees: float  # of freedom: windows less tracks
    total: Doubles  # [p, d, d]


class CameraMeans:
    """The sums of all cameras of one gallery; every method may be called from any thread."""

    def __init__(self, store: GalleryStore, lock: AbstractContextManager[Any]) -> None:
        """Use `Gallery.camera_means`."""
        self._store, self._lock = store, lock

    @property
    def _rows(self) -> SealedRows:
        return self._store.rows

    def load(self, camera: str, weights_sha256: str) -> CameraMean | None:
        """Return the sum of a camera under a model, None when there is none (GalleryError)."""
        with self._lock, self._rows.transaction():
            row = self._row(camera, weights_sha256)
            return None if row is None else self._mean(row)

    def load_scatter(self, camera: str, weights_sha256: str) -> CameraScatter | None:
        """Return the scatter of a camera under a model, None when there is none (GalleryError)."""
        with self._lock, self._rows.transaction():
            row = self._row(camera, weights_sha256)
            body = row and self._rows.one("SELECT body FROM camera_scatters WHERE id = ?", row[0])
            if not body:
                return None
            fields, total = self._unpack(body[0], "camera_scatters", row[0], 3)
            return CameraScatter(**fields, total=total)

    def save(self, mean: CameraMean) -> None:
        """Store a sum in place of the one before (GalleryError, ConfigError for its name)."""
        self.update(mean.camera, mean.weights_sha256, lambda _: mean)

    def update(
        self,
        camera: str,
        weights_sha256: str,
        change: Callable[[CameraMean | None], CameraMean],
    ) -> CameraMean:
        """Replace a sum by what `change` makes of it; other processes wait meanwhile.

        Args:
            camera: Name of the camera.
            weights_sha256: Hash of the weights of the model.
            change: Given the present sum or None, returns the one to store.
        """
        digest = self._digest(camera, weights_sha256)
        with self._lock, self._rows.change(of_people=False) as head:
            row = self._row(camera, weights_sha256)
            mean = change(None if row is None else self._mean(row))
            mean = replace(mean, updated_utc=utc_timestamp(self._store.clock()))
            if row is None:
                head.cameras += 1
                (number,) = self._rows.one("SELECT coalesce(max(id), 0) + 1 FROM camera_means")
                self._rows.database.execute(
                    "INSERT INTO camera_means VALUES (?, ?, ?)", (number, digest, b"")
                )
            else:
                number = row[0]
            fields = {
                "camera": mean.camera,
                "weights_sha256": mean.weights_sha256,
                "people": mean.people,
                "walks": mean.walks,
                "weight": mean.weight,
                "updated_utc": mean.updated_utc,
            }
            where = place("camera_means", number)
            self._rows.update("camera_means", number, pack(fields, mean.total), where)
        return mean

    def save_scatter(self, scatter: CameraScatter) -> None:
        """Store the scatter of a camera, which must have a mean (ConfigError)."""
        fields = {
            "camera": scatter.camera,
            "weights_sha256": scatter.weights_sha256,
            "degrees": scatter.degrees,
        }
        with self._lock, self._rows.change(of_people=False):
            row = self._row(scatter.camera, scatter.weights_sha256)
            if row is None:
                raise ConfigError(f"camera '{one_line(scatter.camera)}' has no mean to go with it")
            self._rows.database.execute(
                "INSERT INTO camera_scatters VALUES (?, ?) ON CONFLICT (id) DO NOTHING",
                (row[0], b""),
            )
            where = place("camera_scatters", row[0])
            self._rows.update("camera_scatters", row[0], pack(fields, scatter.total), where)

    def all(self) -> tuple[CameraMean, ...]:
        """Return the sums of all cameras by name (GalleryError: one is damaged or missing)."""
        with self._lock, self._rows.transaction():
            head = self._rows.head()
            rows = self._rows.all("SELECT id, camera_digest, body FROM camera_means")
            if len(rows) != head.cameras:
                raise self._rows.damaged(f"the list of cameras ({len(rows)} of {head.cameras})")
            means = [self._mean(row) for row in rows]
        return tuple(sorted(means, key=lambda mean: (mean.camera, mean.weights_sha256)))

    def forget(self, camera: str) -> int:
        """Remove the sums of a camera under every model; returns how many there were."""
        with self._lock, self._rows.change(of_people=False) as head:
            rows = self._rows.all("SELECT id, camera_digest, body FROM camera_means")
            gone = [(row[0],) for row in rows if self._mean(row).camera == camera]
            self._rows.database.executemany("DELETE FROM camera_means WHERE id = ?", gone)
            head.cameras -= len(gone)
        return len(gone)

    def forget_one(self, camera: str, weights_sha256: str) -> None:
        """Remove the sums of a camera under one model, if there are any."""
        with self._lock, self._rows.change(of_people=False) as head:
            row = self._row(camera, weights_sha256)
            if row is not None:
                self._rows.database.execute("DELETE FROM camera_means WHERE id = ?", (row[0],))
                head.cameras -= 1

    def is_damaged(self, row: Any) -> bool:
        """Return whether a row (id, digest, body) or its scatter is not what was written."""
        try:
            self._mean(row)
            scatter = self._rows.one("SELECT body FROM camera_scatters WHERE id = ?", row[0])
            if scatter:
                self._unpack(scatter[0], "camera_scatters", row[0], 3)
        except GalleryError:
            return True
        return False

    def _row(self, camera: str, weights_sha256: str) -> Any:
        query = "SELECT id, camera_digest, body FROM camera_means WHERE camera_digest = ?"
        return self._rows.one(query, self._digest(camera, weights_sha256))

    def _digest(self, camera: str, weights_sha256: str) -> bytes:
        if not 0 < len(camera) <= MAX_CAMERA:
            raise ConfigError(
                f"camera '{one_line(camera, 40)}': expected a name of 1 to {MAX_CAMERA} characters"
            )
        return camera_digest(self._rows.seal, camera, weights_sha256)

    def _mean(self, row: Any) -> CameraMean:
        fields, total = self._unpack(row[2], "camera_means", row[0], 2)
        mean = CameraMean(**fields, total=total)
        if self._digest(mean.camera, mean.weights_sha256) != row[1]:
            raise self._rows.damaged(f"the index of camera '{mean.camera}'")
        return mean

    def _unpack(self, body: Any, table: str, row: int, axes: int) -> tuple[dict[str, Any], Doubles]:
        what = f"a sum of a camera (number {row})"
        content = self._rows.content(body, place(table, row), what)
        try:
            fields, total = unpack(content)
        except BrokenSeal as err:
            raise self._rows.damaged(what) from err
        if total.ndim != axes:
            raise self._rows.damaged(what)
        return fields, total


def camera_digest(seal: Seal, camera: str, weights_sha256: str) -> bytes:
    """Return the digest by which the sums of a camera under a model are found."""
    return seal.digest(f"{weights_sha256}|{camera}")


def pack(fields: dict[str, Any], total: Doubles) -> bytes:
    """Return the content of a row: a line of JSON, then the numbers as float64."""
    head = json.dumps({**fields, "shape": total.shape}, ensure_ascii=False).encode()
    return head + b"\n" + np.ascontiguousarray(total, "<f8").tobytes()


def unpack(content: Content) -> tuple[dict[str, Any], Doubles]:
    """Return what `pack` was given; raises BrokenSeal for anything else."""
    try:
        head, _, numbers = bytes(content).partition(b"\n")
        fields = json.loads(head)
        return fields, np.frombuffer(numbers, "<f8").reshape(fields.pop("shape"))
    except (ValueError, TypeError, KeyError) as err:
        raise BrokenSeal from err
