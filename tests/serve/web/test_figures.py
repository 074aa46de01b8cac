"""Latencies of the Health page: of the last minute, also where nobody looks."""

from datetime import datetime, timezone

from cstl_edge.serve.messages import Stats
from cstl_edge.serve.web import figures
from cstl_edge.serve.web.figures import WINDOW_S, Latencies


def test_samples_go_after_a_minute_without_anybody_asking(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(figures.time, "monotonic", lambda: now[0])
    latencies = Latencies()
    for second in range(200):
        now[0] = float(second)
        stats = Stats(
            "camera:door", datetime.now(timezone.utc), {}, {"track": (float(second),) * 10}
        )
        latencies.feed(stats)
    kept = latencies._samples["camera:door", "track"]
    assert len(kept) == 10 * (WINDOW_S + 1)
    assert latencies.of("camera:door")["track"]["p50"] == 169.0
