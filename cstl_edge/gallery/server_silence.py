"""Ends a connection to a server that is there and says nothing more: libpq would wait for ever.

A server that was stopped, or whose disk hangs, still has its packets acknowledged by its system, so
that neither keepalives nor time limits of TCP notice.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
import threading
from collections.abc import Iterator

SILENT_S = 45.0  # longer than a lock is waited for
_LAST_DATA = struct.Struct("=44xI4xI")  # of Linux' tcp_info: ms since data was sent, and received


@contextlib.contextmanager
def hung_up_after(descriptor: int, seconds: float) -> Iterator[None]:
    """Shut a connection down when nothing has come or gone on it for so long.

    Whoever waits on it then reads its end.

    Args:
        descriptor: Of its socket.
        seconds: Longest silence.
    """
    with socket.socket(fileno=os.dup(descriptor)) as connection:
        done, lock = threading.Event(), threading.Lock()
        timers: list[threading.Timer] = []

        def look() -> None:
            with lock:
                if done.is_set():
                    return
                left = seconds - _silence_s(connection, seconds)
                if left <= 0:
                    with contextlib.suppress(OSError):
                        connection.shutdown(socket.SHUT_RDWR)
                else:
                    start(left)

        def start(after_s: float) -> None:
            timers[:] = [threading.Timer(after_s, look)]
            timers[0].daemon = True
            timers[0].start()

        start(seconds)
        try:
            yield
        finally:
            with lock:
                done.set()
                timers[0].cancel()


def _silence_s(connection: socket.socket, unknown: float) -> float:
    """Return for how long nothing has come or gone; `unknown` where the system does not say."""
    if not sys.platform.startswith("linux") or connection.family == socket.AF_UNIX:
        return unknown
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_DATA.size)
        return float(min(_LAST_DATA.unpack(info))) / 1000
    except (OSError, struct.error):
        return unknown
