"""A registry in which every metric has a value, and the messages that fill it."""

from datetime import datetime, timezone

from cstl_edge.serve.messages import ProcessState, ServiceState, Stats
from cstl_edge.serve.outputs.base import OutputHealth
from cstl_edge.serve.outputs.metrics import COUNTS, VALUES, MetricsRegistry

NOW = datetime(2026, 11, 30, tzinfo=timezone.utc)


def stats(process, values=None, samples_ms=None, counts=None):
    return Stats(
        process=process,
        utc=NOW,
        values=values or {},
        samples_ms=samples_ms or {},
        counts=counts or {},
        texts={"who": "Ada"},
    )


def full_registry():
    """Return a registry in which every metric has a value."""
    health = OutputHealth("mqtt", "mqtt", "connected", None, 3, 10, {"old": 2})
    registry = MetricsRegistry(lambda: (health,))
    for name in VALUES:
        kind, _, key = name.partition(":")
        process = {"camera": "camera:door", "*": "supervisor"}.get(kind, kind)
        registry.feed(stats(process, {key: 1.0, "queue_events": 2.0}))
    registry.feed(stats("camera:door", samples_ms={"frame_age": (10.0,), "segment": (3.0,)}))
    registry.feed(
        stats(
            "recogniser",
            samples_ms={"answer": (10.0,)},
            counts={name: {("none", "too_small"): 4.0} for name in COUNTS},
        )
    )
    processes = (ProcessState("camera:door", "running", restarts=2),)
    registry.feed_service(ServiceState(NOW, processes, {}, ready=True))
    return registry
