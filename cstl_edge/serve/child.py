"""A process of the service, as its own main function sees it: messages in, messages out, heartbeat.

`start_child` is what the supervisor spawns. SIGTERM and `Stop` end it alike; SIGINT is the
supervisor's; without a supervisor it ends by itself.
"""

from __future__ import annotations

import importlib
import logging
import os
import queue
import resource
import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from cstl_edge.errors import CstlEdgeError, one_line
from cstl_edge.serve.link import Link
from cstl_edge.serve.messages import (
    FRONT,
    SUPERVISOR,
    Attach,
    Detach,
    LastWords,
    Message,
    Stats,
    Stop,
    now,
)

log = logging.getLogger(__name__)

BEAT_EVERY_S = 1.0
MAX_SAMPLES = 500  # of a stage between two beats
MAX_INBOX = 256  # messages that wait in a process; then its pipes fill, and their senders drop
PUT_TICK_S = 0.2
END_S = 3.8  # from the wish to end to the end, whatever hangs
SECRETS = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")  # the supervisor's alone

Received = tuple[str, Message]


class Child:
    """This process, between its links."""

    def __init__(self, name: str, control: Connection) -> None:
        """Open the link to the supervisor.

        name: of this process, such as `camera:door`
        control: end of the pipe to the supervisor
        """
        self.name = name
        self.stopping = threading.Event()
        self._inbox: queue.Queue[Received] = queue.Queue(MAX_INBOX)
        self._lock = threading.Lock()
        self._links: dict[str, Link] = {}
        self._beaten_s = 0.0
        self._samples: dict[str, list[float]] = defaultdict(list)
        self._control = Link(SUPERVISOR, control, self._from_supervisor, self._orphaned)
        self._control.start()

    def receive(self, timeout_s: float) -> Received | None:
        """Return the next message and the peer that sent it, None after the time."""
        try:
            return self._inbox.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def send(self, peer: str, message: Message) -> bool:
        """Hand over a message, without waiting; False where the peer is away."""
        if peer == SUPERVISOR:
            return self._control.send(message)
        with self._lock:
            link = self._links.get(peer)
        return link is not None and link.send(message)

    def peers(self) -> frozenset[str]:
        """Return the processes that there is a link to."""
        with self._lock:
            return frozenset(self._links)

    def beat(
        self,
        values: Mapping[str, float] | None = None,
        samples_ms: Mapping[str, list[float]] | None = None,
        texts: Mapping[str, str] | None = None,
        counts: Mapping[str, Mapping[tuple[str, ...], float]] | None = None,
    ) -> None:
        """Tell supervisor and front that the main loop turns, once a second at most.

        Args:
            values: Gauges, and counters since the start, whose names end in `_total`.
            samples_ms: Milliseconds by stage since the last call.
            texts: What the Health page says in words.
            counts: Counters by labels.
        """
        for stage, samples in (samples_ms or {}).items():
            room = MAX_SAMPLES - len(self._samples[stage])
            self._samples[stage].extend(samples[:room])
        if time.monotonic() - self._beaten_s < BEAT_EVERY_S:
            return
        self._beaten_s = time.monotonic()
        stats = Stats(
            process=self.name,
            utc=now(),
            values={**self._own_values(), **(values or {})},
            samples_ms={stage: tuple(samples) for stage, samples in self._samples.items()},
            texts=dict(texts or {}),
            counts=dict(counts or {}),
        )
        self._samples.clear()
        self.send(SUPERVISOR, stats)
        if self.name == FRONT:
            self._deliver(FRONT, stats)
        else:
            self.send(FRONT, stats)

    def close(self, last_words: LastWords | None = None) -> None:
        """Write what waits to the peers, and close all links."""
        self.stopping.set()
        if last_words is not None:
            self._control.send(last_words)
        with self._lock:
            links = [*self._links.values(), self._control]
        for link in links:
            link.close(flush_s=0.5)

    def _own_values(self) -> dict[str, float]:
        with self._lock:
            links = dict(self._links)
        waiting = {f"queue_to_{peer.partition(':')[0]}": 0.0 for peer in links}
        for peer, link in links.items():
            waiting[f"queue_to_{peer.partition(':')[0]}"] += len(link.outbound)
        dropped = sum(link.outbound.dropped_observations for link in links.values())
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "pid": float(os.getpid()),
            "rss_bytes": float(resident_bytes(os.getpid()) or 0),
            "cpu_seconds_total": usage.ru_utime + usage.ru_stime,
            "queue_inbox": float(self._inbox.qsize()),
            "observations_dropped_total": float(dropped),
            **waiting,
        }

    def _from_supervisor(self, peer: str, message: Message) -> None:
        if isinstance(message, Attach):
            end = self._control.receive_end()
            link = Link(message.peer, end, self._deliver, self._peer_left).start()
            with self._lock:
                old = self._links.pop(message.peer, None)
                if not link.ended:
                    self._links[message.peer] = link
            if old is not None:
                old.close()
        elif isinstance(message, Detach):
            with self._lock:
                gone = self._links.pop(message.peer, None)
            if gone is not None:
                gone.close()
        elif isinstance(message, Stop):
            self.stopping.set()
        else:
            self._deliver(peer, message)

    def _deliver(self, peer: str, message: Message) -> None:
        """Put a message into the inbox; a full one makes the link wait."""
        while not self.stopping.is_set():
            try:
                self._inbox.put((peer, message), timeout=PUT_TICK_S)
                return
            except queue.Full:
                continue

    def _peer_left(self, peer: str) -> None:
        with self._lock:
            link = self._links.get(peer)
            if link is not None and link.ended:
                del self._links[peer]

    def _orphaned(self, peer: str) -> None:
        """End: the supervisor is gone."""
        self.stopping.set()


def start_child(name: str, control: Connection, entry: str, arguments: tuple[Any, ...]) -> None:
    """Run a process of the service to its end; what `multiprocessing` starts.

    Args:
        name: Name of the process.
        control: End of the pipe to the supervisor.
        entry: `module:function`, called with the `Child` and the arguments.
        arguments: Further ones, picklable.
    """
    for variable in SECRETS:
        os.environ.pop(variable, None)
    logging.basicConfig(level=logging.WARNING, format=f"{name}: %(message)s", force=True)
    child = Child(name, control)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: child.stopping.set())
    threading.Thread(target=_end_in_time, args=(child,), daemon=True).start()
    words = None
    try:
        module, _, function = entry.partition(":")
        getattr(importlib.import_module(module), function)(child, *arguments)
    except CstlEdgeError as err:
        words = LastWords(name, str(err), err.exit_code)
    except MemoryError:
        words = LastWords(name, "out of memory", CstlEdgeError.exit_code)
    except Exception as err:
        log.exception("unexpected error")
        words = LastWords(name, f"{type(err).__name__}: {one_line(err)}", CstlEdgeError.exit_code)
    child.close(words)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0 if words is None else words.exit_code)  # nothing is left that a teardown would write


def resident_bytes(pid: int) -> int | None:
    """Return the resident memory of a process, None where that is not known."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * resource.getpagesize()


def _end_in_time(child: Child) -> None:
    """End the process some seconds after the wish, whatever hangs."""
    child.stopping.wait()
    time.sleep(END_S)
    os._exit(1)
