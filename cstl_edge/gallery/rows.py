"""One open gallery file: its transactions and its sealed rows.

`Rows` is what the parts of a gallery share: people (`store`), sums of cameras (`camera_means`),
erasure and backups. Not thread-safe: whoever owns it holds a lock.
"""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from cstl_edge.errors import GalleryError, one_line
from cstl_edge.gallery import database, schema
from cstl_edge.gallery.records import Head, from_bytes, to_bytes
from cstl_edge.gallery.sealing import BrokenSeal, Content, PlainSeal, Seal, place

Record = TypeVar("Record")


class Rows:
    """A connection to a gallery file, and the seal of its rows."""

    def __init__(self, path: Path, *, create: bool) -> None:
        """Open the file as `database.connect` does."""
        self.path = path
        self.seal: Seal = PlainSeal()
        self.database = database.connect(path, create=create, lay_out=self._lay_out)
        self.writable = database.is_writable(path)

    def close(self) -> None:
        """Close the file; the last process to do so folds the log into it."""
        with database.explained_errors(self.path):
            self.database.close()

    @contextlib.contextmanager
    def transaction(self, mode: str = "DEFERRED") -> Iterator[sqlite3.Connection]:
        """Read one state of the file (DEFERRED), or write all of a change or none (IMMEDIATE)."""
        with database.explained_errors(self.path), database.transaction(self.database, mode) as db:
            yield db

    @contextlib.contextmanager
    def change(self, *, of_people: bool = True) -> Iterator[Head]:
        """Write all of a change or none; what the block does to the head is stored with it.

        of_people: whether templates in memory must be read again
        """
        with self.transaction("IMMEDIATE"):
            head = self.head()
            yield head
            head.revision += of_people
            self.update("head", 1, to_bytes(head), place("head", 1))

    def head(self) -> Head:
        """Return the counts of the file; raises GalleryError when they are damaged."""
        return self.record(Head, self.one("SELECT body FROM head"), "its head", place("head", 1))

    def one(self, query: str, *values: Any) -> Any:
        """Return the first row of a query, None without one."""
        with database.explained_errors(self.path):
            return self.database.execute(query, values).fetchone()

    def all(self, query: str, *values: Any) -> list[Any]:
        """Return the rows of a query."""
        with database.explained_errors(self.path):
            return self.database.execute(query, values).fetchall()

    def update(self, table: str, row: int, content: bytes, where: bytes) -> None:
        """Replace the content of a row, which is found at `where`."""
        sealed = self.seal.close(content, where)
        with database.explained_errors(self.path):
            self.database.execute(f"UPDATE {table} SET body = ? WHERE id = ?", (sealed, row))

    def record(self, kind: type[Record], row: Any, what: str, where: bytes) -> Record:
        """Read the record of a row.

        Args:
            kind: Class of the record.
            row: Row of a query whose last column is the body; None: it is missing.
            what: Name for messages, such as "the record of 'Ada'".
            where: Place of the row, `sealing.place`.

        Raises:
            GalleryError: The row is missing, or is not what was written.
        """
        if row is None:
            raise self.damaged(what)
        try:
            return from_bytes(kind, self.content(row[-1], where, what))
        except BrokenSeal as err:
            raise self.damaged(what) from err

    def content(self, body: Any, where: bytes, what: str) -> Content:
        """Return the content of a sealed body (GalleryError, with `what` as its name)."""
        try:
            return self.seal.open(body, where)
        except (BrokenSeal, TypeError) as err:  # TypeError: a flipped bit made it no blob
            raise self.damaged(what) from err

    def damaged(self, what: str) -> GalleryError:
        """Return the error for a row that is not what was written."""
        return GalleryError(
            f"gallery '{one_line(self.path)}': {one_line(what)} is damaged on the disk and nobody"
            " is named: restore a backup, or remove that person and enrol again"
        )

    def _lay_out(self, db: sqlite3.Connection) -> None:
        schema.create_tables(db)
        head = self.seal.close(to_bytes(Head(gallery=secrets.token_hex(8))), place("head", 1))
        db.execute("INSERT INTO head VALUES (1, ?)", (head,))
