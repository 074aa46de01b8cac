"""Sealed rows in a store of tables, whatever keeps it: a file (`rows`) or a server (`postgres`).

What the parts of a gallery share: people (`store`), sums of cameras (`camera_means`), erasure and
retention. Not thread-safe: whoever owns it holds a lock.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from cstl_edge.errors import DamagedGallery, GalleryError, one_line
from cstl_edge.gallery.cipher import CipherSeal
from cstl_edge.gallery.keys import GalleryKey, WrappedKey, unwrap, wrap
from cstl_edge.gallery.records import GalleryHead, from_bytes, to_bytes
from cstl_edge.gallery.sealing import BrokenSeal, Content, PlainSeal, Seal, place

Record = TypeVar("Record")
Result = TypeVar("Result")
_KEY_PLACE = place("keys", 1)


class RowConnection(Protocol):
    """A connection to SQLite, or one that answers like it."""

    def execute(self, query: str, values: Any = (), /) -> Any:
        """Run a statement; returns a cursor."""

    def executemany(self, query: str, values: Iterable[Any], /) -> Any:
        """Run a statement for each of some rows."""


class SealedRows:
    """The rows of one open gallery, and their seal."""

    writable = True

    def __init__(self, path: Path | str, key: GalleryKey | None = None) -> None:
        """Hold the name of a store, and where the secret of an encrypted one comes from."""
        self.path, self.key = path, key or GalleryKey()
        self.seal: Seal = PlainSeal()
        self._wrapped: bytes | None = None  # row of `keys` that `seal` was made from

    @property
    def database(self) -> RowConnection:
        """The connection, for statements inside a transaction."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the store."""
        raise NotImplementedError

    def transaction(self, mode: str = "DEFERRED") -> AbstractContextManager[RowConnection]:
        """Read one state of the store (DEFERRED), or write all of a change or none (IMMEDIATE)."""
        raise NotImplementedError

    def explained(self) -> AbstractContextManager[None]:
        """Turn errors of the store into GalleryError."""
        raise NotImplementedError

    def forget_copies(self) -> None:
        """Delete what else was made of the rows: short vectors."""

    def rewrite(self) -> None:
        """Write everything anew, so that nothing is left of rows that were deleted."""
        raise NotImplementedError

    def not_rewritten(self, err: GalleryError) -> str:
        """Return what it means that `rewrite` failed."""
        return (
            "there is no room to write the file anew, so parts of what was erased may remain in it"
        )

    def empty_log(self) -> bool:
        """Leave nothing of deleted rows in a log; returns False where others still read it."""
        raise NotImplementedError

    def with_room(self, operation: Callable[[], Result]) -> Result:
        """Run what must work on a full disk."""
        return operation()

    def take_reserve(self) -> None:
        """Keep room on the disk for the next erasure, if there is any."""

    def each(self, query: str) -> Iterator[Any]:
        """Yield the rows of a query inside a transaction, some at a time."""
        with self.explained():
            yield from self.database.execute(query)

    def check_pages(self) -> None:
        """Compare what the store itself can compare; raises GalleryError."""

    @property
    def encrypted(self) -> bool:
        """Whether the rows are encrypted."""
        return self._wrapped is not None

    @contextlib.contextmanager
    def change(self, *, of_people: bool = True) -> Iterator[GalleryHead]:
        """Write all of a change or none; what the block does to the head is stored with it.

        of_people: whether templates in memory must be read again
        """
        with self.transaction("IMMEDIATE"):
            head = self.head()
            yield head
            head.revision += of_people
            self.update("head", 1, to_bytes(head), place("head", 1))

    def head(self) -> GalleryHead:
        """Return the counts of the file; raises GalleryError when they are damaged."""
        self.open_seal()
        row = self.one("SELECT body FROM head")
        if row is None:
            raise DamagedGallery(
                f"gallery '{one_line(self.path)}' has no head: a copy into it was interrupted and"
                " goes on when it is started again (gallery migrate), or it is damaged"
            )
        return self.record(GalleryHead, row, "its head", place("head", 1))

    def one(self, query: str, *values: Any) -> Any:
        """Return the first row of a query, None without one."""
        with self.explained():
            return self.database.execute(query, values).fetchone()

    def all(self, query: str, *values: Any) -> list[Any]:
        """Return the rows of a query."""
        with self.explained():
            return list(self.database.execute(query, values).fetchall())

    def update(self, table: str, row: int, content: bytes, where: bytes) -> None:
        """Replace the content of a row, which is found at `where`."""
        sealed = self.seal.close(content, where)
        with self.explained():
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

    def damaged(self, what: str) -> DamagedGallery:
        """Return the error for a row that is not what was written."""
        return DamagedGallery(
            f"gallery '{one_line(self.path)}': {one_line(what)} is damaged on the disk and nobody"
            " is named: restore a backup, or take what is damaged out (gallery verify --repair)"
        )

    def set_key(self, key: bytes | None, secret: bytes) -> None:
        """Seal rows under another key from now on, inside a transaction that seals them anew.

        Args:
            key: Key of the gallery; None: without encryption.
            secret: By which it is wrapped.
        """
        self.database.execute("DELETE FROM keys")
        self.seal, self._wrapped = PlainSeal(), None
        if key is not None:
            body = PlainSeal().close(to_bytes(wrap(key, secret)), _KEY_PLACE)
            self.database.execute("INSERT INTO keys VALUES (1, ?)", (body,))
            self.seal, self._wrapped = CipherSeal(key), body

    def open_seal(self) -> None:
        """Make the seal anew when the file's key is another than before (GalleryError)."""
        row = self.one("SELECT body FROM keys")
        body = row[0] if row else None
        if body == self._wrapped:
            return
        if body is None:
            self.seal, self._wrapped = PlainSeal(), None
            return
        try:
            record = from_bytes(WrappedKey, PlainSeal().open(body, _KEY_PLACE))
        except (BrokenSeal, TypeError) as err:
            raise self.damaged("the record of its key") from err
        self.seal, self._wrapped = CipherSeal(unwrap(record, self.key, self.path)), body

    def new_head(self) -> bytes:
        """Return the sealed body of the head of a gallery without people."""
        body = to_bytes(GalleryHead(gallery=secrets.token_hex(8)))
        return self.seal.close(body, place("head", 1))

    def _secret_of_new(self) -> bytes:
        return self.key.new_secret(f"passphrase for the new gallery '{one_line(self.path)}'")
