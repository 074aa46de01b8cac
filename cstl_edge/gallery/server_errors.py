"""What a PostgreSQL server, or the way to it, has against a box: the error, and what to do.

Whoever is refused gets ServerRefuses: the server has taken the gallery away from the box, which
gives no answers from its replica then. All else is ServerAway: answers go on. A refusal is known by
where it comes from, since servers speak many languages; what passes is known by English words.
"""

from __future__ import annotations

import re
from typing import Any, TypeVar

from cstl_edge.errors import (
    ConfigError,
    CstlEdgeError,
    GalleryError,
    ServerAway,
    ServerRefuses,
    one_line,
)
from cstl_edge.gallery.server_address import import_psycopg

_Kind = TypeVar("_Kind", bound=GalleryError)
SCHEMA = "cstl_edge"  # of the database: one gallery in each
RESTORE = "restore the server's backup, or drop the schema and bring a copy there (gallery migrate)"

_FROM_SERVER = re.compile(r"failed: [^\s:]+:  ")  # severity in any language: libpq sets two blanks
_PASSING = re.compile(  # words of a server that will serve this box later
    "starting up|shutting down|recovery|not accepting|not yet accepting|too many|slots are reserved"
    "|terminating|timeout|No space|out of memory|could not "
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
     "create it on the server (CREATE DATABASE people OWNER gallery), or correct the address"),
    ("", "refuses this box", "look at the server's log"),
)  # fmt: skip
_ABSENCES = (  # words about a server that cannot be reached in full, in the same way
    ("does not match host name", "shows the certificate of another machine",
     "address it by a name of its certificate, or give it one with this name"),
    *((words, "shows a certificate that is not trusted here",
       "name the certificate of its CA (sslrootcert=FILE in the address), and see whether it has"
       " expired and whether the clock of this box is right")
      for words in ("certificate verify failed", "signature failure")),
    ("root certificate file", "cannot be verified",
     "name the certificate of its CA (sslrootcert=FILE in the address)"),
    ("does not support SSL", "offers no TLS",
     "switch it on there (ssl = on), or take another sslmode in the address"),
    ("SSL", "and this box do not agree on an encrypted connection",
     "see to the server's certificate and to sslmode in the address"),
    ("resolve host", "has a name that is not known here", "look at the name, and at the DNS"),
    ("starting up", "is not ready yet", "try again in a moment"),
    ("shutting down", "is being stopped", "try again when it is back"),
    ("recovery", "is not ready yet", "try again in a moment"),
    ("not accepting", "is not ready yet", "try again in a moment"),
    ("session is read-only", "takes no changes", "give the address of the primary server"),
    ("too many", "has no connection left for this box",
     "close others, or raise max_connections of the server"),
    ("slots are reserved", "has no connection left for this box",
     "close others, or raise max_connections of the server"),
    ("terminating", "has ended the connection", "try again when it is back"),
    ("No space", "has no room on its disk", "make some there"),
    ("", "does not answer", "look at the server, the network and the address"),
)  # fmt: skip
_REFUSED_STATEMENTS = (  # classes of psycopg.errors, what the server does, what to do
    (("DiskFull",), "has no room on its disk", "make some there and try again"),
    (("ReadOnlySqlTransaction",), "takes no changes, since it is a standby or set to read only",
     "give the address of the primary server, or all of them with target_session_attrs=read-write"),
    (("QueryCanceled",), "was told to cancel it", "try again"),
    (("InsufficientPrivilege",), "does not let this user do that",
     f"take the user who made the schema {SCHEMA}, or make this one a member of that"
     " (GRANT gallery TO box7)"),
    (("UndefinedTable", "UndefinedColumn", "UndefinedFunction", "DatatypeMismatch"), "refused",
     f"its tables are not those of a gallery: {RESTORE}"),
    (("Error",), "refused", "look at the server's log"),
)  # fmt: skip


def of_connecting(err: Exception, shown: str) -> CstlEdgeError:
    """Return the error of a connection that was not made.

    Args:
        err: psycopg's.
        shown: Address without credentials.
    """
    text = in_one_line(err)
    if text.startswith("connection is bad: invalid"):
        return ConfigError(f"the address of the gallery server '{shown}' is wrong: {text}")
    by_server = _FROM_SERVER.search(str(err)) is not None
    if "no password supplied" in text or (by_server and not _PASSING.search(text)):
        what, remedy = next(x[1:] for x in _REFUSALS if x[0] in text)
        return _error(ServerRefuses, shown, what, text, remedy)
    return away(err, shown)


def away(err: Exception, shown: str) -> ServerAway:
    """Return the error of a server that cannot be reached, or not any more."""
    text = in_one_line(err)
    what, remedy = next(x[1:] for x in _ABSENCES if x[0] in text)
    return _error(ServerAway, shown, what, text, remedy)


def of_statement(err: Exception, shown: str, *, lost: bool, changes: bool) -> GalleryError:
    """Return the error of a statement that failed.

    Args:
        err: psycopg's.
        shown: Address without credentials.
        lost: Whether the connection is gone.
        changes: Whether it was part of a change, which is not stored then.
    """
    psycopg = import_psycopg()
    if lost:
        return away(err, shown)
    if isinstance(err, psycopg.errors.LockNotAvailable):
        text = f"gallery '{shown}': another box has been writing for 30 s: try again"
        return GalleryError(text) if changes else ServerAway(text)
    what, remedy = next(x[1:] for x in _REFUSED_STATEMENTS if isinstance(err, _classes(x[0])))
    kind: type[GalleryError] = GalleryError
    if isinstance(err, psycopg.OperationalError) and not changes:
        kind = ServerAway  # for the moment: answers go on
    elif isinstance(err, psycopg.errors.InsufficientPrivilege) and not changes:
        kind = ServerRefuses
    return _error(kind, shown, what, in_one_line(err), remedy, changes=changes)


def in_doubt(err: Exception, shown: str) -> ServerAway:
    """Return the error of a change whose confirmation was lost on the way."""
    return ServerAway(
        f"the gallery server '{shown}' was lost while it stored a change: {in_one_line(err)};"
        " whether the change is there is not known: look before you make it again (gallery list)"
    )


def in_one_line(err: Exception) -> str:
    """Return a message of the server, whose lines are a sentence and hints."""
    text = " ".join(str(err).split()).removeprefix("connection failed: ")
    return one_line(text)


def _error(
    kind: type[_Kind], shown: str, what: str, text: str, remedy: str, *, changes: bool = True
) -> _Kind:
    """Return an error.

    Args:
        kind: Its class.
        shown: Address without credentials.
        what: What the server does.
        text: Its own words.
        remedy: What to do.
        changes: Whether to say that nothing was changed.
    """
    remedy = f"nothing was changed: {remedy}" if changes else remedy
    return kind(f"the gallery server '{shown}' {what}: {text}", remedy=remedy)


def _classes(names: tuple[str, ...]) -> tuple[Any, ...]:
    psycopg = import_psycopg()
    return tuple(getattr(psycopg.errors, name, psycopg.Error) for name in names)
