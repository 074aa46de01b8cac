"""The outputs of a site, opened by the front process: their table, start, reload, state, end.

Each runs in threads of its own; nothing here blocks the event loop or raises because of a broker, a
receiver or a disk. An output that cannot start is `off` with its reason.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from cstl_edge.errors import CstlEdgeError, one_line
from cstl_edge.registry import Entry, Registry
from cstl_edge.serve.context import FrontContext
from cstl_edge.serve.messages import CameraState
from cstl_edge.serve.outputs.base import Output, OutputHealth, Surroundings
from cstl_edge.serve.outputs.metrics import MetricsRegistry
from cstl_edge.serve.outputs.outbox import Outbox
from cstl_edge.serve.outputs.settings import OutputsSettings
from cstl_edge.serve.reader import Reader
from cstl_edge.serve.site import Site

OUTPUTS = Registry(
    "output",
    {
        "mqtt": Entry("cstl_edge.serve.outputs.mqtt:Mqtt", "events and states at a broker"),
        "webhook": Entry("cstl_edge.serve.outputs.webhook:Webhook", "calls an address"),
    },
)
RELOAD_WITHIN_S = 2.0

log = logging.getLogger(__name__)


class SiteOutputs:
    """All outputs of a running front process."""

    def __init__(self, context: FrontContext) -> None:
        """Start what the site names, and follow the service; `start` says it as a function."""
        self._context, self._lock = context, threading.Lock()
        self._running: dict[str, Output] = {}
        self._settings: dict[str, tuple[str, Any]] = {}  # kind and settings of each that runs
        self._failed: dict[str, OutputHealth] = {}
        self._site = ""
        self._outbox: Outbox | None = None
        self._closed = False
        self.metrics = MetricsRegistry(self.health)
        self._follow: list[Callable[[], None]] = [
            context.on_event(lambda _event: self.wake()),
            context.on_state(self.metrics.feed_service),
            context.on_stats(self.metrics.feed),
            context.on_site(self._reload),
        ]
        self._reload(context.site)

    def wake(self) -> None:
        """Say that there are new events."""
        for output in list(self._running.values()):
            output.wake()

    def health(self) -> tuple[OutputHealth, ...]:
        """Return the state of every output of the site, those that could not start included."""
        running = tuple(output.health() for output in list(self._running.values()))
        return running + tuple(self._failed.values())

    def stats(self) -> dict[str, float]:
        """Return figures for a `Stats` message: the queues."""
        return {f"queue_{x.kind}": float(x.queued) for x in self.health()}

    def close(self, within_s: float = 2.0) -> None:
        """End all outputs side by side within a time [s]; may be called twice."""
        for unsubscribe in self._follow:
            unsubscribe()
        self._follow = []
        with self._lock:
            self._closed = True
            running, self._running = list(self._running.values()), {}
            _close_all(running, within_s)
            if self._outbox is not None:
                self._outbox.close()

    def _reload(self, site: Site) -> None:
        """Start and end what a site changed, in a thread: the loop does not wait for brokers."""
        threading.Thread(target=self._apply, args=(site,), name="outputs", daemon=True).start()

    def _apply(self, site: Site) -> None:
        wanted = named(site.outputs)
        with self._lock:
            if self._closed:
                return
            if site.name != self._site:  # it stands in topics
                ending = list(self._settings)
            else:
                ending = [x for x in self._settings if wanted.get(x) != self._settings[x]]
            outputs = [self._running.pop(name) for name in ending if name in self._running]
            _close_all(outputs, RELOAD_WITHIN_S)
            for name in ending:
                del self._settings[name]
            self._failed = {n: x for n, x in self._failed.items() if n in self._settings}
            self._site = site.name
            for name, (kind, settings) in wanted.items():
                if name not in self._settings:
                    self._settings[name] = kind, settings
                    self._open(name, kind, settings, site)

    def _open(self, name: str, kind: str, settings: Any, site: Site) -> None:
        try:
            if self._outbox is None:
                self._outbox = Outbox(site.data)
            around = Surroundings(
                site.name, Reader(site.data), self._outbox, self._cameras, self._camera_title
            )
            self._running[name] = OUTPUTS.load(kind)(settings, around)
        except CstlEdgeError as err:
            log.warning("output %s is off: %s", name, err)
            self._failed[name] = OutputHealth(name, kind, "off", one_line(err), 0, 0, {})

    def _cameras(self) -> Mapping[str, CameraState | None]:
        states = self._context.state().cameras
        return {name: states.get(name) for name in self._context.site.cameras}

    def _camera_title(self, camera: str) -> str:
        return self._context.site.camera_title(camera)


def start(context: FrontContext) -> SiteOutputs:
    """Start the outputs of the running site, and feed the metrics."""
    return SiteOutputs(context)


def named(settings: OutputsSettings) -> dict[str, tuple[str, Any]]:
    """Return kind and settings of each output by its name."""
    outputs: dict[str, tuple[str, Any]] = {}
    if settings.mqtt is not None:
        outputs["mqtt"] = "mqtt", settings.mqtt
    return outputs | {f"webhook:{x.name}": ("webhook", x) for x in settings.webhooks}


def _close_all(outputs: list[Output], within_s: float) -> None:
    """End outputs side by side within a time."""
    ends_s = time.monotonic() + within_s
    threads = [
        threading.Thread(target=output.close, args=(within_s,), daemon=True) for output in outputs
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, ends_s - time.monotonic()))
