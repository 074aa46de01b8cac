"""One open gallery file: its transactions and its sealed rows.

`Rows` is what the parts of a gallery share: people (`store`), sums of cameras (`camera_means`),
erasure and backups. Not thread-safe: whoever owns it holds a lock.
"""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from cstl_edge.errors import GalleryError, one_line
from cstl_edge.gallery import database, schema
from cstl_edge.gallery.cipher import CipherSeal
from cstl_edge.gallery.integrity import BackgroundCheck
from cstl_edge.gallery.keys import GalleryKey, WrappedKey, new_key, unwrap, wrap
from cstl_edge.gallery.records import GalleryHead, from_bytes, to_bytes
from cstl_edge.gallery.reserve import give_up, take
from cstl_edge.gallery.sealing import BrokenSeal, Content, PlainSeal, Seal, place

Record = TypeVar("Record")
Result = TypeVar("Result")
_KEY_PLACE = place("keys", 1)


class Rows:
    """A connection to a gallery file, and the seal of its rows."""

    def __init__(
        self,
        path: Path,
        *,
        create: bool,
        key: GalleryKey | None = None,
        encrypt: bool = False,
        reserve: bool = True,
    ) -> None:
        """Open a file as `database.connect` does.

        Args:
            path: Path of the file.
            create: Whether a missing file is made.
            key: Where the secret of an encrypted gallery comes from.
            encrypt: Whether a file that is made is encrypted, and one that is there must be.
            reserve: Whether room is kept to erase people on a full disk.

        Raises:
            GalleryError: Also when an encrypted gallery does not open with this key.
        """
        self.path, self.key = path, key or GalleryKey()
        self._new_secret = self._secret_of_new() if encrypt and not path.exists() else None
        self.seal: Seal = PlainSeal()
        self._wrapped: bytes | None = None  # row of `keys` that `seal` was made from
        self._encrypt = encrypt
        self._reserve = reserve
        self.database = self.with_room(
            lambda: database.connect(path, create=create, lay_out=self._lay_out)
        )
        self.writable = database.is_writable(path)
        self.check = BackgroundCheck(path) if database.is_large(path) else None
        self.take_reserve()
        try:
            with self.transaction():
                pass  # opens the seal
            if encrypt and not self.encrypted:
                raise GalleryError(
                    f"gallery '{one_line(path)}' is not encrypted: encrypt it first"
                    " (gallery rekey --encrypt)"
                )
        except BaseException:
            self.close()
            raise

    @property
    def encrypted(self) -> bool:
        """Whether the rows are encrypted."""
        return self._wrapped is not None

    def close(self) -> None:
        """Close the file; the last process to do so folds the log into it."""
        if self.check is not None:
            self.check.stop()
        with database.explained_errors(self.path):
            self.database.close()
        self.take_reserve()

    def with_room(self, operation: Callable[[], Result]) -> Result:
        """Run what must work on a full disk: where it fails, again without the reserve.

        Raises GalleryError where it fails all the same.
        """
        try:
            return operation()
        except GalleryError as err:
            refused = isinstance(err.__cause__, (sqlite3.OperationalError, OSError))
            if not refused or not give_up(self.path):
                raise
        return operation()

    def take_reserve(self) -> None:
        """Keep room on the disk for the next erasure, if there is any."""
        if self._reserve and self.writable:
            take(self.path)

    @contextlib.contextmanager
    def transaction(self, mode: str = "DEFERRED") -> Iterator[sqlite3.Connection]:
        """Read one state of the file (DEFERRED), or write all of a change or none (IMMEDIATE)."""
        with database.explained_errors(self.path), database.transaction(self.database, mode) as db:
            self._open_seal()
            yield db

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
        self._open_seal()
        return self.record(
            GalleryHead, self.one("SELECT body FROM head"), "its head", place("head", 1)
        )

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

    def damaged(self, what: str) -> database.DamagedGallery:
        """Return the error for a row that is not what was written."""
        return database.DamagedGallery(
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

    def _open_seal(self) -> None:
        """Make the seal anew when the file's key is another than before (GalleryError)."""
        if self.check is not None:
            self.check.raise_fault()
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

    def _lay_out(self, db: sqlite3.Connection) -> None:
        schema.create_tables(db)
        if self._encrypt:
            self.database = db
            self.set_key(new_key(), self._new_secret or self._secret_of_new())
        head = self.seal.close(
            to_bytes(GalleryHead(gallery=secrets.token_hex(8))), place("head", 1)
        )
        db.execute("INSERT INTO head VALUES (1, ?)", (head,))

    def _secret_of_new(self) -> bytes:
        return self.key.new_secret(f"passphrase for the new gallery '{one_line(self.path)}'")
