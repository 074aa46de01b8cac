"""Lines of schema 1 (`--schema 1`), deprecated: the lines of before, without what is not known."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cstl_edge.deprecations import note_deprecated
from cstl_edge.live.events import DISPLAY_NAMES, Event

if TYPE_CHECKING:
    from cstl_edge.gallery.match import Decision

NAME = "--schema 1"
KEYS = (
    "event", "utc", "monotonic_s", "time_s", "source", "track", "answer", "reason", "distance",
    "threshold", "runner_up", "margin", "frames", "latency_ms", "detail", "unknown",
)  # fmt: skip


def event_line(event: Event) -> str:
    """Return an event as one line of JSON, without what is not known."""
    note_deprecated(NAME)
    unknown = event.answer == "unknown"
    record = event.to_dict() | {
        "event": DISPLAY_NAMES.get(event.event, event.event),
        "answer": "unknown" if unknown else event.person,
        "reason": event.display_reason,
        # a person may be called "unknown": the flag tells the two apart
        "unknown": unknown or None,
    }
    known = {key: record[key] for key in KEYS if record[key] is not None}
    return json.dumps(known, ensure_ascii=False, allow_nan=False)


def decision_row(track: int, frames: int, decision: Decision) -> dict[str, Any]:
    """Return a decision of `identify` as a JSON-ready object.

    Args:
        track: Number of the walker in the source.
        frames: Number of usable frames of the walk.
        decision: Answer of the gallery.
    """
    note_deprecated(NAME)
    answer = decision.name or "unknown"
    figures = asdict(decision)
    del figures["confidence"]  # which it knew not
    return {"track": track, "frames": frames, "answer": answer, **figures}
