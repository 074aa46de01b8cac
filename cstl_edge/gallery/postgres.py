"""The rows of a gallery on a PostgreSQL server: the tables of a gallery file, sealed as there.

Bodies are sealed before they leave this machine, so the server of an encrypted gallery sees no
template, name or note, and rows are copied between server and files as they are (`replication`).
One writer at a time holds a lock on the table `head`; readers see one state.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timezone
from typing import Any

from cstl_edge.errors import DamagedGallery, GalleryError, ServerRefuses, one_line
from cstl_edge.gallery import schema, server_errors
from cstl_edge.gallery.keys import GalleryKey, new_key
from cstl_edge.gallery.sealed_rows import RowConnection, SealedRows
from cstl_edge.gallery.server_address import ServerAddress, import_psycopg
from cstl_edge.gallery.server_errors import RESTORE, SCHEMA
from cstl_edge.gallery.server_silence import SILENT_S, hung_up_after

TABLES = ("head", "keys", "people", "enrolments", "templates", "silhouettes", "clusters",
          "camera_means", "camera_scatters", "tombstones")  # fmt: skip
OLDEST = 12  # major version of the server
_BEGIN_READING = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"
_ROWS_AT_ONCE = 256
_LOCK = 0x6373746C  # advisory, while tables are made
_REWRITE_LOCK = _LOCK + 1  # advisory, while tables are written anew
REWRITE_S = 3600.0  # longest silence of a server that writes its tables anew
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
    "SET statement_timeout TO 0",  # an erasure writes whole tables, however long it takes
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
        self._changes = False  # whether a change is under way
        self._notices: list[str] = []  # warnings of the server
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

    def now(self) -> datetime:
        """Return what the clock of the server shows, in UTC."""
        (moment,) = self.one("SELECT extract(epoch FROM clock_timestamp())")
        return datetime.fromtimestamp(float(moment), timezone.utc)

    @contextlib.contextmanager
    def transaction(self, mode: str = "DEFERRED") -> Iterator[RowConnection]:
        """Read one state of the gallery (DEFERRED), or write all of a change or none."""
        if self._connection.closed:
            self._connection = self._connect()
        execute, self._changes = self.database.execute, mode != "DEFERRED"
        try:
            with self.explained():
                execute("BEGIN" if self._changes else _BEGIN_READING)
                try:
                    if self._changes:
                        execute("LOCK TABLE head IN EXCLUSIVE MODE")
                    self.open_seal()
                    yield self.database
                    self._commit()
                except BaseException:
                    with contextlib.suppress(self._errors):
                        execute("ROLLBACK")
                    raise
        finally:
            self._changes = False

    def _commit(self) -> None:
        try:
            self.database.execute("COMMIT")
        except self._errors as err:
            if self._changes and self._is_lost(err):
                raise server_errors.in_doubt(err, str(self.path)) from err
            raise

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Turn errors of the server and of the way to it into GalleryError."""
        try:
            yield
        except self._errors as err:
            if lost := self._is_lost(err):
                self.close()
            raise server_errors.of_statement(
                err, str(self.path), lost=lost, changes=self._changes
            ) from err

    def _is_lost(self, err: Exception) -> bool:
        """Return whether an error ended the connection."""
        if self._connection.closed or self._connection.broken:
            return True
        state = getattr(err, "sqlstate", None)
        return state is None and isinstance(err, import_psycopg().OperationalError)

    def each(self, query: str) -> Iterator[Any]:
        """Yield the rows of a query inside a transaction, some at a time."""
        with self.explained(), self._connection.cursor(name="rows") as cursor:
            socket = self._connection.fileno()
            with hung_up_after(socket, SILENT_S):
                cursor.execute(query)
            while True:
                with hung_up_after(socket, SILENT_S):
                    rows = cursor.fetchmany(_ROWS_AT_ONCE)
                if not rows:
                    return
                yield from rows

    def rewrite(self) -> None:
        """Write the tables anew; the server's own log and its backups are beyond reach."""
        self._notices.clear()
        with self.explained(), hung_up_after(self._connection.fileno(), REWRITE_S):
            self._connection.execute(f"VACUUM (FULL) {', '.join(TABLES)}")
        if self._notices:  # it skips what others own, and goes on
            raise GalleryError(
                f"the gallery server '{self.path}' did not write all tables anew"
                f" ({one_line(self._notices[0])})",
                remedy="let the user who made them do so (gallery purge), or make this one a member"
                " of that (GRANT gallery TO box7)",
            )

    def not_rewritten(self, err: GalleryError) -> str:
        """Return what it means that `rewrite` failed."""
        return f"{err.message}, so parts of what was erased may remain in its files: {err.remedy}"

    def empty_log(self) -> bool:
        """Return True: the server recycles its log by itself."""
        return True

    @contextlib.contextmanager
    def alone(self, *, wait: bool) -> Iterator[bool]:
        """Hold off other boxes that would write the tables anew as well.

        wait: whether one that does so is waited for; else its block gets False
        """
        query = "SELECT pg_advisory_lock(%s)" if wait else "SELECT pg_try_advisory_lock(%s)"
        with self.explained(), hung_up_after(self._connection.fileno(), SILENT_S):
            (got,) = self._connection.execute(query, (_REWRITE_LOCK,)).fetchone()
        try:
            yield wait or bool(got)
        finally:
            if wait or got:
                with contextlib.suppress(self._errors):  # the end of the connection frees it, too
                    self._connection.execute("SELECT pg_advisory_unlock(%s)", (_REWRITE_LOCK,))

    def _connect(self) -> Any:
        psycopg = import_psycopg()
        try:
            parameters = {**_CONNECTION, **self._address.renewed().parameters}
            connection = psycopg.connect(**parameters, autocommit=True, prepare_threshold=None)
            with hung_up_after(connection.fileno(), SILENT_S):
                for setting in _SETTINGS:
                    connection.execute(setting)
                self._refuse_pooler(psycopg, connection, parameters)
        except psycopg.Error as err:
            raise server_errors.of_connecting(err, str(self.path)) from err
        connection.add_notice_handler(self._note)
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

    def _note(self, notice: Any) -> None:
        if notice.severity_nonlocalized == "WARNING":
            self._notices.append(str(notice.message_primary))

    def _refuse_pooler(self, psycopg: Any, connection: Any, parameters: dict[str, Any]) -> None:
        """Raise GalleryError behind a pooler that gives each transaction another connection.

        Behind one, the process that the connection was made with is not the one that answers; a
        second connection, or the next transaction, tells whether it stays the same one.
        """

        def process(of: Any) -> int:
            return int(of.execute("SELECT pg_backend_pid()").fetchone()[0])

        first = process(connection)
        if first == connection.info.backend_pid:
            return
        with psycopg.connect(**parameters, autocommit=False) as other:
            is_shared = process(other) == first or process(connection) != first
        if is_shared:
            connection.close()
            raise GalleryError(
                f"gallery '{self.path}': a pooler is between this box and the server, and gives"
                " each transaction another connection, where locks and settings are lost: give the"
                " address of PostgreSQL itself, or of a pool of sessions (pool_mode = session)"
            )

    def _prepare(self, create: bool, encrypt: bool) -> None:
        """Make the tables where there are none; refuse those of another version."""
        watched = hung_up_after(self._connection.fileno(), SILENT_S)
        with self.explained(), watched, self._connection.transaction():
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
                    f"gallery '{self.path}': its table 'version' is not what was written: {RESTORE}"
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
            raise ServerRefuses(
                f"gallery '{self.path}': this user may not use the schema {SCHEMA}: take the user"
                " who made it, or give its rights to this one on the server"
            )

    def _lay_out(self, encrypt: bool) -> None:
        execute: Callable[..., Any] = self._connection.execute
        try:
            execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        except import_psycopg().errors.InsufficientPrivilege as err:
            raise GalleryError(
                f"gallery '{self.path}': this user may make no gallery there: make it the owner of"
                " the database (ALTER DATABASE people OWNER TO gallery)"
            ) from err
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
        with hung_up_after(self._connection.fileno(), SILENT_S):
            return self._connection.execute(query.replace("?", "%s"), tuple(values))

    def executemany(self, query: str, values: Iterable[Any], /) -> Any:
        cursor = self._connection.cursor()
        with hung_up_after(self._connection.fileno(), SILENT_S):
            cursor.executemany(query.replace("?", "%s"), [*values])
        return cursor
