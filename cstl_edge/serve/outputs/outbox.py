"""What still has to be sent, by output: a bounded queue in a SQLite file of its own.

It holds numbers of events, no events: what is sent is read from the store at that moment, so what
was erased there cannot leave any more. A message is in the queue from the moment its event is
taken from the store, in one transaction with the place up to which events were taken, until a
receiver has acknowledged it; a kill in between means that it is sent again, under the same id.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cstl_edge.errors import StorageError
from cstl_edge.serve.outputs.settings import QueueSettings
from cstl_edge.serve.reader import Reader
from cstl_edge.serve.store import explained_store_errors
from cstl_edge.serve.store_rows import EventRow

OUTBOX_NAME = "outbox.db"
APPLICATION_ID = 0x4353534F  # "CSSO"
VERSION = 1
BATCH = 500  # events taken from the store in one transaction
LOOK_S = 0.05  # how long a look at the figures waits for a writer
HOUR_S = 3600.0

TABLES = (
    "CREATE TABLE head (id INTEGER PRIMARY KEY CHECK (id = 1), client TEXT NOT NULL,"
    " key BLOB NOT NULL)",
    "CREATE TABLE places (output TEXT PRIMARY KEY, installation TEXT NOT NULL,"
    " event INTEGER NOT NULL)",
    "CREATE TABLE messages (id INTEGER PRIMARY KEY AUTOINCREMENT, output TEXT NOT NULL,"
    " event INTEGER NOT NULL, uid TEXT NOT NULL, added_s REAL NOT NULL,"
    " tries INTEGER NOT NULL DEFAULT 0, due_s REAL NOT NULL)",
    "CREATE INDEX messages_due ON messages (output, due_s, id)",
    "CREATE TABLE counters (output TEXT NOT NULL, name TEXT NOT NULL, value INTEGER NOT NULL,"
    " PRIMARY KEY (output, name))",
    "CREATE TABLE switched_off (output TEXT PRIMARY KEY, reason TEXT NOT NULL)",
    # retained topics that we filled at a broker and that it has not acknowledged as emptied
    "CREATE TABLE retained (broker TEXT NOT NULL, topic TEXT NOT NULL,"
    " PRIMARY KEY (broker, topic)) WITHOUT ROWID",
)


@dataclass(frozen=True)
class Queued:
    """A message that waits."""

    id: int
    event: int  # number in the store
    uid: str  # the same at every try
    tries: int
    added_s: float  # Unix time


class Outbox:
    """The open file; every method may be called from any thread."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        """Open the outbox of a data folder, or make it (StorageError).

        A damaged one is put aside as `outbox.db.damaged`: a new one loses what waited to be sent,
        and nothing else.
        """
        self.path, self._clock, self._lock = folder / OUTBOX_NAME, clock, threading.RLock()
        self._figures: dict[str, tuple[int, dict[str, int]]] = {}
        self.was_damaged = False
        with explained_store_errors(self.path):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                self._db = self._open()
            except sqlite3.DatabaseError as err:
                if not any(word in str(err) for word in ("malformed", "not a database")):
                    raise
                self._put_aside()
                self._db = self._open()

    def _open(self) -> sqlite3.Connection:
        os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        db = sqlite3.connect(self.path, timeout=5, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA secure_delete = ON")
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")  # power loss: a message goes out twice
            if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
                _lay_out(db)
            found = tuple(
                db.execute(f"PRAGMA {key}").fetchone()[0]
                for key in ("application_id", "user_version")
            )
            if found != (APPLICATION_ID, VERSION):
                raise StorageError(
                    f"{self.path.name} is of another program or version of cstl-edge",
                    remedy="move it away: what waits in it is not sent then",
                )
            if db.execute("PRAGMA quick_check").fetchone()[0] != "ok":
                raise sqlite3.DatabaseError("malformed")
        except BaseException:
            db.close()
            raise
        return db

    def _put_aside(self) -> None:
        self.was_damaged = True
        os.replace(self.path, f"{self.path}.damaged")
        for suffix in ("-wal", "-shm"):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)

    @contextlib.contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        with self._lock, explained_store_errors(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _all(self, query: str, *values: Any) -> list[Any]:
        with self._lock, explained_store_errors(self.path):
            return self._db.execute(query, values).fetchall()

    @property
    def client(self) -> str:
        """Random letters and digits of this installation, for ids at a broker."""
        return str(self._all("SELECT client FROM head")[0][0])

    @property
    def key(self) -> bytes:
        """Random bytes of this installation, for ids that say nothing elsewhere."""
        return bytes(self._all("SELECT key FROM head")[0][0])

    def take(
        self,
        output: str,
        reader: Reader,
        passes: Callable[[EventRow], bool],
        limits: QueueSettings,
    ) -> int:
        """Queue the store's new events for an output, and drop what is beyond the limits.

        An output that is new begins with the next event. Returns how many were queued.

        Args:
            output: Name of the output, the same in every run.
            reader: The store.
            passes: Whether an event goes to this output.
            limits: Of its queue.

        Raises:
            StorageError: Store or outbox cannot be read or written; nothing is lost by that.
        """
        place, queued = self._place(output, reader), 0
        while rows := reader.events(place, BATCH):
            place, now = rows[-1].id, self._clock()
            added = [
                (output, row.id, f"msg_{secrets.token_urlsafe(18)}", now, now)
                for row in rows
                if passes(row)
            ]
            with self._change() as db:
                db.executemany(
                    "INSERT INTO messages (output, event, uid, added_s, due_s)"
                    " VALUES (?, ?, ?, ?, ?)",
                    added,
                )
                db.execute("UPDATE places SET event = ? WHERE output = ?", (place, output))
                _drop_oldest(db, output, limits.max_messages)
            queued += len(added)
        self._drop_old(output, limits.max_age_hours * HOUR_S)
        return queued

    def _place(self, output: str, reader: Reader) -> int:
        """Return the number of the last event that was taken; a new store begins at its start."""
        installation, newest = reader.installation, reader.last_event_id
        rows = self._all("SELECT installation, event FROM places WHERE output = ?", output)
        if rows and rows[0][0] == installation:
            return min(int(rows[0][1]), newest)  # power loss takes the newest of a store
        place = 0 if rows else newest
        with self._change() as db:
            lost = db.execute("DELETE FROM messages WHERE output = ?", (output,)).rowcount
            _count(db, output, "dropped_erased", lost)  # of a store that is gone
            db.execute(
                "INSERT OR REPLACE INTO places VALUES (?, ?, ?)", (output, installation, place)
            )
        return place

    def _drop_old(self, output: str, max_age_s: float) -> None:
        oldest = self._clock() - max_age_s
        old = "FROM messages WHERE output = ? AND added_s < ?"
        if self._all(f"SELECT 1 {old} LIMIT 1", output, oldest):
            with self._change() as db:
                _count(
                    db,
                    output,
                    "dropped_old",
                    db.execute(f"DELETE {old}", (output, oldest)).rowcount,
                )

    def due(self, output: str, limit: int, without: Iterable[int] = ()) -> tuple[Queued, ...]:
        """Return messages whose time has come, the oldest first.

        Args:
            output: Name of the output.
            limit: At most so many.
            without: Ids of messages that are on their way.
        """
        ways = set(without)
        rows = self._all(
            "SELECT id, event, uid, tries, added_s FROM messages WHERE output = ? AND due_s <= ?"
            " ORDER BY id LIMIT ?",
            output,
            self._clock(),
            limit + len(ways),
        )
        return tuple(Queued(*row) for row in rows if row[0] not in ways)[:limit]

    def next_due_s(self, output: str) -> float | None:
        """Return the Unix time at which a message is due, None without one."""
        rows = self._all("SELECT min(due_s) FROM messages WHERE output = ?", output)
        return None if rows[0][0] is None else float(rows[0][0])

    def acknowledged(self, output: str, ids: Iterable[int]) -> None:
        """Take out what a receiver has acknowledged."""
        with self._change() as db:
            found = sum(db.execute("DELETE FROM messages WHERE id = ?", (n,)).rowcount for n in ids)
            _count(db, output, "sent", found)

    def dropped(self, output: str, message: int, why: str) -> None:
        """Take out a message that will not be sent: `erased` or `refused`."""
        with self._change() as db:
            found = db.execute("DELETE FROM messages WHERE id = ?", (message,)).rowcount
            _count(db, output, f"dropped_{why}", found)

    def postpone(self, message: int, due_s: float) -> None:
        """Note a failed try and when the next one is due [Unix time]."""
        with self._change() as db:
            db.execute(
                "UPDATE messages SET tries = tries + 1, due_s = ? WHERE id = ?", (due_s, message)
            )

    def hasten(self, output: str) -> None:
        """Make everything due now: its receiver is back."""
        with self._change() as db:
            db.execute("UPDATE messages SET due_s = ? WHERE output = ?", (self._clock(), output))

    def clear(self, output: str) -> None:
        """Take out all that waits for an output that is off."""
        if self.queued(output):
            with self._change() as db:
                found = db.execute("DELETE FROM messages WHERE output = ?", (output,)).rowcount
                _count(db, output, "dropped_refused", found)

    def queued(self, output: str) -> int:
        """Return how many messages wait."""
        return int(self._all("SELECT count(*) FROM messages WHERE output = ?", output)[0][0])

    def counters(self, output: str) -> dict[str, int]:
        """Return `sent` and `dropped_full`, `_old`, `_erased`, `_refused` since the beginning."""
        return dict(self._all("SELECT name, value FROM counters WHERE output = ?", output))

    def figures(self, output: str) -> tuple[int, dict[str, int]]:
        """Return `queued` and `counters`; those of before while somebody writes: never waits."""
        if self._lock.acquire(timeout=LOOK_S):
            try:
                self._figures[output] = self.queued(output), self.counters(output)
            finally:
                self._lock.release()
        return self._figures.get(output, (0, {}))

    def switch_off(self, output: str, reason: str | None) -> None:
        """Note that an output is off until somebody changes it, and why; None switches it on."""
        with self._change() as db:
            db.execute("DELETE FROM switched_off WHERE output = ?", (output,))
            if reason is not None:
                db.execute("INSERT INTO switched_off VALUES (?, ?)", (output, reason))

    def off_reason(self, output: str) -> str | None:
        """Return why an output is off, None where it is on."""
        rows = self._all("SELECT reason FROM switched_off WHERE output = ?", output)
        return str(rows[0][0]) if rows else None

    def remember(self, broker: str, topics: Iterable[str]) -> None:
        """Note retained topics before they are filled, so that a later run can empty them."""
        with self._change() as db:
            db.executemany(
                "INSERT OR IGNORE INTO retained VALUES (?, ?)", [(broker, x) for x in topics]
            )

    def forget_other_brokers_than(self, brokers: Sequence[str]) -> int:
        """Strike the topics of brokers that are not used any more; return how many there were."""
        marks = ", ".join("?" * len(brokers))
        with self._change() as db:
            query = f"DELETE FROM retained WHERE broker NOT IN ({marks})"
            return db.execute(query, tuple(brokers)).rowcount

    def remembered(self, broker: str) -> frozenset[str]:
        """Return the retained topics that may hold something."""
        return frozenset(
            t for (t,) in self._all("SELECT topic FROM retained WHERE broker = ?", broker)
        )

    def forget(self, broker: str, topics: Iterable[str]) -> None:
        """Strike topics whose emptying was acknowledged; no byte of them stays in the file."""
        with self._change() as db:
            db.executemany(
                "DELETE FROM retained WHERE broker = ? AND topic = ?", [(broker, x) for x in topics]
            )
        with self._lock, explained_store_errors(self.path):
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def close(self) -> None:
        """Close the file; may be called twice."""
        with self._lock:
            self._db.close()


def _lay_out(db: sqlite3.Connection) -> None:
    db.execute("BEGIN IMMEDIATE")
    for statement in TABLES:
        db.execute(statement)
    own = (secrets.token_hex(6), secrets.token_bytes(32))
    db.execute("INSERT INTO head (id, client, key) VALUES (1, ?, ?)", own)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {VERSION}")
    db.execute("COMMIT")


def _drop_oldest(db: sqlite3.Connection, output: str, most: int) -> None:
    count = db.execute("SELECT count(*) FROM messages WHERE output = ?", (output,)).fetchone()[0]
    if count > most:
        dropped = db.execute(
            "DELETE FROM messages WHERE id IN (SELECT id FROM messages WHERE output = ?"
            " ORDER BY id LIMIT ?)",
            (output, count - most),
        ).rowcount
        _count(db, output, "dropped_full", dropped)


def _count(db: sqlite3.Connection, output: str, name: str, more: int) -> None:
    if more:
        db.execute(
            "INSERT INTO counters VALUES (?, ?, ?) ON CONFLICT (output, name)"
            " DO UPDATE SET value = value + excluded.value",
            (output, name, more),
        )
