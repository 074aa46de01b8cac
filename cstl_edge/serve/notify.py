"""Messages to systemd, for a unit of `Type=notify` with a watchdog; silent elsewhere."""

from __future__ import annotations

import contextlib
import os
import socket


class Systemd:
    """The socket that systemd gave this process (sd_notify(3), sd_watchdog_enabled(3))."""

    def __init__(self) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        pid = os.environ.get("WATCHDOG_PID", str(os.getpid()))
        usec = os.environ.get("WATCHDOG_USEC", "0") if pid == str(os.getpid()) else "0"
        self.watchdog_s = int(usec) / 1e6 if usec.isdecimal() else 0.0
        """Seconds within which `WATCHDOG=1` has to come; 0 without a watchdog."""

    def send(self, *lines: str) -> None:
        """Send lines such as `READY=1`; a socket that is gone is nothing to die of."""
        if not self._address:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.setblocking(False)
            end.sendto("\n".join(lines).encode(), self._address)
