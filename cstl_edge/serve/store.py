"""The service's store: events, visits, unknowns, corrections, media and audit in one SQLite file.

Written by the recogniser alone; `reader.Reader` reads beside it. Write-ahead log, secure_delete,
mode 600. Pictures and clips are files in a folder beside it, each with a row. Not thread-safe.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

from cstl_edge.errors import StorageError, one_line
from cstl_edge.live.events import Event, utc_text
from cstl_edge.serve import store_schema
from cstl_edge.serve.store_rows import PersonRow, TrackRow, VisitRow

STORE_NAME = "service.db"
MEDIA_NAME = "media"
BUSY_TIMEOUT_S = 10.0
LOG_PAGES = 250  # 1 MB, after which the log is folded into the file

Record = TypeVar("Record")


@contextlib.contextmanager
def explained_store_errors(path: Path) -> Iterator[None]:
    """Turn errors of SQLite and of the file system into a StorageError about the store."""
    try:
        yield
    except OSError as err:
        raise StorageError.of(path, err) from err
    except sqlite3.Error as err:
        fault = str(err)
        remedy = "look at the free space and the rights of its folder"
        if "locked" in fault:
            remedy = "another process writes it: only one service may use a data folder"
        elif "malformed" in fault or "not a database" in fault:
            remedy = "move the file away, or restore a copy: the gallery is another file"
        raise StorageError(f"store {one_line(path)}: {one_line(fault)}", remedy=remedy) from err


class Store:
    """An open store, to write."""

    def __init__(self, folder: Path) -> None:
        """Open the store of a data folder, or make it (StorageError)."""
        self.folder = folder
        self.path, self.media_folder = folder / STORE_NAME, folder / MEDIA_NAME
        with explained_store_errors(self.path):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.media_folder.mkdir(mode=0o700, exist_ok=True)
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            self.database = sqlite3.connect(
                self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
        try:
            with explained_store_errors(self.path):
                self._prepare()
        except BaseException:
            self.database.close()
            raise

    def _prepare(self) -> None:
        db = self.database
        tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables or db.execute("PRAGMA application_id").fetchone()[0]:
            fault = store_schema.refuse_other(db)
            if fault:
                raise StorageError(
                    f"{one_line(self.path)} {fault}", remedy="name another data folder"
                )
        if not tables:
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # retention gives room back
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("PRAGMA secure_delete = ON")
        db.execute("PRAGMA temp_store = MEMORY")
        if db.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
            raise StorageError(
                f"{one_line(self.path)}: no write-ahead log can be kept here (a network disk?)",
                remedy="let data name a folder on a local disk",
            )
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
        if not tables:
            with self.transaction():
                store_schema.create_tables(db, secrets.token_hex(8))

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Write all of a change or none; inside of another one it is a part of that."""
        with explained_store_errors(self.path):
            if self.database.in_transaction:
                yield self.database
                return
            self.database.execute("BEGIN IMMEDIATE")
            try:
                yield self.database
                self.database.execute("COMMIT")
            except BaseException:
                if self.database.in_transaction:
                    self.database.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the file; may be called twice."""
        with explained_store_errors(self.path):
            self.database.close()

    def one(self, query: str, *values: Any) -> Any:
        """Return the first row of a query, None without one."""
        with explained_store_errors(self.path):
            return self.database.execute(query, values).fetchone()

    def all(self, query: str, *values: Any) -> list[Any]:
        """Return the rows of a query."""
        with explained_store_errors(self.path):
            return self.database.execute(query, values).fetchall()

    def write(self, query: str, *values: Any) -> sqlite3.Cursor:
        """Run a statement that changes rows, in a transaction of its own or the present one."""
        with self.transaction() as db:
            return db.execute(query, values)

    @property
    def installation(self) -> str:
        """Random digits that name this installation for ever."""
        return str(self.one("SELECT installation FROM head")[0])

    def add_event(self, event: Event) -> int:
        """Append an event to the journal; return its number."""
        cursor = self.write(
            "INSERT INTO events (utc, kind, camera, visit, answer, person, body)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            utc_text(event.utc),
            event.event,
            event.camera,
            event.visit,
            event.answer,
            event.person,
            event.to_json(),
        )
        return int(cursor.lastrowid or 0)

    def put_visit(self, visit: VisitRow) -> None:
        """Insert or replace a visit."""
        self._put("visits", asdict(visit))

    def visit(self, visit: str) -> VisitRow | None:
        """Return a visit, None where there is none."""
        return next(iter(self.visits("id = ?", visit)), None)

    def visits(self, where: str, *values: Any) -> list[VisitRow]:
        """Return the visits of a condition, the oldest first."""
        query = f"SELECT {columns(VisitRow)} FROM visits WHERE {where} ORDER BY started_utc, id"
        return [record_of(VisitRow, row) for row in self.all(query, *values)]

    def add_track(self, track: TrackRow) -> None:
        """Add what is kept of a track."""
        self._put("tracks", asdict(track))

    def tracks(self, where: str, *values: Any) -> list[TrackRow]:
        """Return the tracks of a condition, the oldest first."""
        query = f"SELECT {columns(TrackRow)} FROM tracks WHERE {where} ORDER BY id"
        return [record_of(TrackRow, row) for row in self.all(query, *values)]

    def set_people(self, people: Iterable[PersonRow]) -> None:
        """Replace the list of enrolled people, which the page reads here."""
        with self.transaction() as db:
            db.execute("DELETE FROM people")
            db.executemany(
                "INSERT INTO people VALUES (?, ?)",
                [(person.name, json.dumps(asdict(person))) for person in people],
            )

    def rewrite(self) -> None:
        """Write the file anew: pages keep stale copies of rows that moved within them."""
        with explained_store_errors(self.path):
            self.database.execute("VACUUM")

    def give_back(self) -> None:
        """Give the room of deleted rows back to the disk."""
        with explained_store_errors(self.path):
            self.database.execute("PRAGMA incremental_vacuum").fetchall()

    def empty_log(self) -> bool:
        """Fold the log into the file and empty it; False when somebody still reads it."""
        return not self.one("PRAGMA wal_checkpoint(TRUNCATE)")[0]

    def used_bytes(self) -> int:
        """Return the bytes of the file that hold anything."""
        pages, free, size = (
            int(self.one(f"PRAGMA {name}")[0])
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size

    def count(self, name: str, by: int = 1) -> None:
        """Raise a counter that survives restarts."""
        self.write(
            "INSERT INTO counters VALUES (?, ?) ON CONFLICT (name)"
            " DO UPDATE SET value = value + excluded.value",
            name,
            by,
        )

    def _put(self, table: str, values: dict[str, Any]) -> None:
        names, marks = ", ".join(values), ", ".join("?" * len(values))
        changes = ", ".join(f"{name} = excluded.{name}" for name in values if name != "id")
        conflict = f" ON CONFLICT (id) DO UPDATE SET {changes}" if "id" in values else ""
        self.write(f"INSERT INTO {table} ({names}) VALUES ({marks}){conflict}", *values.values())


def columns(kind: type[Any], table: str = "") -> str:
    """Return the columns of a record's table, in the order of its fields."""
    dot = f"{table}." if table else ""
    return ", ".join(f"{dot}{field.name}" for field in fields(kind))


def record_of(kind: type[Record], row: Any) -> Record:
    """Return the record of a row read by `columns`; 0 and 1 become False and True."""
    values = {
        field.name: bool(value) if field.type == "bool" else value
        for field, value in zip(fields(kind), row, strict=True)  # type: ignore[arg-type]
    }
    return kind(**values)
