"""Events of the live path and decisions of `identify`: one shape, one JSON object, one line.

Schema 2: every key is always there, what is not known is null, numbers have four decimals.
`assets/event.schema.json` is its JSON Schema; `event_schema_1` writes the lines of schema 1. Every
track that is born is closed, and every closed one carries its last word: a person's name,
`unknown`, or the reason why there is no answer.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timezone
from enum import Enum
from typing import Any, ClassVar, Literal

from cstl_edge.errors import one_line
from cstl_edge.gallery.match import Decision, NoMatch
from cstl_edge.live.segmentation.base import SceneState
from cstl_edge.live.tracking.walk_filter import Reason
from cstl_edge.output import JsonLines

SCHEMA: Literal[2] = 2
MAX_DIGITS = 4  # decimal places of numbers in the JSON
MODEL_DIGITS = 12  # of a model's sha256

EventName = Literal[
    "source", "scene", "born", "pending", "named", "changed", "closed", "backend_down", "gallery"
]
State = Literal[
    "opening", "online", "offline", "ended",  # of a source
    "learning", "ready", "disturbed",  # of a scene
    "purged", "changed",  # of a gallery
]  # fmt: skip
SCENE_STATES: dict[SceneState, State] = {
    SceneState.LEARNING: "learning",
    SceneState.READY: "ready",
    SceneState.DISTURBED: "disturbed",
}
DISPLAY_NAMES = {"named": "identified", "scene": "source"}  # in lines for people and in schema 1


Cause = Reason | SceneState | NoMatch


class ReasonCode(str, Enum):
    """Why there is no answer, or what is wrong with a source; the sentence is in `reason`."""

    cause: Cause | None  # its value is the sentence in `reason`; None where that is free

    def __new__(cls, code: str, cause: Cause | None = None) -> ReasonCode:
        """Make a member of a code and its cause."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.cause = cause
        return member

    TOO_FEW_FRAMES = "too_few_frames", Reason.TOO_FEW  # or too early to know a walk
    TOO_SMALL = "too_small", Reason.TOO_SMALL  # the person is too small in the picture
    CLIPPED = "clipped", Reason.CLIPPED  # the person reaches beyond the border of the picture
    EMPTY_MASK = "empty_mask", Reason.EMPTY  # the mask shows nobody
    NOT_PERSON_SHAPED = "not_person_shaped", Reason.NOT_PERSON  # the mask is not one whole person
    STANDING_STILL = "standing_still", Reason.STANDING  # the person does not walk
    NOT_WALKING = "not_walking", Reason.NOT_WALKING  # the person moves otherwise than by walking
    MERGED = "merged", Reason.MERGED  # the person's mask is merged with a neighbour's
    OUT_OF_SIGHT = "out_of_sight", Reason.HIDDEN  # the person is hidden
    MIXED = "mixed", Reason.MIXED  # the windows of a walk are of two people: it begins anew
    IN_DOUBT = "in_doubt", Reason.DOUBT  # nobody can tell whether the track is the same person
    NO_GALLERY = "no_gallery", NoMatch.NO_GALLERY  # there is no gallery to search
    GALLERY_EMPTY = "gallery_empty", NoMatch.GALLERY_EMPTY  # nobody is enrolled
    NOT_FINITE = "not_finite", NoMatch.NOT_FINITE  # the embedding holds a NaN or an infinity
    NO_CALIBRATION = "no_calibration", NoMatch.NO_CALIBRATION  # no threshold for the wanted rate
    TOO_FAR = "too_far", NoMatch.TOO_FAR  # beyond the threshold: unknown
    AMBIGUOUS = "ambiguous", NoMatch.AMBIGUOUS  # two people are equally near: unknown
    CORRECTED = "corrected", NoMatch.CORRECTED  # a correction says who it is not: unknown
    BACKEND_FAILED = "backend_failed"  # the runtime or its GPU failed and stays away
    SOURCE_OFFLINE = "source_offline"  # fell silent or cannot be opened; it is tried again
    SCENE_LEARNING = "scene_learning", SceneState.LEARNING  # the segmenter learns the empty scene
    SCENE_DISTURBED = "scene_disturbed", SceneState.DISTURBED  # the camera or the light changed
    UPSIDE_DOWN = "upside_down"  # everybody walks on their head: the camera hangs upside down


REASON_CODES = {code.cause: code for code in ReasonCode if code.cause is not None}


@dataclass(frozen=True, kw_only=True)
class Event:
    """One thing that happened, or one decision of `identify` (a `closed`)."""

    # for pydantic, which makes the JSON Schema: it is imported there alone
    __pydantic_config__: ClassVar[dict[str, Any]] = {"use_attribute_docstrings": True}

    schema: Literal[2] = SCHEMA
    """Version of this shape."""
    event: EventName
    """State of a source; of its scene; a visit begins; it has no answer yet; it has a first or
    another answer; something else about it changed, as `detail` says (joined, parted, corrected);
    it ends, with its last word; the runtime failed, or a server is back; the gallery changed or
    erased people whose retention has ended."""
    utc: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    """When it was reported."""
    monotonic_s: float = field(default_factory=time.monotonic)
    """When it was reported, by the monotonic clock."""
    time_s: float | None = None
    """Media time of a file, the monotonic clock of a live source."""
    source: str
    """Address, without credentials."""
    camera: str | None = None
    """Name of the camera, where one was given."""
    state: State | None = None
    """Of a source, a scene, a backend (offline, online) or a gallery."""
    reason_code: ReasonCode | None = None
    """Why there is no answer, for programs; set wherever `reason` is."""
    reason: str | None = None
    """Why there is no answer, or what is wrong, for people."""
    detail: str | None = None
    """More for people: what became of the frames of a track, attempts at a source."""
    track: int | None = None
    """Who, within this run."""
    visit: str | None = None
    """A stay on one camera, unique for ever; `live` and `identify` make one of each track, the
    service of all tracks of one person in a row."""
    started_utc: datetime | None = None
    """When the visit began."""
    ended_utc: datetime | None = None
    """When the visit ended: when somebody was last seen of it."""
    box: tuple[float, float, float, float] | None = None
    """x0, y0, x1, y1 in pixels of the source's picture, where the track was seen last."""
    zone: str | None = None
    """Part of the picture where the feet stand; null without zones."""
    answer: Literal["known", "unknown", "none"] | None = None
    """Of an event of a track: a person, nobody who is enrolled, or no answer."""
    person: str | None = None
    """Name of the person, with `known`."""
    cluster: str | None = None
    """Group of visits of somebody unknown, where the service keeps such groups."""
    distance: float | None = None
    """To the nearest person, named or not."""
    threshold: float | None = None
    """Distance below which a name is given."""
    margin: float | None = None
    """Distance of the runner-up minus `distance`."""
    runner_up: str | None = None
    """Name of the nearest other person."""
    confidence: float | None = None
    """How often answers like it were right on held-out synthetic walks, 0..1: of a person that
    the walker is that person, of `unknown` that the walker is not the nearest person; null where
    the model is not calibrated."""
    frames: int | None = None
    """Usable frames of the track."""
    latency_ms: float | None = None
    """Since the deciding frame was read."""
    model: str | None = None
    """sha256 of the weights, its first 12 digits."""
    snapshot: str | None = None
    """Id of a picture, where the service keeps pictures."""

    def with_reason(self, reason: Cause) -> Event:
        """Return this event with a reason and its code."""
        return replace(self, reason=reason.value, reason_code=REASON_CODES[reason])

    def with_decision(self, decision: Decision) -> Event:
        """Return this event with what the gallery decided."""
        event = self if decision.reason is None else self.with_reason(decision.reason)
        same = ("distance", "threshold", "margin", "runner_up", "confidence")
        figures = {name: getattr(decision, name) for name in same}
        answer: Literal["known", "unknown"] = "unknown" if decision.name is None else "known"
        return replace(event, answer=answer, person=decision.name, **figures)

    @property
    def display_reason(self) -> str | None:
        """The reason behind the state that it is one of, for people and for schema 1."""
        if self.event == "scene":
            return f"scene: {self.reason or self.detail or self.state}"
        if self.event == "source":
            return f"{self.state}: {self.reason}" if self.reason else self.state
        return self.reason

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object: every key, null where nothing is known."""
        return {key.name: _json_value(getattr(self, key.name)) for key in fields(self)}

    def to_json(self) -> str:
        """Return one line of JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)

    def __str__(self) -> str:
        """Return one line for people."""
        who = f"track {self.track}" if self.track is not None else one_line(self.source)
        words = [who, DISPLAY_NAMES.get(self.event, self.event)]
        if self.answer == "known":
            words.append(f"as {one_line(self.person)}")
        elif self.answer == "unknown":
            words.append(self.answer)
        if self.distance is not None and self.threshold is not None:
            words.append(f"(distance {self.distance:.2f}, threshold {self.threshold:.2f})")
        if self.display_reason is not None:
            words.append(f"- {one_line(self.display_reason)}")
        if self.detail is not None and self.detail not in (self.display_reason or ""):
            words.append(f"({one_line(self.detail)})")
        return " ".join(words)


def _json_value(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, MAX_DIGITS)
    if isinstance(value, tuple):
        return [_json_value(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    return utc_text(value) if isinstance(value, datetime) else value


def new_visit(when: datetime | None = None) -> str:
    """Return the id of a new visit: unique for ever, in order of time, safe in an address.

    when: of its begin; now, by default
    """
    moment = (when or datetime.now(timezone.utc)).astimezone(timezone.utc)
    return f"{moment:%Y%m%dT%H%M%S}-{secrets.token_hex(5)}"


def utc_text(when: datetime) -> str:
    """Return a time as ISO 8601 with zone and milliseconds.

    >>> utc_text(datetime(2026, 11, 1, 12, tzinfo=timezone.utc))
    '2026-11-01T12:00:00.000+00:00'
    """
    return when.astimezone(timezone.utc).isoformat(timespec="milliseconds")


def model_digits(weights_sha256: str) -> str | None:
    """Return the digits by which events name a model, None for weights that are not on disk."""
    return weights_sha256[:MODEL_DIGITS] or None


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of an event; `assets/event.schema.json` holds it."""
    from pydantic import TypeAdapter

    schema = TypeAdapter(Event).json_schema(mode="serialization")
    codes = schema.pop("$defs")["ReasonCode"]["enum"]
    for name, form in schema["properties"].items():
        form.pop("title", None)
        form.pop("default", None)
        form.pop("enum" if "const" in form else "const", None)  # older pydantic has both
        form["description"] = " ".join(form["description"].split())
        if name == "reason_code":
            form["anyOf"] = [{"enum": codes}, {"type": "null"}]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "cstl-edge event, schema 2",
        "description": "One line of `live --json`, one member of the array of `identify --json`.",
        "type": "object",
        "properties": schema["properties"],
        "required": list(schema["properties"]),
        "additionalProperties": False,
    }


def is_event(record: Mapping[str, Any]) -> bool:
    """Tell whether a JSON object is a line of an event log, of schema 1 or 2."""
    return isinstance(record.get("event"), str) and "utc" in record and "source" in record


class EventLog:
    """Appends events to a file of JSON lines, each with one write; a context manager."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        line_of: Callable[[Event], str] = Event.to_json,
        *,
        overwrite: bool = False,
    ) -> None:
        """Open the file, or make it, readable by its owner alone.

        Args:
            path: File; missing folders are made.
            line_of: Form of a line.
            overwrite: True to empty a file of something else than events.

        Raises:
            StorageError: The disk refuses.
        """
        self._lines = JsonLines(path, overwrite_foreign=is_event if overwrite else None)
        self._line_of = line_of

    def write(self, event: Event) -> None:
        """Append one event; StorageError when the disk is full, with no half line left."""
        self._lines.write(self._line_of(event))

    def close(self) -> None:
        """Close the file; may be called twice."""
        self._lines.close()

    def __enter__(self) -> EventLog:
        """Return the log."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close the file."""
        self.close()
