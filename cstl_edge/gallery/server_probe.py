"""Tells at once whether a server that was away can be reached again, without waiting for it.

Connections are begun and looked at later, so that a look costs microseconds while a network is
silent. Another one is begun every PATIENCE_S: its packet goes out then, not when the system would
repeat that of the last one.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from typing import Any

PATIENCE_S = 0.25
LONGEST_S = 4.0  # for one connection
_NEAR_S = 0.005  # for a machine of this network to answer
_Place = tuple[int, Any]  # family and address of a socket


class ServerProbe:
    """Looks whether something listens at the address of a server; for any thread."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        """Take libpq's parameters of the server."""
        self._parameters = parameters
        self._places: list[_Place] = []
        self._begun: list[tuple[float, socket.socket]] = []  # when, of the monotonic clock
        self._next = 0  # place to try
        self._lock = threading.Lock()

    def resolve(self) -> None:
        """Look up the server's name, which may take long; without success all is as before."""
        host = str(self._parameters.get("hostaddr") or self._parameters.get("host") or "")
        port = str(self._parameters.get("port") or "5432")
        if not port.isdigit() or "," in host:
            return
        try:
            if host.startswith("/"):
                places: list[_Place] = [(socket.AF_UNIX, f"{host}/.s.PGSQL.{port}")]
            else:
                found = socket.getaddrinfo(host or "localhost", int(port), type=socket.SOCK_STREAM)
                places = [(family, address) for family, _, _, _, address in found]
        except OSError:
            return
        with self._lock:
            self._places = places

    @property
    def is_resolved(self) -> bool:
        """Whether an address is known to look at."""
        return bool(self._places)

    def answers(self, wait_s: float = _NEAR_S) -> bool:
        """Return whether something listens there, as far as is known after so long."""
        with self._lock:
            now = time.monotonic()
            while self._begun and now - self._begun[0][0] > LONGEST_S:
                self._begun.pop(0)[1].close()
            if not self._begun or now - self._begun[-1][0] > PATIENCE_S:
                self._begin(now)
            return self._is_there(wait_s)

    def close(self) -> None:
        """Give up the connections that were begun."""
        with self._lock:
            while self._begun:
                self._begun.pop()[1].close()

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
        self._begun.append((now_s, begun))

    def _is_there(self, wait_s: float) -> bool:
        """Return whether one of the connections is made; those that failed are left."""
        if not self._begun:
            return False
        _, ready, _ = select.select([], [begun for _, begun in self._begun], [], wait_s)
        made = [begun.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0 for begun in ready]
        if any(made):
            ready = [begun for _, begun in self._begun]
        for begun in ready:
            begun.close()
        self._begun = [(begun_s, x) for begun_s, x in self._begun if x not in ready]
        return any(made)
