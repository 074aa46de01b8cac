"""Sessions of the page, and failed logins: on the server, in a file that survives restarts.

A cookie holds 256 random bits, the file only their sha256. Cookies do not know ports: a neighbour
on the same host receives ours. So a cookie alone reads and does nothing; each request also needs
the session's proof, which the login hands out once and the browser keeps by origin.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import logging
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cstl_edge.errors import StorageError, one_line
from cstl_edge.output import PRIVATE, storing

FILE_NAME = "web.db"
APPLICATION_ID = 0x43535357  # "CSSW"
LONGEST_S = 30 * 86400.0  # of a session that is used every day
SEEN_EVERY_S = 60.0  # how precisely the last use is written down
MINUTE_FAILURES, HOUR_FAILURES = 5, 20  # of one account or one address
ADDRESS_FACTOR = 4  # an address may be a whole house
TABLES = (
    "CREATE TABLE head (id INTEGER PRIMARY KEY CHECK (id = 1), secret BLOB NOT NULL)",
    "CREATE TABLE sessions (digest TEXT PRIMARY KEY, user TEXT NOT NULL, fingerprint TEXT NOT NULL,"
    " created REAL NOT NULL, seen REAL NOT NULL, address TEXT NOT NULL, agent TEXT NOT NULL)",
    "CREATE TABLE failures (id INTEGER PRIMARY KEY, key TEXT NOT NULL, at REAL NOT NULL)",
    "CREATE INDEX failures_by_key ON failures (key, at)",
)
Clock = Callable[[], float]
"""Returns seconds since 1970."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SessionRow:
    """One login."""

    id: str  # sha256 of the cookie: names the session, opens nothing
    user: str
    fingerprint: str  # of the password or token it began with: another one ends it
    created: float  # seconds since 1970
    seen: float
    address: str
    agent: str


class Sessions:
    """The file of sessions; for one thread."""

    def __init__(self, folder: Path, *, clock: Clock = time.time) -> None:
        """Open the file, or make it; one that is damaged is made anew, and everybody logs in again.

        Args:
            folder: The site's data folder.
            clock: Seconds since 1970.

        Raises:
            StorageError: The disk refuses.
        """
        self.path, self._clock = folder / FILE_NAME, clock
        with storing(self.path):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, PRIVATE))
        try:
            self._db, self._secret = self._open()
        except sqlite3.DatabaseError as err:
            if isinstance(err, sqlite3.OperationalError):
                raise StorageError(f"cannot open {one_line(self.path)}: {one_line(err)}") from err
            logger.warning("%s is damaged and made anew: everybody has to log in", self.path)
            for suffix in ("", "-wal", "-shm"):
                Path(f"{self.path}{suffix}").unlink(missing_ok=True)
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, PRIVATE))
            self._db, self._secret = self._open()

    def _open(self) -> tuple[sqlite3.Connection, bytes]:
        db = sqlite3.connect(self.path, timeout=2, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA secure_delete = ON")
        if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            db.execute("BEGIN IMMEDIATE")
            for statement in TABLES:
                db.execute(statement)
            db.execute("INSERT INTO head VALUES (1, ?)", (secrets.token_bytes(32),))
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute("COMMIT")
        return db, bytes(db.execute("SELECT secret FROM head").fetchone()[0])

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def fingerprint(self, credential: str) -> str:
        """Return what tells a password or token from another without holding it."""
        return self._mac("fingerprint", credential)[:16]

    def create(self, user: str, fingerprint: str, address: str, agent: str = "") -> str:
        """Begin a session and return the value of its cookie (StorageError).

        Args:
            user: Who.
            fingerprint: Of the password or token.
            address: Of the client.
            agent: Name of the browser, for the list of sessions.
        """
        cookie, at = secrets.token_urlsafe(32), self._clock()
        row = (digest(cookie), user, fingerprint, at, at, address, agent[:200])
        with self._storing():
            self._db.execute("INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        return cookie

    def find(self, cookie: str, idle_s: float) -> SessionRow | None:
        """Return the session of a cookie, None where there is none or it has ended.

        Args:
            cookie: The cookie's value.
            idle_s: Time without use after which a session ends [s].
        """
        query = "SELECT * FROM sessions WHERE digest = ?"
        found = self._db.execute(query, (digest(cookie),)).fetchone()
        if found is None:
            return None
        row, at = SessionRow(*found), self._clock()
        if at - row.seen > idle_s or at - row.created > LONGEST_S:
            self.revoke(row.id)
            return None
        if at - row.seen > SEEN_EVERY_S:
            with contextlib.suppress(sqlite3.Error):  # a full disk ends no session
                self._db.execute("UPDATE sessions SET seen = ? WHERE digest = ?", (at, row.id))
        return row

    def all(self) -> tuple[SessionRow, ...]:
        """Return every session, the newest first."""
        rows = self._db.execute("SELECT * FROM sessions ORDER BY created DESC").fetchall()
        return tuple(SessionRow(*row) for row in rows)

    def revoke(self, session: str) -> bool:
        """End a session by its id; return whether there was one (StorageError)."""
        with self._storing():
            return (
                self._db.execute("DELETE FROM sessions WHERE digest = ?", (session,)).rowcount > 0
            )

    def revoke_user(self, user: str) -> int:
        """End every session of a user; return how many (StorageError)."""
        with self._storing():
            return self._db.execute("DELETE FROM sessions WHERE user = ?", (user,)).rowcount

    def proof(self, session: str) -> str:
        """Return the proof (CSRF token) of a session, or of a proxy's user."""
        return self._mac("proof", session)

    def proof_matches(self, session: str, proof: str) -> bool:
        """Tell whether a proof is that of a session."""
        return hmac.compare_digest(self.proof(session).encode(), proof.encode())

    def sign(self, session: str, path: str) -> str:
        """Return the signature by which this session alone reads a path without a header."""
        return self._mac("path", f"{session} {path}")[:32]

    def signature_matches(self, session: str, path: str, signature: str) -> bool:
        """Tell whether a signature is that of a session and a path."""
        return hmac.compare_digest(self.sign(session, path).encode(), signature.encode())

    def _mac(self, purpose: str, text: str) -> str:
        return hmac.new(self._secret, f"{purpose}\0{text}".encode(), hashlib.sha256).hexdigest()

    def wait_s(self, account: str, address: str) -> float:
        """Return how long to wait before the next login of an account or an address, 0 for none."""
        at = self._clock()
        waits = [0.0]
        for key, factor in ((f"user {account}", 1), (f"address {address}", ADDRESS_FACTOR)):
            for window_s, limit in ((60.0, MINUTE_FAILURES), (3600.0, HOUR_FAILURES)):
                rows = self._db.execute(
                    "SELECT at FROM failures WHERE key = ? AND at > ? ORDER BY at DESC LIMIT 1"
                    " OFFSET ?",
                    (key, at - window_s, limit * factor - 1),
                ).fetchone()
                if rows is not None:
                    waits.append(rows[0] + window_s - at)
        return max(waits)

    def count_failure(self, account: str, address: str) -> int:
        """Write down a login before its password is looked at; return its number.

        A right password takes it back with `forgive`: so two at once cannot pass the limit.
        """
        at = self._clock()
        with self._storing():
            self._db.execute("DELETE FROM failures WHERE at < ?", (at - 3600.0,))
            keys = (f"user {account[:64]}", f"address {address}")
            numbers = [
                self._db.execute(
                    "INSERT INTO failures (key, at) VALUES (?, ?)", (key, at)
                ).lastrowid
                for key in keys
            ]
        return numbers[0] or 0

    def forgive(self, number: int) -> None:
        """Take one attempt back: its password was right (StorageError)."""
        with self._storing():
            self._db.execute("DELETE FROM failures WHERE id IN (?, ?)", (number, number + 1))

    @contextlib.contextmanager
    def _storing(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as err:
            raise StorageError(f"cannot write {one_line(self.path)}: {one_line(err)}") from err


def digest(cookie: str) -> str:
    """Return the id of the session that a cookie opens."""
    return hashlib.sha256(cookie.encode("utf-8", "replace")).hexdigest()
