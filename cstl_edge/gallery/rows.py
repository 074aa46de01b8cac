"""One open gallery file: its transactions, its log and its reserve."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from cstl_edge.errors import GalleryError, one_line
from cstl_edge.gallery import database, schema
from cstl_edge.gallery.index_cache import forget_cache
from cstl_edge.gallery.integrity import BackgroundCheck
from cstl_edge.gallery.keys import GalleryKey, new_key
from cstl_edge.gallery.reserve import give_up, take
from cstl_edge.gallery.sealed_rows import Result, RowConnection, SealedRows


class Rows(SealedRows):
    """A connection to a gallery file, and the seal of its rows."""

    path: Path

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
        super().__init__(path, key)
        self._new_secret = self._secret_of_new() if encrypt and not path.exists() else None
        self._encrypt = encrypt
        self._reserve = reserve
        self._database = self.with_room(
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
    def database(self) -> sqlite3.Connection:
        """The connection, for statements inside a transaction."""
        return self._database

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
    def transaction(self, mode: str = "DEFERRED") -> Iterator[RowConnection]:
        """Read one state of the file (DEFERRED), or write all of a change or none (IMMEDIATE)."""
        with database.explained_errors(self.path), database.transaction(self.database, mode) as db:
            self.open_seal()
            yield db

    def explained(self) -> AbstractContextManager[None]:
        """Turn errors of SQLite into GalleryError."""
        return database.explained_errors(self.path)

    def forget_copies(self) -> None:
        """Delete the cache of short vectors, in which somebody was who is erased."""
        forget_cache(self.path)

    def rewrite(self) -> None:
        """Write the whole file anew: pages keep stale copies of rows that moved within them."""
        with self.explained():
            self.database.execute("PRAGMA synchronous = NORMAL")  # the log is synced when folded
            try:
                self.database.execute("VACUUM")
            finally:
                self.database.execute("PRAGMA synchronous = FULL")

    def empty_log(self) -> bool:
        """Fold the log into the file and empty it; returns False while others read it."""
        return database.truncate_log(self.database, self.path)

    def check_pages(self) -> None:
        """Compare all pages of the file with each other; raises GalleryError."""
        with self.explained():
            database.check_integrity(self.database)

    def open_seal(self) -> None:
        """Make the seal anew when the file's key is another than before (GalleryError)."""
        if self.check is not None:
            self.check.raise_fault()
        super().open_seal()

    def _lay_out(self, db: sqlite3.Connection) -> None:
        schema.create_tables(db)
        if self._encrypt:
            self._database = db
            self.set_key(new_key(), self._new_secret or self._secret_of_new())
        db.execute("INSERT INTO head VALUES (1, ?)", (self.new_head(),))
