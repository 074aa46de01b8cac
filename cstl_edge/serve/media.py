"""Files of snapshots, strips and clips, each with a row in the store.

A file is written before its row and deleted after it; what lies in the folder without a row is
deleted at the next sweep, so that nothing of an erased visit is left by a crash.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import numpy as np

from cstl_edge.arrays import Silhouettes
from cstl_edge.errors import StorageError
from cstl_edge.gallery.pictures import as_png
from cstl_edge.live.events import utc_text
from cstl_edge.output import PRIVATE, storing
from cstl_edge.serve.store import Store, columns, record_of
from cstl_edge.serve.store_rows import MediaKind, MediaRow

SUFFIXES = {"image/jpeg": ".jpg", "image/png": ".png", "video/mp4": ".mp4", "video/webm": ".webm"}


class Media:
    """The pictures and clips of a store."""

    def __init__(self, store: Store) -> None:
        """Use the store's folder of media."""
        self._store, self.folder = store, store.media_folder

    def add(
        self, kind: MediaKind, visit: str, content: bytes, mime: str, now: datetime
    ) -> MediaRow:
        """Write a picture of a visit (StorageError).

        Args:
            kind: snapshot or strip.
            visit: Id of the visit, which is stored.
            content: Of the file.
            mime: Its type.
            now: Present time.
        """
        path = self._path(mime)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with storing(path), os.fdopen(os.open(path, flags, PRIVATE), "wb") as file:
            file.write(content)
        return self._insert(path, kind, visit, mime, len(content), now)

    def take_over(
        self, kind: MediaKind, visit: str, file: Path, mime: str, now: datetime
    ) -> MediaRow:
        """Move a file that a worker made into the folder (StorageError).

        Args:
            kind: clip.
            visit: Id of the visit, which is stored.
            file: In the spool folder, on the same disk.
            mime: Its type.
            now: Present time.
        """
        path = self._path(mime)
        with storing(path):
            file.chmod(PRIVATE)
            size = file.stat().st_size
            file.replace(path)
        return self._insert(path, kind, visit, mime, size, now)

    def rows(self, where: str, *values: object) -> list[MediaRow]:
        """Return the rows of a condition, the oldest first."""
        query = f"SELECT {columns(MediaRow)} FROM media WHERE {where} ORDER BY created_utc, id"
        return [record_of(MediaRow, row) for row in self._store.all(query, *values)]

    def remove(self, rows: Iterable[MediaRow]) -> int:
        """Delete rows and then their files; return the bytes that were freed.

        A file that cannot be deleted now is left to `sweep`.
        """
        gone = list(rows)
        with self._store.transaction() as db:
            for row in gone:
                db.execute("DELETE FROM media WHERE id = ?", (row.id,))
                db.execute(f"UPDATE visits SET {row.kind} = NULL WHERE {row.kind} = ?", (row.id,))
        for row in gone:
            with contextlib.suppress(OSError):
                (self.folder / row.path).unlink(missing_ok=True)
        return sum(row.bytes for row in gone)

    def sweep(self) -> list[str]:
        """Delete files without a row; return the names of those that cannot be."""
        known = {path for (path,) in self._store.all("SELECT path FROM media")}
        left = []
        with storing(self.folder):
            names = [entry.name for entry in os.scandir(self.folder)]
        for name in names:
            if name in known:
                continue
            try:
                (self.folder / name).unlink()
            except OSError:
                left.append(name)
        return left

    def bytes(self) -> int:
        """Return the bytes of all files."""
        return int(self._store.one("SELECT coalesce(sum(bytes), 0) FROM media")[0])

    def _path(self, mime: str) -> Path:
        return self.folder / f"{secrets.token_hex(12)}{SUFFIXES.get(mime, '.bin')}"

    def _insert(
        self, path: Path, kind: MediaKind, visit: str, mime: str, size: int, now: datetime
    ) -> MediaRow:
        row = MediaRow(
            id=path.stem,
            kind=kind,
            visit=visit,
            path=path.name,
            mime=mime,
            bytes=size,
            created_utc=utc_text(now),
        )
        values = (row.id, row.kind, row.visit, row.path, row.mime, row.bytes, row.created_utc)
        try:
            with self._store.transaction() as db:
                db.execute("INSERT INTO media VALUES (?, ?, ?, ?, ?, ?, ?)", values)
                db.execute(f"UPDATE visits SET {kind} = ? WHERE id = ?", (row.id, visit))
        except StorageError:
            path.unlink(missing_ok=True)
            raise
        return row


def strip_png(silhouettes: list[Silhouettes]) -> bytes:
    """Return silhouettes [h, w] side by side as a PNG file."""
    return as_png(np.concatenate(silhouettes, axis=1))  # [h, n*w]
