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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cstl_edge.errors import DamagedGallery, GalleryError, one_line
from cstl_edge.gallery import migrate, schema

BUSY_TIMEOUT_S = 30.0
LOG_PAGES = 100  # 400 KB
LARGE_BYTES = 2**25  # files above are checked in the background

_REMEDIES = {  # part of SQLite's message -> what to do (Python 3.10 gives no error codes)
    "locked": f"another process has been writing for {BUSY_TIMEOUT_S:.0f} s: try again",
    "full": "no space is left and nothing was changed: free some and try again",
    "disk i/o": "storage failed and nothing was changed: look at the free space and at the disk",
    "readonly": "it may only be read: look at the permissions of the file and its folder",
    "unable to open": "look at the path and at the permissions of the file and its folder",
    "not a database": "this is no gallery: give another path",
    "malformed": "the file is damaged: restore a backup, or remove it and enroll again",
    "closed": "open the gallery again",
}

_DAMAGE = ("malformed", "not a database")
LayOut = Callable[[sqlite3.Connection], None]

logger = logging.getLogger(__name__)


def connect(path: Path, *, create: bool, lay_out: LayOut) -> sqlite3.Connection:
    """Open the gallery file at `path`, brought to the schema of this version.

    A file that may only be read is opened for reading; one of an earlier version is then served
    from a copy in memory. Any other file, a damaged one and one of a newer version are left as
    they are.

    Args:
        path: Path of the file.
        create: Whether a missing file is made (mode 0600, a new folder 0700).
        lay_out: Creates the tables of an empty file, inside a transaction.

    Raises:
        GalleryError: The file is not a gallery of this version or an earlier one, or is damaged.
    """
    with explained_errors(path), contextlib.ExitStack() as opened:
        _prepare_file(path, create)
        writable = is_writable(path)
        database = opened.enter_context(contextlib.closing(_open(path, writable)))
        version = _check(database, path)
        if writable:
            _configure(database, path)
            _bring_up_to_date(database, path, lay_out)
        elif version is None:
            raise GalleryError(f"gallery '{one_line(path)}' is empty: nobody is enrolled")
        elif version < schema.VERSION:
            database = opened.enter_context(contextlib.closing(_migrated_copy(database)))
        opened.pop_all()
    return database


def is_writable(path: Path) -> bool:
    """Return whether this process may write the file."""
    return os.access(path, os.W_OK)


def is_large(path: Path) -> bool:
    """Return whether checking a file's pages would delay its opening."""
    return path.stat().st_size > LARGE_BYTES


def open_read_only(path: Path) -> sqlite3.Connection:
    """Open any SQLite file to read it (sqlite3.Error)."""
    return _open(path, writable=False)


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
        kind = DamagedGallery if any(part in fault.lower() for part in _DAMAGE) else GalleryError
        raise kind(f"gallery '{one_line(path)}': {one_line(fault)}; {remedy}") from err


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


def truncate_log(database: sqlite3.Connection, path: Path) -> bool:
    """Fold the log into the file and empty it; False when another process still reads it."""
    with explained_errors(path):
        return not _pragma(database, "wal_checkpoint(TRUNCATE)")


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
            f"gallery '{one_line(path)}' does not exist: enroll somebody, or give another path"
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


def _open(path: Path, writable: bool) -> sqlite3.Connection:
    return sqlite3.connect(
        path.absolute().as_uri() + ("?mode=rw" if writable else _read_only(path)),
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,  # no implicit transactions: `transaction` begins them
        check_same_thread=False,  # the owner holds a lock
    )


def _check(database: sqlite3.Connection, path: Path) -> int | None:
    """Return the version of a file, None for an empty one; raises for what is no whole gallery."""
    if _is_new(database):
        return None
    if _pragma(database, "application_id") != schema.APPLICATION_ID:
        raise GalleryError(
            f"'{one_line(path)}' is a SQLite file of another program, not a gallery:"
            " give another path"
        )
    version = int(_pragma(database, "user_version"))
    if not 1 <= version <= schema.VERSION:
        raise GalleryError(
            f"gallery '{one_line(path)}' has schema {version}, this version reads 1 to"
            f" {schema.VERSION}: update cstl_edge"
        )
    if version == schema.VERSION and not schema.has_its_tables(database):
        raise sqlite3.DatabaseError("malformed (its tables are not those of a gallery)")
    if version < schema.VERSION or not is_large(path):
        check_integrity(database)
    return version


def check_integrity(database: sqlite3.Connection) -> None:
    """Compare all pages, indexes and free space of a file with each other; raises sqlite3.Error."""
    verdict = _pragma(database, "integrity_check(1)")
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
    # the log is folded into the file while a full disk's reserve has room for what it adds
    database.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")


def _bring_up_to_date(database: sqlite3.Connection, path: Path, lay_out: LayOut) -> None:
    """Lay out an empty file or migrate one of an earlier version: all of it or nothing."""
    if _is_new(database):
        with transaction(database, "IMMEDIATE"):
            if _is_new(database):  # checked again: another process may have been first
                lay_out(database)
    elif _pragma(database, "user_version") < schema.VERSION:
        migrate.migrate(database)
        truncate_log(database, path)
        logger.warning(
            "gallery '%s': brought to schema %d; its templates stay, thresholds are now those of"
            " the model in use; earlier versions of cstl-edge cannot open it",
            one_line(path),
            schema.VERSION,
        )


def _migrated_copy(database: sqlite3.Connection) -> sqlite3.Connection:
    """Return a copy in memory, of the present version and not to be written."""
    copy = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    database.backup(copy)
    migrate.migrate(copy)
    copy.execute("PRAGMA query_only = ON")
    return copy


def _is_new(database: sqlite3.Connection) -> bool:
    tables = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    return bool(_pragma(database, "application_id") == 0 and tables == 0)


def _pragma(database: sqlite3.Connection, text: str) -> Any:
    return database.execute(f"PRAGMA {text}").fetchone()[0]
