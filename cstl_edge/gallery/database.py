"""Open a SQLite file as a gallery; refuse every other file with a one-line error.

Write-ahead log, synchronous=FULL, secure_delete and BEGIN IMMEDIATE: an acknowledged change
survives kill -9 and power loss, a change that fails leaves nothing, and once rows are deleted and
the log is truncated no byte of them stays in either file. All errors of SQLite become
GalleryError.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cstl_edge.errors import GalleryError, one_line

APPLICATION_ID = 0x6373746C  # "cstl": distinguishes a gallery from any other SQLite file
SCHEMA_VERSION = 1
BUSY_TIMEOUT_S = 30.0

_SCHEMA = (
    "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT NOT NULL,"
    " name_key TEXT NOT NULL UNIQUE, created_utc TEXT NOT NULL, expires_utc TEXT,"
    " seen_expired_utc TEXT)",
    "CREATE TABLE enrolments (id INTEGER PRIMARY KEY,"
    " person_id INTEGER NOT NULL REFERENCES people ON DELETE CASCADE,"
    " created_utc TEXT NOT NULL, consent TEXT NOT NULL CHECK (length(consent) > 0),"
    " weights_sha256 TEXT NOT NULL, parts INTEGER NOT NULL, dimensions INTEGER NOT NULL)",
    "CREATE TABLE templates (id INTEGER PRIMARY KEY,"
    " enrolment_id INTEGER NOT NULL REFERENCES enrolments ON DELETE CASCADE,"
    " crc32 INTEGER NOT NULL, vector BLOB NOT NULL)",  # float16 [p, d], little endian
    "CREATE INDEX enrolments_of_person ON enrolments (person_id)",
    "CREATE INDEX templates_of_enrolment ON templates (enrolment_id)",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
_REMEDIES = {  # part of SQLite's message -> what to do (Python 3.10 gives no error codes)
    "locked": f"another process has been writing for {BUSY_TIMEOUT_S:.0f} s: try again",
    "full": "no space is left and nothing was changed: free some and try again",
    "disk i/o": "storage failed and nothing was changed: look at the free space and at the disk",
    "readonly": "it may only be read: look at the permissions of the file and its folder",
    "unable to open": "look at the path and at the permissions of the file and its folder",
    "not a database": "this is no gallery: give another path",
    "malformed": "the file is damaged: restore a copy, or remove it and enrol again",
    "closed": "open the gallery again",
}

logger = logging.getLogger(__name__)


def connect(path: Path, *, create: bool) -> sqlite3.Connection:
    """Open the gallery file at `path`; `create` makes it (mode 0600, a new folder 0700).

    A file that may only be read is opened for reading. Raises GalleryError for any other file, a
    damaged one and one of a newer version; none of them is changed.
    """
    with explained_errors(path), contextlib.ExitStack() as opened:
        _prepare_file(path, create)
        writable = os.access(path, os.W_OK)
        database = sqlite3.connect(
            path.absolute().as_uri() + ("?mode=rw" if writable else _read_only(path)),
            uri=True,
            timeout=BUSY_TIMEOUT_S,
            isolation_level=None,  # no implicit transactions: `transaction` begins them
            check_same_thread=False,  # the owner holds a lock
        )
        opened.callback(database.close)
        _check(database, path)
        if writable:
            _configure(database, path)
        opened.pop_all()
    return database


@contextlib.contextmanager
def explained_errors(path: Path) -> Iterator[None]:
    """Turn errors of SQLite and of the file system into GalleryError with a remedy."""
    try:
        yield
    except (sqlite3.Error, OSError, ValueError) as err:
        fault = err.strerror if isinstance(err, OSError) and err.strerror else str(err)
        remedy = next(
            (remedy for part, remedy in _REMEDIES.items() if part in fault.lower()),
            "look at the path, its permissions and the free space",
        )
        raise GalleryError(f"gallery '{one_line(path)}': {one_line(fault)}; {remedy}") from err


@contextlib.contextmanager
def transaction(database: sqlite3.Connection, mode: str) -> Iterator[sqlite3.Connection]:
    """Read one state of the file (mode DEFERRED), or store all of a change or none (IMMEDIATE)."""
    database.execute(f"BEGIN {mode}")  # to write, waits for other writers, up to BUSY_TIMEOUT_S
    try:
        yield database
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:  # SQLite has rolled back by itself when the disk is full
            database.execute("ROLLBACK")
        raise


def truncate_log(database: sqlite3.Connection, path: Path) -> None:
    """Fold the log into the file and empty it, so that erased rows leave no copy there."""
    with explained_errors(path):
        busy = _pragma(database, "wal_checkpoint(TRUNCATE)")
    if busy:
        logger.warning(
            "gallery '%s': another process reads it, so the log still holds what was erased;"
            " the next removal or the last process to close it empties it",
            one_line(path),
        )


def _prepare_file(path: Path, create: bool) -> None:
    if path.exists():
        if not path.is_file():
            raise GalleryError(f"gallery '{one_line(path)}' is not a file: give a file's path")
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            shown = one_line(path)
            logger.warning("gallery '%s' can be reached by other users: chmod 600 it", shown)
        return
    if not create:
        raise GalleryError(
            f"gallery '{one_line(path)}' does not exist: enrol somebody first, or give another path"
        )
    if not path.parent.exists():
        path.parent.parent.mkdir(parents=True, exist_ok=True)
        path.parent.mkdir(mode=0o700, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # SQLite gives -wal and -shm the same


def _read_only(path: Path) -> str:
    """Return SQLite's options for a file that cannot be written, on such a file system too."""
    log = path.with_name(path.name + "-wal")
    if os.access(path.parent, os.W_OK) or (log.exists() and log.stat().st_size):
        return "?mode=ro"
    return "?mode=ro&immutable=1"  # there is no log to read, and nowhere to make one


def _check(database: sqlite3.Connection, path: Path) -> None:
    if _is_new(database):
        return
    if _pragma(database, "application_id") != APPLICATION_ID:
        raise GalleryError(
            f"'{one_line(path)}' is a SQLite file of another program, not a gallery:"
            " give another path"
        )
    if (version := _pragma(database, "user_version")) != SCHEMA_VERSION:
        raise GalleryError(
            f"gallery '{one_line(path)}' has schema {version}, this version reads"
            f" {SCHEMA_VERSION}: update cstl_edge"
        )
    verdict = _pragma(database, "quick_check(1)")
    if verdict != "ok":
        raise sqlite3.DatabaseError(f"malformed ({verdict})")


def _configure(database: sqlite3.Connection, path: Path) -> None:
    database.execute("PRAGMA foreign_keys = ON")
    database.execute("PRAGMA secure_delete = ON")
    database.execute("PRAGMA temp_store = MEMORY")  # nothing of a template in a temporary file
    if _pragma(database, "journal_mode = WAL") != "wal":
        raise GalleryError(
            f"gallery '{one_line(path)}': no write-ahead log can be kept here (a network file"
            " system?): keep it on a local disk"
        )
    database.execute("PRAGMA synchronous = FULL")
    if _is_new(database):
        with transaction(database, "IMMEDIATE"):
            if _is_new(database):  # checked again: another process may have been first
                for statement in _SCHEMA:
                    database.execute(statement)


def _is_new(database: sqlite3.Connection) -> bool:
    tables = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    return bool(_pragma(database, "application_id") == 0 and tables == 0)


def _pragma(database: sqlite3.Connection, text: str) -> Any:
    return database.execute(f"PRAGMA {text}").fetchone()[0]
