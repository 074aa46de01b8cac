"""What Prometheus reads at `/metrics`: one registry, fed by the messages of all processes.

Base units, `cstl_edge_` before every name, cameras and processes as labels, never people. Counters
go on over restarts of a process. Names of `Stats` that are not in the tables here are left out.
"""

from __future__ import annotations

import re
import threading
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from cstl_edge import __version__
from cstl_edge.extras import missing_package
from cstl_edge.serve.messages import ServiceState, Stats, camera_of
from cstl_edge.serve.outputs.base import OutputHealth

if TYPE_CHECKING:
    from prometheus_client.core import Metric

PREFIX = "cstl_edge_"
EDGES_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Upper edges of the buckets [s]; 0.2 is one because no frame may be later."""

Labels = tuple[str, ...]


class Family(NamedTuple):
    """One metric."""

    name: str  # without prefix, and without `_total` of a counter
    help: str
    labels: Labels = ()


CAMERA, PROCESS = ("camera",), ("process",)
VALUES: Mapping[str, Family] = {  # of workers by camera; of all others without a label
    "camera:frames_total": Family("camera_frames", "Frames that went through perception.", CAMERA),
    "camera:dropped_total": Family(
        "camera_frames_dropped", "Frames that a newer one replaced before they were used.", CAMERA
    ),
    "camera:openings_total": Family(
        "camera_openings", "Attempts to open the camera's source.", CAMERA
    ),
    "camera:observations_dropped_total": Family(
        "camera_observations_dropped", "Observations that the recogniser was too slow for.", CAMERA
    ),
    "camera:unfollowed_total": Family(
        "camera_detections_unfollowed", "Detections without a track: too many people.", CAMERA
    ),
    "camera:camera_up": Family("camera_up", "Whether frames come (1) or not (0).", CAMERA),
    "camera:tracks": Family("camera_tracks", "People in view.", CAMERA),
    "recogniser:frames_total": Family(
        "recogniser_silhouettes", "Silhouettes that went through the network."
    ),
    "recogniser:visits_open": Family("visits_open", "Visits that go on."),
    "recogniser:commands_total": Family("commands", "Commands of page and REST."),
    "recogniser:erasures_unfinished": Family(
        "erasures_unfinished", "Erasures that wait for a disk, and are tried again."
    ),
    "recogniser:store_bytes": Family("store_bytes", "Size of the store with its media."),
    "recogniser:free_bytes": Family("free_bytes", "Free space where the data are."),
    "front:page_clients": Family("page_clients", "Clients that watch live pictures."),
    "front:page_clients_dropped_total": Family(
        "page_clients_dropped", "Clients that were dropped because they did not read."
    ),
    "front:pictures_total": Family("page_pictures", "Pictures that were sent to clients."),
    "*:rss_bytes": Family(
        "process_resident_memory_bytes", "Resident memory of the process.", PROCESS
    ),
    "*:cpu_seconds_total": Family("process_cpu_seconds", "CPU time of the process.", PROCESS),
}
COUNTS: Mapping[str, Family] = {
    "answers_total": Family(
        "answers", "Answers by kind, and the reason where there is none.", ("answer", "reason")
    ),
}
FRAME_AGE, ANSWER_AGE = "frame_age", "answer"
HISTOGRAMS: Mapping[str, Family] = {
    FRAME_AGE: Family(
        "frame_age_seconds", "From reading a frame until its observation is handed over.", CAMERA
    ),
    ANSWER_AGE: Family(
        "answer_latency_seconds", "From reading the deciding frame until its event is stored."
    ),
}
STAGE = Family("stage_duration_seconds", "Duration of a stage.", ("process", "stage"))
STAGE_NAME = re.compile(r"[a-z][a-z_]{0,30}")
QUEUE = Family("queue_length", "What waits in a queue.", ("process", "queue"))
QUEUE_NAME = re.compile(r"queue_([a-z][a-z_]{0,30})")
MAX_SERIES = 10_000  # of one family: labels are ours, this is against a defect


class Buckets:
    """Durations by bucket of EDGES_S; behind the last edge comes +Inf."""

    def __init__(self) -> None:
        self.counts = [0] * (len(EDGES_S) + 1)
        self.sum_s = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration; an edge belongs to its bucket."""
        self.counts[bisect_left(EDGES_S, seconds)] += 1
        self.sum_s += seconds


class MetricsRegistry:
    """All figures of the service; may be fed and rendered from any thread."""

    def __init__(self, outputs: Callable[[], Iterable[OutputHealth]] = tuple) -> None:
        """Begin empty; `outputs` gives the state of outputs, which is read at every scrape."""
        try:
            from prometheus_client import CollectorRegistry
        except ModuleNotFoundError as err:
            raise missing_package("/metrics needs prometheus-client", "serve") from err
        self._lock, self._outputs = threading.Lock(), outputs
        self._gauges: dict[Family, dict[Labels, float]] = defaultdict(dict)
        self._counters: dict[Family, dict[Labels, float]] = defaultdict(dict)
        self._buckets: dict[Family, dict[Labels, Buckets]] = defaultdict(dict)
        self._last: dict[tuple[str, str, Labels], float] = {}  # counters as a process sent them
        self._pids: dict[str, float] = {}
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def feed(self, stats: Stats) -> None:
        """Take in what a process sends."""
        with self._lock:
            self._notice_restart(stats)
            for name, value in stats.values.items():
                self._value(stats.process, name, value)
            for name, rows in stats.counts.items():
                family = COUNTS.get(name)
                for labels, value in rows.items() if family else ():
                    if family and len(labels) == len(family.labels):
                        self._raise(family, labels, stats.process, name, value)
            for stage, samples in stats.samples_ms.items():
                self._samples(stats.process, stage, samples)

    def feed_service(self, state: ServiceState) -> None:
        """Take in what the supervisor knows of processes and cameras."""
        up = Family("process_up", "Whether the process runs (1) or not (0).", PROCESS)
        restarts = Family("process_restarts", "Restarts of the process.", PROCESS)
        ready = Family("ready", "Whether every camera was seen or is explained.")
        names = {process.name for process in state.processes}
        with self._lock:
            self._gauges[ready][()] = float(state.ready)
            self._gauges[up] = {(p.name,): float(p.state == "running") for p in state.processes}
            self._counters[restarts] = {(p.name,): float(p.restarts) for p in state.processes}
            gone = {process for process, _, _ in self._last if camera_of(process)} - names
            if names and gone:
                self._drop(gone)

    def render(self) -> tuple[bytes, str]:
        """Return the text of all metrics and its content type."""
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    def _notice_restart(self, stats: Stats) -> None:
        pid = stats.values.get("pid")
        if pid is not None and self._pids.get(stats.process) != pid:
            self._pids[stats.process] = pid
            for key in [key for key in self._last if key[0] == stats.process]:
                self._last[key] = 0.0

    def _value(self, process: str, name: str, value: float) -> None:
        camera = camera_of(process)
        kind = process if camera is None else "camera"
        queue = QUEUE_NAME.fullmatch(name)
        if queue:
            self._gauges[QUEUE][process, queue[1]] = value
            return
        family = VALUES.get(f"{kind}:{name}") or VALUES.get(f"*:{name}")
        if family is None:
            return
        labels: Labels = ()
        if family.labels:
            labels = (camera,) if camera and family.labels == CAMERA else (process,)
        if name.endswith("_total"):
            self._raise(family, labels, process, name, value)
        else:
            self._gauges[family][labels] = value

    def _raise(self, family: Family, labels: Labels, process: str, name: str, value: float) -> None:
        """Add what a counter grew by since the last message; a smaller value began anew."""
        before = self._last.get((process, name, labels), 0.0)
        self._last[process, name, labels] = value
        rows = self._counters[family]
        if labels in rows or len(rows) < MAX_SERIES:
            rows[labels] = rows.get(labels, 0.0) + (value - before if value >= before else value)

    def _samples(self, process: str, stage: str, samples_ms: Iterable[float]) -> None:
        camera = camera_of(process)
        family = HISTOGRAMS.get(stage)
        labels: Labels = (camera or process,) if family and family.labels else ()
        if family is None:
            if not STAGE_NAME.fullmatch(stage):
                return
            family, labels = STAGE, (process, stage)
        buckets = self._buckets[family].setdefault(labels, Buckets())
        for sample_ms in samples_ms:
            buckets.add(sample_ms / 1e3)

    def _drop(self, processes: set[str]) -> None:
        """Leave out the series of cameras that are gone for good."""
        words = processes | {camera for p in processes if (camera := camera_of(p))}
        for families in (self._gauges, self._counters, self._buckets):
            for family, rows in families.items():
                if family.labels and family.labels[0] in {"camera", "process"}:
                    for labels in [x for x in rows if x[0] in words]:
                        del rows[labels]
        self._last = {key: x for key, x in self._last.items() if key[0] not in processes}

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics; called by prometheus_client."""
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
            InfoMetricFamily,
        )

        yield InfoMetricFamily(f"{PREFIX}build", "Version.", {"version": __version__})
        with self._lock:
            for family, rows in self._gauges.items():
                yield _filled(GaugeMetricFamily, family, rows)
            for family, rows in self._counters.items():
                yield _filled(CounterMetricFamily, family, rows)
            for family, buckets in self._buckets.items():
                metric = HistogramMetricFamily(
                    PREFIX + family.name, family.help, labels=family.labels
                )
                for labels, row in buckets.items():
                    metric.add_metric(labels, _cumulative(row), row.sum_s)
                yield metric
        yield from self._of_outputs(GaugeMetricFamily, CounterMetricFamily)

    def _of_outputs(self, gauge: Any, counter: Any) -> Iterator[Metric]:
        health = list(self._outputs())
        label = ("output",)
        of = {(x.name,): x for x in health}
        yield _filled(
            gauge,
            Family("output_connected", "Whether the output works (1) or not (0).", label),
            {key: float(x.state == "connected") for key, x in of.items()},
        )
        yield _filled(
            gauge,
            Family("output_queue_length", "Messages that wait for the output.", label),
            {key: x.queued for key, x in of.items()},
        )
        yield _filled(
            counter,
            Family("output_messages_sent", "Messages that a receiver acknowledged.", label),
            {key: x.sent for key, x in of.items()},
        )
        yield _filled(
            counter,
            Family("output_messages_dropped", "Messages never sent.", ("output", "reason")),
            {(x.name, why): n for x in health for why, n in x.dropped.items()},
        )


def _filled(kind: Any, family: Family, rows: Mapping[Labels, float]) -> Metric:
    metric = kind(PREFIX + family.name, family.help, labels=family.labels)
    for labels, value in rows.items():
        metric.add_metric(labels, value)
    return metric  # type: ignore[no-any-return]


def _cumulative(row: Buckets) -> list[tuple[str, float]]:
    edges = [*(str(edge) for edge in EDGES_S), "+Inf"]
    total, pairs = 0, []
    for edge, count in zip(edges, row.counts, strict=True):
        total += count
        pairs.append((edge, float(total)))
    return pairs
