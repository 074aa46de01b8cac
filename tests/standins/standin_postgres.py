"""A PostgreSQL 16 server of its own for tests, from the package pgserver."""

import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import warnings
from pathlib import Path

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


def until(condition, what, seconds=60):
    """Wait for something that another thread does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen within {seconds} s"
        time.sleep(0.02)


class _Cable:
    """The way to a server's socket, which can be cut and mended."""

    cut_behind = ()  # words of a box one after another; behind the last the cable is cut

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

    def _carry(self, source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if self.cut_behind and self.cut_behind[0] in data:
                    self.cut_behind = self.cut_behind[1:]
                    if not self.cut_behind:
                        source.shutdown(socket.SHUT_RDWR)
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


@contextlib.contextmanager
def tls_front(server, folder, *, name="localhost", days=(-1, 30)):
    """Speak TLS in front of a server's socket, as the server of the package cannot.

    Args:
        server: Folder of its socket.
        folder: Where the certificate of the CA is written.
        name: Of the machine, in its certificate.
        days: From now, when the certificate begins and ends.

    Yields:
        The port at 127.0.0.1, and the path of the certificate of the CA.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca = _certificates(context, folder, name, days)
    listening = socket.create_server(("127.0.0.1", 0))

    def serve(near):
        with contextlib.suppress(OSError, ssl.SSLError):
            assert near.recv(8)[4:] == b"\x04\xd2\x16/"
            near.sendall(b"S")
            near = context.wrap_socket(near, server_side=True)
            far = socket.socket(socket.AF_UNIX)
            far.connect(f"{server}/.s.PGSQL.5432")
            for ends in ((near, far), (far, near)):
                threading.Thread(target=_carry, args=ends, daemon=True).start()

    def accept():
        with contextlib.suppress(OSError):
            while True:
                near = listening.accept()[0]
                threading.Thread(target=serve, args=(near,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    with listening:
        yield listening.getsockname()[1], ca


def _carry(source, target):
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.close()


def _certificates(context, folder, name, days):
    """Make a CA and a certificate of it for a server's context; returns the CA's path."""
    from datetime import datetime, timedelta, timezone

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    now = datetime.now(timezone.utc)
    keys = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer, subject = (
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)]) for text in ("ca", name)
    )

    def certificate(of, key, *, is_ca, names=()):
        made = x509.CertificateBuilder().subject_name(of).issuer_name(issuer)
        made = made.public_key(key.public_key()).serial_number(x509.random_serial_number())
        made = made.not_valid_before(now + timedelta(days=-9 if is_ca else days[0]))
        made = made.not_valid_after(now + timedelta(days=90 if is_ca else days[1]))
        made = made.add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        for dns in names:
            alternative = x509.SubjectAlternativeName([x509.DNSName(dns)])
            made = made.add_extension(alternative, critical=False)
        return made.sign(keys[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    ca, own = Path(folder, "ca.crt"), Path(folder, "server.pem")
    ca.write_bytes(certificate(issuer, keys[0], is_ca=True))
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    own.write_bytes(
        keys[1].private_bytes(serialization.Encoding.PEM, *plain)
        + certificate(subject, keys[1], is_ca=False, names=(name,))
    )
    context.load_cert_chain(own)
    return ca


def residue(folder, needle):
    """Return the files of tables below a server's folder that hold some bytes."""
    found = []
    for base, _, files in os.walk(os.path.join(folder, "base")):
        for name in files:
            with contextlib.suppress(OSError), open(os.path.join(base, name), "rb") as file:
                if needle in file.read():
                    found.append(name)
    return found
