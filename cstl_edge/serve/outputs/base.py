"""What every output has: a thread of its own, woken by new events, and a state for the page."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from cstl_edge.errors import CstlEdgeError, one_line
from cstl_edge.serve.messages import CameraState
from cstl_edge.serve.outputs.outbox import Outbox
from cstl_edge.serve.reader import Reader

OutputState = Literal["connected", "waiting", "failing", "off"]
"""Works; has not been connected yet, or waits for a try; was refused; does not try any more."""

IDLE_S = 1.0  # how often an output looks by itself, should a wake-up be lost

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OutputHealth:
    """State of one output, for page and metrics."""

    name: str
    kind: str
    state: OutputState
    reason: str | None
    queued: int
    sent: int
    dropped: Mapping[str, int]  # by reason: full, old, erased, refused


class Output(Protocol):
    """An output that runs; no call blocks or raises."""

    name: str
    kind: str

    def wake(self) -> None:
        """Say that there are new events; may be called from any thread."""

    def close(self, within_s: float) -> None:
        """End within a time [s]; what was not acknowledged is sent by the next run."""

    def health(self) -> OutputHealth:
        """Return the state."""


class RunningOutputs(Protocol):
    """All outputs of the front process, as the page sees them; no call blocks or raises."""

    def health(self) -> tuple[OutputHealth, ...]:
        """Return the state of every output of the site."""


@dataclass(frozen=True)
class Surroundings:
    """What outputs need of the service."""

    site: str  # its name
    reader: Reader
    outbox: Outbox
    cameras: Callable[[], Mapping[str, CameraState | None]]  # of the site, with their last state
    camera_title: Callable[[str], str] = str  # name of a camera for people

    def health(self, name: str, kind: str, state: OutputState, reason: str | None) -> OutputHealth:
        """Return the state of an output with the figures of its queue.

        Args:
            name: Of the output.
            kind: Such as `webhook`.
            state: What it does.
            reason: Why it does not work.
        """
        try:
            queued, counters = self.outbox.figures(name)
        except CstlEdgeError as err:
            return OutputHealth(name, kind, "failing", one_line(err), 0, 0, {})
        dropped = {key[8:]: n for key, n in counters.items() if key.startswith("dropped_")}
        return OutputHealth(name, kind, state, reason, queued, counters.get("sent", 0), dropped)


class OutputThread:
    """Runs a function again and again in a thread: at each wake-up, and every second.

    An error of the package (a full disk, a store that is not there yet) is kept as `fault` and
    tried again after growing delays; any other error is a defect: logged with its trace, and
    treated alike, so that an output never ends by itself.
    """

    MAX_DELAY_S = 30.0

    def __init__(self, name: str, step: Callable[[], float | None]) -> None:
        """Prepare a thread.

        Args:
            name: Of the thread.
            step: Does what there is to do; returns after how many seconds it wants to be called
                again, None for the usual pace.
        """
        self.fault: str | None = None
        self.stopping = threading.Event()
        self._step, self._awake = step, threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """Call the function soon."""
        self._awake.set()

    def stop(self, within_s: float) -> None:
        """End the thread; it is left behind where it does not end in time."""
        self.stopping.set()
        self._awake.set()
        if self._thread.is_alive():
            self._thread.join(within_s)

    def _run(self) -> None:
        delay_s = 0.0
        while not self.stopping.is_set():
            self._awake.clear()
            try:
                wait_s = self._step()
                self.fault, delay_s = None, 0.0
                wait_s = IDLE_S if wait_s is None else min(max(wait_s, 0.0), IDLE_S)
                self._awake.wait(wait_s)
            except Exception as err:
                first = self.fault is None
                self.fault = one_line(err)
                if first:
                    defect = not isinstance(err, CstlEdgeError)
                    log.warning("output %s: %s", self._thread.name, self.fault, exc_info=defect)
                delay_s = min(max(1.0, 2 * delay_s), self.MAX_DELAY_S)
                self.stopping.wait(delay_s)
