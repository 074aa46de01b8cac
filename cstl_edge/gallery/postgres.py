"""The rows of a gallery on a PostgreSQL server: the tables of a gallery file, sealed as there.

Bodies are sealed before they leave this machine, so the server of an encrypted gallery sees no
template, name or note, and rows are copied between server and files as they are (`replication`).
One writer at a time holds a lock on the table `head`; readers see one state.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from cstl_edge.errors import DamagedGallery, GalleryError, ServerAway, one_line
from cstl_edge.gallery import schema
from cstl_edge.gallery.keys import GalleryKey, new_key
from cstl_edge.gallery.sealed_rows import RowConnection, SealedRows
from cstl_edge.gallery.server_address import ServerAddress, import_psycopg

SCHEMA = "cstl_edge"  # of the database: one gallery in each
TABLES = ("head", "keys", "people", "enrolments", "templates", "silhouettes", "clusters",
          "camera_means", "camera_scatters", "tombstones")  # fmt: skip
OLDEST = 12  # major version of the server
_LOCK = 0x6373746C  # advisory, while tables are made
_CONNECTION = {  # a silent network is noticed within about 15 s
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
    "application_name": "cstl-edge",
}
_SETTINGS = (
    f"SET search_path TO {SCHEMA}",
    "SET synchronous_commit TO on",  # an acknowledged change is on the server's disk
    "SET lock_timeout TO '30s'",
    "SET idle_in_transaction_session_timeout TO '10min'",
)

_REFUSALS = (  # words of a server that is there, what they mean, what to do
    ("authentication failed", "refuses the user or the password",
     "correct what {NAME} in the address stands for"),
    ("no password supplied", "wants a password", "give {NAME} in the address as user:password"),
    ("no pg_hba.conf entry", "refuses this machine or this kind of connection",
     "let it in (pg_hba.conf of the server), or add ?sslmode=require to the address"),
    ("pg_hba.conf rejects", "refuses this machine or this kind of connection",
     "let it in (pg_hba.conf of the server)"),
    ("permission denied for database", "does not let this user in",
     "grant it the database (GRANT CONNECT), or take another user"),
    ("is not permitted to log in", "does not let this user in",
     "let it (ALTER ROLE box7 LOGIN), or take another user"),
    ("does not exist", "has no such database or user",
     "create it on the server (CREATE DATABASE people OWNER box7), or correct the address"),
)  # fmt: skip
_ABSENCES = (  # words of a server that cannot be reached in full, in the same way
    ("SSL", "and this box do not agree on an encrypted connection",
     "see to the server's certificate and to sslmode in the address"),
    ("starting up", "is not ready yet", "try again in a moment"),
    ("too many", "has no connection left for this box",
     "close others, or raise max_connections of the server"),
    ("", "does not answer", "look at the server, the network and the address"),
)  # fmt: skip

_RESTORE = (
    "restore the server's backup, or drop the schema and bring a copy there (gallery migrate)"
)

logger = logging.getLogger(__name__)


class PostgresRows(SealedRows):
    """A connection to the gallery of a server; it is made anew when it was lost."""

    def __init__(
        self,
        address: ServerAddress,
        *,
        create: bool,
        key: GalleryKey | None = None,
        encrypt: bool = False,
    ) -> None:
        """Connect.

        Args:
            address: Of the database.
            create: Whether missing tables are made.
            key: Where the secret of an encrypted gallery comes from.
            encrypt: Whether a gallery that is made is encrypted, and one that is there must be.

        Raises:
            ServerAway: The server does not answer.
            GalleryError: There is no gallery, it is of another version, or does not open.
        """
        super().__init__(address.shown, key)
        self._address = address
        self._errors: type[Exception] = import_psycopg().Error
        self._connection = self._connect()
        try:
            self._prepare(create, encrypt)
            with self.transaction():
                pass  # opens the seal
            if encrypt and not self.encrypted:
                raise GalleryError(
                    f"gallery '{self.path}' is not encrypted: encrypt it first"
                    " (gallery rekey --encrypt)"
                )
        except BaseException:
            self.close()
            raise

    @property
    def database(self) -> RowConnection:
        """The connection, for statements inside a transaction."""
        return _LikeSqlite(self._connection)

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(self._errors):
            self._connection.close()

    @contextlib.contextmanager
    def transaction(self, mode: str = "DEFERRED") -> Iterator[RowConnection]:
        """Read one state of the gallery (DEFERRED), or write all of a change or none."""
        if self._connection.closed:
            self._connection = self._connect()
        with self.explained():
            if mode == "DEFERRED":
                self._connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            else:
                self._connection.execute("BEGIN")
            try:
                if mode != "DEFERRED":
                    self._connection.execute("LOCK TABLE head IN EXCLUSIVE MODE")
                self.open_seal()
                yield self.database
                self._connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(self._errors):
                    self._connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Turn errors of the server and of the way to it into GalleryError."""
        psycopg = import_psycopg()
        try:
            yield
        except psycopg.errors.LockNotAvailable as err:
            raise GalleryError(
                f"gallery '{self.path}': another box has been writing for 30 s: try again"
            ) from err
        except psycopg.Error as err:
            if self._connection.closed or isinstance(err, psycopg.OperationalError):
                with contextlib.suppress(psycopg.Error):
                    self._connection.close()
                raise self._away(err) from err
            raise GalleryError(
                f"gallery '{self.path}': the server refused: {_in_one_line(err)}; nothing"
                f" was changed: {_remedy_of(psycopg, err)}"
            ) from err

    def each(self, query: str) -> Iterator[Any]:
        """Yield the rows of a query inside a transaction, some at a time."""
        with self.explained(), self._connection.cursor(name="rows") as cursor:
            cursor.itersize = 256
            yield from cursor.execute(query)

    def rewrite(self) -> None:
        """Write the tables anew; the server's own log and its backups are beyond reach."""
        with self.explained():
            self._connection.execute(f"VACUUM (FULL) {', '.join(TABLES)}")

    def empty_log(self) -> bool:
        """Return True: the server recycles its log by itself."""
        return True

    def _connect(self) -> Any:
        psycopg = import_psycopg()
        try:
            parameters = {**_CONNECTION, **self._address.parameters}
            connection = psycopg.connect(**parameters, autocommit=True, prepare_threshold=None)
            for setting in _SETTINGS:
                connection.execute(setting)
        except psycopg.Error as err:
            raise self._refusal(err) or self._away(err) from err
        version = connection.info.server_version
        if version < OLDEST * 10_000:
            connection.close()
            raise GalleryError(
                f"gallery '{self.path}': the server is PostgreSQL {version // 10_000}, expected"
                f" {OLDEST} or newer: update it"
            )
        local = str(self._address.parameters.get("host", "/")).startswith(
            ("/", "localhost", "127.")
        )
        if not local and not connection.pgconn.ssl_in_use:
            logger.warning(
                "gallery '%s': the connection is not encrypted: add ?sslmode=verify-full to the"
                " address", self.path,
            )  # fmt: skip
        return connection

    def _away(self, err: Exception) -> ServerAway:
        text = _in_one_line(err)
        what, remedy = next(x[1:] for x in _ABSENCES if x[0] in text)
        return ServerAway(
            f"the gallery server '{self.path}' {what}: {text}; nothing was changed: {remedy}"
        )

    def _refusal(self, err: Exception) -> GalleryError | None:
        """Return the error where a server is there and does not let this box in, else None.

        It has taken the gallery away from the box, which gives no answers from its replica then.
        """
        text = _in_one_line(err)
        for words, what, remedy in _REFUSALS:
            if words in text and ("FATAL" in text or "no password" in text):
                return GalleryError(
                    f"the gallery server '{self.path}' {what}: {text}; nothing was changed:"
                    f" {remedy}"
                )
        return None

    def _prepare(self, create: bool, encrypt: bool) -> None:
        """Make the tables where there are none; refuse those of another version."""
        with self.explained(), self._connection.transaction():
            self._connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            found = self._connection.execute("SELECT to_regclass('version')").fetchone()
            if found[0] is None:
                self._refuse_closed_schema()
                if not create:
                    raise GalleryError(
                        f"there is no gallery at '{self.path}': enroll somebody, or bring one there"
                        " (gallery migrate)"
                    )
                self._lay_out(encrypt)
            versions = self._connection.execute("SELECT version FROM version").fetchall()
            if len(versions) != 1 or not isinstance(versions[0][0], int):
                raise DamagedGallery(
                    f"gallery '{self.path}': its table 'version' is not what was written:"
                    f" {_RESTORE}"
                )
            if versions[0][0] != schema.VERSION:
                raise GalleryError(
                    f"gallery '{self.path}' has schema {versions[0][0]}, this version reads"
                    f" {schema.VERSION}: update cstl_edge"
                )

    def _refuse_closed_schema(self) -> None:
        """Raise GalleryError where there are tables that this user may not see."""
        query = "SELECT has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = %s"
        row = self._connection.execute(query, (SCHEMA,)).fetchone()
        if row is not None and not row[0]:
            raise GalleryError(
                f"gallery '{self.path}': this user may not use the schema {SCHEMA}: take the user"
                " who made it, or give its rights to this one on the server"
            )

    def _lay_out(self, encrypt: bool) -> None:
        execute: Callable[..., Any] = self._connection.execute
        execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        for statement in schema.TABLES:
            execute(statement.replace("INTEGER", "BIGINT").replace("BLOB", "BYTEA"))
        execute("CREATE TABLE version (version INTEGER NOT NULL)")
        execute("INSERT INTO version VALUES (%s)", (schema.VERSION,))
        if encrypt:
            self.set_key(new_key(), self._secret_of_new())
        execute("INSERT INTO head VALUES (1, %s)", (self.new_head(),))


class _LikeSqlite:
    """A connection to the server that takes SQLite's `?` for values."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def execute(self, query: str, values: Any = (), /) -> Any:
        return self._connection.execute(query.replace("?", "%s"), tuple(values))

    def executemany(self, query: str, values: Iterable[Any], /) -> Any:
        cursor = self._connection.cursor()
        cursor.executemany(query.replace("?", "%s"), [*values])
        return cursor


def _remedy_of(psycopg: Any, err: Exception) -> str:
    """Return what to do about what the server refused."""
    if isinstance(err, psycopg.errors.InsufficientPrivilege):
        return f"take the user who made the schema {SCHEMA}, or give its rights to this one"
    tables = ("UndefinedTable", "UndefinedColumn", "UndefinedFunction", "DatatypeMismatch")
    if isinstance(err, tuple(getattr(psycopg.errors, name) for name in tables)):
        return f"its tables are not those of a gallery: {_RESTORE}"
    return "look at the server's log"


def _in_one_line(err: Exception) -> str:
    """Return a message of the server, whose lines are a sentence and hints."""
    return one_line(" ".join(str(err).split()))
