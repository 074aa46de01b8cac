"""Lines of schema 1 (`--schema 1`) as the version before wrote them; gone in the next one."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cstl_edge.live.events import MAX_DIGITS, SPOKEN_NAMES, Event, utc_text

if TYPE_CHECKING:
    from cstl_edge.gallery.match import Decision


def event_line(event: Event) -> str:
    """Return an event as one line of JSON, without what is not known."""
    unknown = event.answer == "unknown"
    record: dict[str, Any] = {
        "event": SPOKEN_NAMES.get(event.event, event.event),
        "utc": utc_text(event.utc),
        "monotonic_s": event.monotonic_s,
        "time_s": event.time_s,
        "source": event.source,
        "track": event.track,
        "answer": "unknown" if unknown else event.person,
        "reason": event.spoken_reason,
        "distance": event.distance,
        "threshold": event.threshold,
        "runner_up": event.runner_up,
        "margin": event.margin,
        "frames": event.frames,
        "latency_ms": event.latency_ms,
        "detail": event.detail,
        # a person may be called "unknown": the flag tells the two apart
        "unknown": unknown or None,
    }
    known = {
        key: round(value, MAX_DIGITS) if isinstance(value, float) else value
        for key, value in record.items()
        if value is not None
    }
    return json.dumps(known, ensure_ascii=False, allow_nan=False)


def decision_row(track: int, frames: int, decision: Decision) -> dict[str, Any]:
    """Return a decision of `identify` as a JSON-ready object.

    Args:
        track: Number of the walker in the source.
        frames: Usable ones of the walk.
        decision: Of the gallery.
    """
    answer = decision.name or "unknown"
    return {"track": track, "frames": frames, "answer": answer, **asdict(decision)}
