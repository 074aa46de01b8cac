"""One process of the service as the supervisor sees it: start, signs of life, end, next start."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Literal

from cstl_edge.serve.child import resident_bytes, start_child
from cstl_edge.serve.link import Link, OnEnd, OnMessage, pair
from cstl_edge.serve.messages import LastWords, ProcessState, Stop, now
from cstl_edge.serve.restarts import WITHIN_S, RestartPolicy

FIRST_BEAT_S = 90.0  # from the start to the first sign of life: a model is loaded meanwhile
KILL_AFTER_S = 4.5  # from asking a process to end to killing it
MEMORY_CHECK_S = 2.0
MIB = 2**20

Phase = Literal["running", "waiting", "off", "stopped"]


@dataclass(frozen=True)
class ProcessPlan:
    """What a process runs, and when it counts as broken."""

    name: str
    entry: str  # `module:function`
    arguments: tuple[Any, ...]
    hang_s: float  # without a sign of life
    memory_bytes: int
    identity: tuple[Any, ...] = ()  # a change of the site that changes it demands a new life


class ManagedProcess:
    """A process of the service, over all its lives."""

    def __init__(
        self,
        plan: ProcessPlan,
        on_message: OnMessage,
        on_end: OnEnd,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; `start` starts its first life.

        Args:
            plan: What it runs.
            on_message: Called with its name and each message of its control link.
            on_end: Called with its name when the control link ends.
            clock: Monotonic seconds.
        """
        self.plan, self.phase = plan, "stopped"
        self.reason: str | None = None
        self.control: Link | None = None
        self.policy = RestartPolicy(clock)
        self.next_start_s = 0.0
        self._on_message, self._on_end, self._clock = on_message, on_end, clock
        self._process: SpawnProcess | None = None
        self._beat_s = self._checked_s = 0.0
        self._beaten = False
        self._memory: int | None = None
        self._started_utc: datetime | None = None
        self._asked_s: float | None = None  # to end
        self._broken: str | None = None  # why it is being killed
        self._last_words: LastWords | None = None

    @property
    def name(self) -> str:
        """Name of the process."""
        return self.plan.name

    @property
    def alive(self) -> bool:
        """Whether a process runs, whatever it does."""
        return self._process is not None

    @property
    def beaten(self) -> bool:
        """Whether this life has given a sign of life."""
        return self.alive and self._beaten

    def start(self) -> None:
        """Start a life."""
        ours, theirs = pair()
        spawn = multiprocessing.get_context("spawn")
        arguments = (self.name, theirs, self.plan.entry, self.plan.arguments)
        process = spawn.Process(target=start_child, args=arguments, name=self.name)
        with _without_main():
            process.start()
        theirs.close()
        self._process, self.phase = process, "running"
        self._beat_s = self._clock()
        self._started_utc, self._memory = now(), None
        self._beaten, self._asked_s, self._broken, self._last_words = False, None, None, None
        self.control = Link(self.name, ours, self._receive, self._on_end).start()

    def _receive(self, peer: str, message: Any) -> None:
        if isinstance(message, LastWords):
            self._last_words = message
        self._on_message(peer, message)

    def beat(self) -> None:
        """Take a sign of life."""
        self._beat_s, self._beaten = self._clock(), True

    def excuse(self, seconds: float) -> None:
        """Leave out some seconds in which no process ran, or nobody looked."""
        self._beat_s = min(self._beat_s + seconds, self._clock())

    def ask_to_end(self, within_s: float) -> None:
        """Ask the present life to end."""
        if self._process is not None and self._asked_s is None:
            self._asked_s = self._clock()
            if self.control is not None:
                self.control.send(Stop(within_s))

    def kill(self) -> None:
        """Kill the present life."""
        if self._process is not None:
            self._process.kill()

    def check(self) -> None:
        """Kill what hangs, grows or does not end."""
        if self._process is None:
            return
        now_s = self._clock()
        patience = self.plan.hang_s if self._beaten else max(FIRST_BEAT_S, self.plan.hang_s)
        if self._asked_s is not None:
            if now_s - self._asked_s > KILL_AFTER_S:
                self.kill()
        elif now_s - self._beat_s > patience:
            self._broken = f"hung: no sign of life for {patience:g} s"
            self.kill()
        elif now_s - self._checked_s > MEMORY_CHECK_S:
            self._checked_s = now_s
            self._memory = resident_bytes(self._process.pid or 0)
            if (self._memory or 0) > self.plan.memory_bytes:
                limit = self.plan.memory_bytes // MIB
                self._broken = f"grew to {(self._memory or 0) // MIB} MiB; its limit is {limit} MiB"
                self.ask_to_end(KILL_AFTER_S)

    def reap(self) -> bool:
        """Bury a life that has ended; return whether one had."""
        process = self._process
        if process is None or process.is_alive():
            return False
        process.join()
        self._process = None
        if self.control is not None:
            self.control.close()
        code = process.exitcode
        process.close()
        self.reason = self._broken or self._words(code)
        self.phase = "stopped"
        return True

    def plan_restart(self) -> None:
        """Wait for the next life, or leave the process off after too many deaths."""
        delay_s = self.policy.died()
        if delay_s is None:
            self.phase = "off"
            minutes = WITHIN_S / 60
            self.reason = f"{self.policy.recent} deaths in {minutes:g} minutes; last: {self.reason}"
        else:
            self.phase, self.next_start_s = "waiting", self._clock() + delay_s

    @property
    def exit_code(self) -> int:
        """Exit code that the last words of the present or last life gave; 1 without any."""
        return self._last_words.exit_code if self._last_words is not None else 1

    @property
    def due(self) -> bool:
        """Whether the next life is to start now."""
        return self.phase == "waiting" and self._clock() >= self.next_start_s

    def state(self) -> ProcessState:
        """Return what page and outputs are told."""
        phase = self.phase
        shown = "starting" if phase == "running" and not self._beaten else phase
        pid = self._process.pid if self._process is not None else None
        return ProcessState(
            name=self.name,
            state=shown,  # type: ignore[arg-type]
            pid=pid,
            started_utc=self._started_utc if pid is not None else None,
            restarts=self.policy.total,
            reason=self.reason,
            memory_bytes=self._memory if pid is not None else None,
            cpu_s=cpu_seconds(pid) if pid is not None else None,
        )

    def _words(self, code: int | None) -> str:
        if self._last_words is not None:
            return self._last_words.text
        if code is not None and code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
            return f"killed by {name}"
        return f"ended with exit code {code}"


def cpu_seconds(pid: int) -> float | None:
    """Return the processor time of a process, None where that is not known."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Hide the main module: a child would import the whole command line with it."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
