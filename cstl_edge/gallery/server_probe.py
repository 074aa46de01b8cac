"""Tells at once whether a server that was away can be reached again, without waiting for it.

Connections are begun and looked at later, so that a look costs microseconds while a network is
silent. Another one is begun every PATIENCE_S: its packet goes out then, not when the system would
repeat that of the last one. A connection is asked whether it speaks TLS (SSLRequest of PostgreSQL's
protocol), which every server answers by one letter: something that only listens is not there yet.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass
from typing import Any

PATIENCE_S = 0.25
LONGEST_S = 4.0  # for one connection
_NEAR_S = 0.005  # for a machine of this network to answer
_QUESTION = struct.pack("!II", 8, 80877103)  # SSLRequest: its length, its code
_ANSWERS = (b"S", b"N", b"E")  # TLS, no TLS, an error
_SOCKET_FOLDERS = ("/var/run/postgresql", "/tmp")  # of a server of this machine, without a host
_Place = tuple[int, Any]  # family and address of a socket


@dataclass
class _Attempt:
    """A connection that was begun."""

    begun_s: float  # of the monotonic clock
    socket: socket.socket
    asked: bool = False


class ServerProbe:
    """Looks whether a PostgreSQL server answers at an address; for any thread."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        """Take libpq's parameters of the server."""
        self._parameters = parameters
        self._asks = parameters.get("sslnegotiation") != "direct"
        self._places: list[_Place] = []
        self._begun: list[_Attempt] = []
        self._next = 0  # place to try
        self._lock = threading.Lock()

    def resolve(self) -> None:
        """Look up the server's names, which may take long; without success all is as before."""
        hosts = self._parameters.get("hostaddr") or self._parameters.get("host")
        hosts = str(hosts or os.environ.get("PGHOST") or ",".join(_SOCKET_FOLDERS)).split(",")
        ports = str(self._parameters.get("port") or os.environ.get("PGPORT") or "").split(",")
        places: list[_Place] = []
        for i, host in enumerate(hosts):
            port = (ports[i] if len(ports) == len(hosts) else ports[0]) or "5432"
            with contextlib.suppress(OSError, ValueError):
                places += _places(host or "localhost", port)
        if places:
            with self._lock:
                self._places = places

    @property
    def is_resolved(self) -> bool:
        """Whether an address is known to look at."""
        return bool(self._places)

    @property
    def is_blind(self) -> bool:
        """Whether only libpq knows where the server is, from a file of services."""
        return "service" in self._parameters

    def answers(self, wait_s: float = _NEAR_S) -> bool:
        """Return whether a server answers there, as far as is known after so long."""
        with self._lock:
            now = time.monotonic()
            for attempt in [x for x in self._begun if now - x.begun_s > LONGEST_S]:
                self._give_up(attempt)
            if not self._begun or now - self._begun[-1].begun_s > PATIENCE_S:
                self._begin(now)
            return self._is_there(now + wait_s)

    def close(self) -> None:
        """Give up the connections that were begun."""
        with self._lock:
            while self._begun:
                self._give_up(self._begun[0])

    def _give_up(self, attempt: _Attempt) -> None:
        attempt.socket.close()
        self._begun.remove(attempt)

    def _begin(self, now_s: float) -> None:
        """Begin a connection to the next of the addresses, unless that is refused at once."""
        if not self._places:
            return
        family, address = self._places[self._next % len(self._places)]
        self._next += 1
        begun = socket.socket(family, socket.SOCK_STREAM)
        begun.setblocking(False)
        try:
            begun.connect(address)
        except BlockingIOError:
            pass  # on its way
        except OSError:
            begun.close()
            return
        self._begun.append(_Attempt(now_s, begun))

    def _is_there(self, until_s: float) -> bool:
        """Return whether one of the connections is answered; those that failed are given up."""
        while self._begun:
            asked = [x.socket for x in self._begun if x.asked]
            others = [x.socket for x in self._begun if not x.asked]
            left_s = max(0.0, until_s - time.monotonic())
            readable, writable, _ = select.select(asked, others, [], left_s)
            if not readable and not writable:
                return False
            ready = {*readable, *writable}
            for attempt in [x for x in self._begun if x.socket in ready]:
                if self._goes_on(attempt):
                    for other in [*self._begun]:
                        self._give_up(other)
                    return True
        return False

    def _goes_on(self, attempt: _Attempt) -> bool:
        """Take a connection that is ready a step further; return whether a server answered it."""
        try:
            if attempt.asked:
                if attempt.socket.recv(1) in _ANSWERS:
                    return True
                raise OSError("closed, or no server of PostgreSQL")
            if code := attempt.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(code, "not connected")
            if not self._asks:
                return True
            attempt.socket.send(_QUESTION)
            attempt.asked = True
        except OSError:
            self._give_up(attempt)
        return False


def _places(host: str, port: str) -> list[_Place]:
    """Return the addresses of one host (OSError, ValueError)."""
    if host.startswith("/"):
        return [(socket.AF_UNIX, f"{host}/.s.PGSQL.{port}")]
    found = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    return [(family, address) for family, _, _, _, address in found]
