"""Ctrl-C, SIGTERM and SIGHUP end a run whole: everything is written, the exit code is 128 + N."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType

from cstl_edge.errors import SIGNAL_BASE

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class SignalEnd:
    """Context in which the first signal asks a run to end; a second one ends it at once.

    While `stop` is None, nothing runs that could be asked, and the first signal ends the verb. A
    signal that is ignored (SIGHUP under nohup) stays ignored.
    """

    def __init__(self) -> None:
        self.stop: Callable[[], None] | None = None
        self._number: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> SignalEnd:
        """Take over the signals, in the main thread alone."""
        if threading.current_thread() is threading.main_thread():
            for number in ENDING:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exc: object) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def finish(self) -> None:
        """End with the exit code of the signal that came, if one came."""
        if self._number is not None:
            raise SystemExit(SIGNAL_BASE + self._number)

    def _handle(self, number: int, _: FrameType | None) -> None:
        second = self._number is not None
        self._number = self._number or number
        if second or self.stop is None:
            self.finish()
        else:
            self.stop()
