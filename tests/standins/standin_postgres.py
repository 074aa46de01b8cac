"""A PostgreSQL 16 server of its own for tests, from the package pgserver."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import warnings

import pytest


@contextlib.contextmanager
def postgres_server(*, durable=False):
    """Start a server; gives it, and stops it at the end.

    durable: whether it waits for the disk, which tests that kill nothing need not
    """
    pgserver = pytest.importorskip("pgserver", reason="pgserver brings the PostgreSQL for tests")
    pytest.importorskip("psycopg", reason="the extra postgres is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where XDG_RUNTIME_DIR is not set
        folder = tempfile.mkdtemp(prefix="cstl-edge-postgres-")
        os.chmod(folder, 0o755)  # started by root, the server runs as somebody else
        server = None
        for _ in range(6):  # it allows ten seconds, and a busy machine takes more
            with contextlib.suppress(subprocess.TimeoutExpired):
                try:
                    server = pgserver.get_server(os.path.join(folder, "data"), cleanup_mode=None)
                    break
                except (OSError, RuntimeError, AssertionError) as err:
                    pytest.skip(f"PostgreSQL does not start here: {err}")
        if server is None:
            pytest.skip("PostgreSQL did not start within a minute")
    try:
        if not durable:
            execute(server, "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
        yield server
    finally:
        os.kill(server.get_pid(), signal.SIGQUIT)  # at once
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def execute(server, *statements):
    """Run statements as the owner of a server."""
    import psycopg

    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def database(server, name):
    """Make an empty database, and return its address."""
    execute(server, f"CREATE DATABASE {name}")
    return server.get_uri().replace("/postgres?", f"/{name}?")


class _Cable:
    """The way to a server's socket, which can be cut and mended."""

    def __init__(self, server, folder):
        self.folder, self._server, self._path = folder, server, f"{folder}/.s.PGSQL.5432"
        self._ends, self._listening = [], None
        self.mend()

    def mend(self):
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(self._path)
        self._listening.listen()
        threading.Thread(target=self._accept, args=(self._listening,), daemon=True).start()

    def cut(self):
        os.unlink(self._path)
        for end in (self._listening, *self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._ends.clear()

    def _accept(self, listening):
        with contextlib.suppress(OSError):
            while True:
                near, far = listening.accept()[0], socket.socket(socket.AF_UNIX)
                far.connect(f"{self._server}/.s.PGSQL.5432")
                self._ends += (near, far)
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=ends, daemon=True).start()

    @staticmethod
    def _carry(source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def cable(server):
    """Give another way to a server whose socket is in the folder `server`; it can be cut."""
    with tempfile.TemporaryDirectory(prefix="cstl-cable-", dir="/tmp") as folder:  # short paths
        way = _Cable(server, folder)
        try:
            yield way
        finally:
            with contextlib.suppress(OSError):
                way.cut()


def residue(folder, needle):
    """Return the files of tables below a server's folder that hold some bytes."""
    found = []
    for base, _, files in os.walk(os.path.join(folder, "base")):
        for name in files:
            with contextlib.suppress(OSError), open(os.path.join(base, name), "rb") as file:
                if needle in file.read():
                    found.append(name)
    return found
