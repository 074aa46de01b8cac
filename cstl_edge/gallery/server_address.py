"""Addresses of galleries on a server, postgresql://{NAME}@HOST:PORT/DATABASE, without secrets."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cstl_edge.credentials import fill_in
from cstl_edge.errors import ConfigError, one_line
from cstl_edge.extras import missing_package
from cstl_edge.output import user_folder

_SCHEME = re.compile(r"postgres(?:ql)?:/{1,2}", re.IGNORECASE)
_OTHER = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)
_KEYWORDS = re.compile(r"(^|\s)(dbname|password)\s*=")  # libpq's other form
_FILES = ("sslrootcert", "sslcert", "sslkey", "passfile")  # parameters that name files
_ROOT = Path("~/.postgresql/root.crt")  # where libpq looks
FORM = "postgresql://{NAME}@HOST:PORT/DATABASE"


@dataclass(frozen=True)
class ServerAddress:
    """Where a server's gallery is."""

    parameters: dict[str, Any]  # of libpq, password included
    shown: str  # without user and password
    text: str = ""  # as it was given, `{NAME}` in place of credentials

    def __repr__(self) -> str:
        return self.shown  # no password in a traceback

    def renewed(self) -> ServerAddress:
        """Return it with the credentials of today, or as it is where these cannot be read."""
        try:
            return server_address(self.text) if self.text else self
        except ConfigError:
            return self

    @property
    def replica(self) -> Path:
        """The file of this machine's copy."""
        names = ("user", "host", "hostaddr", "port", "dbname")
        digest = hashlib.sha256("|".join(str(self.parameters.get(n, "")) for n in names).encode())
        return user_folder("data") / "replicas" / f"{digest.hexdigest()[:16]}.db"


def is_server(place: str | os.PathLike[str]) -> bool:
    """Return whether a gallery's place is an address on a server, not a file.

    Raises ConfigError for the address of another kind of server.
    """
    text = os.fspath(place)
    if _SCHEME.match(text):
        return True
    if scheme := _OTHER.match(text):
        raise ConfigError(f"no gallery can be at {scheme[0]}…: expected a file, or {FORM}")
    if _KEYWORDS.search(text):
        raise ConfigError(f"the address of a gallery on a server has another form: expected {FORM}")
    return False


def server_address(place: str | os.PathLike[str]) -> ServerAddress:
    """Read an address; `{NAME}` in it stands for credentials (`cstl_edge.credentials`).

    Raises ConfigError for what is none, MissingPackage without psycopg.
    """
    psycopg = import_psycopg()
    text = _SCHEME.sub("postgresql://", os.fspath(place), count=1)  # a Path has one slash less
    try:
        parameters = psycopg.conninfo.conninfo_to_dict(fill_in(text))
    except psycopg.Error as err:  # its message may quote the password
        raise ConfigError(f"this is no address of a gallery on a server: expected {FORM}") from err
    if not parameters.get("dbname"):
        raise ConfigError(f"the address of a gallery on a server has no database: expected {FORM}")
    _check(parameters)
    host = parameters.get("host") or parameters.get("hostaddr") or "localhost"
    port = f":{parameters['port']}" if "port" in parameters else ""
    return ServerAddress(parameters, f"postgresql://{host}{port}/{parameters['dbname']}", text)


def _check(parameters: dict[str, Any]) -> None:
    """Raise ConfigError for what cannot be right, before a server is asked.

    A password whose letters part an address ends up in its host, port or database, so that these
    are not quoted.
    """
    ports = str(parameters.get("port") or "5432").split(",")
    is_port = all(not x or (x.isdecimal() and 0 < int(x) < 2**16) for x in ports)
    if not is_port or "@" in f"{parameters.get('host')}{parameters['dbname']}":
        raise ConfigError(
            f"the host, port (1 to 65535) or database in the address of a gallery's server is none:"
            f" expected {FORM}, where {{NAME}} stands for USER:PASSWORD with any letters"
        )
    for name in _FILES:
        path = parameters.get(name)
        if path and path != "system" and not os.access(path, os.R_OK):
            raise ConfigError(
                f"{name}={one_line(path)} in the address of a gallery's server: there is no such"
                " file, or it may not be read"
            )
    mode = parameters.get("sslmode") or os.environ.get("PGSSLMODE") or ""
    root = parameters.get("sslrootcert") or os.environ.get("PGSSLROOTCERT")
    if mode in ("verify-ca", "verify-full") and not root and not _ROOT.expanduser().exists():
        raise ConfigError(
            f"sslmode={mode} needs the certificate of the CA that signed the server's: add"
            " &sslrootcert=FILE to the address (sslrootcert=system: a CA that this machine trusts),"
            f" or put it into {_ROOT}"
        )


def import_psycopg() -> Any:
    """Return the module psycopg; raises MissingPackage."""
    try:
        import psycopg
        import psycopg.conninfo
    except ImportError as err:
        raise missing_package("a gallery on a server needs psycopg", "postgres") from err
    return psycopg
