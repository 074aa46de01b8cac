"""Rows of the service's store, as typed records; what `reader.Reader` returns.

Times are UTC, ISO 8601 with zone and milliseconds, so that comparing the texts compares the times.
A visit is a person's stay on one camera; visits of one person on several cameras, soon after each
other, are one journey.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

VisitAnswer = Literal["known", "unknown", "none"]
MediaKind = Literal["snapshot", "strip", "clip"]


@dataclass(frozen=True, kw_only=True)
class VisitRow:
    """A stay on one camera."""

    id: str  # unique for ever; letters of an address, safe in a path
    camera: str
    started_utc: str
    seen_utc: str  # when somebody was last seen of it
    ended_utc: str | None = None  # None: it goes on
    journey: str  # id shared by the visits of one way across cameras
    answer: VisitAnswer = "none"
    reason_code: str | None = None  # of no answer or of `unknown`
    reason: str | None = None
    person: str | None = None  # with `known`
    cluster: int | None = None  # of somebody unknown
    distance: float | None = None
    threshold: float | None = None
    margin: float | None = None
    runner_up: str | None = None
    confidence: float | None = None
    corrected_by: str | None = None  # the user who said who it is
    zone: str | None = None
    frames: int = 0  # usable ones
    tracks: int = 1  # that were stitched
    has_walk: bool = False  # whether its embedding is kept, for a correction or an enrolment
    snapshot: str | None = None  # ids of media
    strip: str | None = None
    clip: str | None = None
    model: str | None = None


@dataclass(frozen=True, kw_only=True)
class TrackRow:
    """What is kept of a track of a visit: its walk, where that may be kept."""

    visit: str
    camera: str
    number: int  # of the track, in that run of the camera
    started_utc: str
    ended_utc: str
    windows: float = 0.0  # that do not overlap
    view: str | None = None  # where it walks to
    parts: int = 0
    dimensions: int = 0
    embedding: bytes | None = None  # sealed float16 [p, d]; read by the recogniser alone
    weights_sha256: str = ""
    frames_per_second: float | None = None


@dataclass(frozen=True, kw_only=True)
class EventRow:
    """An event of schema 2 as it was written; `id` rises by one with each."""

    id: int
    utc: str
    event: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class PersonRow:
    """Somebody enrolled, as the gallery has them."""

    name: str
    created_utc: str
    expires_utc: str | None = None
    expired: bool = False
    consent: str = ""  # the newest note
    walks: int = 0
    templates: int = 0
    views: tuple[tuple[str, int], ...] = ()  # walks by view: left, right, towards, away, unknown
    cameras: tuple[str, ...] = ()  # that enrolled them
    advice: tuple[str, ...] = ()  # what is missing, most important first
    merged: int | None = None  # the newest merge into them that can be undone


@dataclass(frozen=True, kw_only=True)
class UnknownRow:
    """A cluster of visits of somebody unknown."""

    id: int
    label: str  # "Unknown 7", or what a user called it
    ignored: bool = False
    visits: int = 0
    cameras: tuple[str, ...] = ()
    first_utc: str | None = None
    last_utc: str | None = None
    usual: str | None = None  # "Tuesdays at 8" in words for people, where there is a habit
    snapshot: str | None = None
    strip: str | None = None
    joined: int | None = None  # the newest join into it that can be undone


@dataclass(frozen=True, kw_only=True)
class MediaRow:
    """A picture, strip or clip; its file lies in the folder of media."""

    id: str
    kind: MediaKind
    visit: str | None
    path: str  # below the folder of media
    mime: str
    bytes: int
    created_utc: str


@dataclass(frozen=True, kw_only=True)
class PresenceRow:
    """Somebody who is here now."""

    visit: str
    camera: str
    answer: VisitAnswer
    person: str | None
    cluster: int | None
    since_utc: str  # of the journey
    seen_utc: str
    journey: str
    snapshot: str | None


@dataclass(frozen=True, kw_only=True)
class LastSeenRow:
    """When and where a person was seen last, whether they are still here or not."""

    person: str
    utc: str
    camera: str
    zone: str | None
    visit: str
    snapshot: str | None
    event: int | None  # id of the newest event about that visit


@dataclass(frozen=True, kw_only=True)
class AuditRow:
    """Who did what to whom."""

    id: int
    utc: str
    user: str
    role: str
    action: str
    subject: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class CorrectionRow:
    """What a user said about a visit."""

    id: int
    utc: str
    visit: str
    person: str | None  # None: nobody who is enrolled
    was: str | None  # the person that was named before
    user: str
    undone_utc: str | None = None


@dataclass(frozen=True, kw_only=True)
class VisitFilter:
    """Which visits or events to read; None does not filter."""

    cameras: tuple[str, ...] | None = None  # of these alone: also what a role may see
    person: str | None = None
    cluster: int | None = None
    answer: VisitAnswer | None = None
    journey: str | None = None
    since_utc: str | None = None  # begun at or after
    until_utc: str | None = None  # begun before
    open_only: bool = False


@dataclass(frozen=True, kw_only=True)
class VisitPage:
    """Some visits, the newest first; `next` continues behind them, None at the end."""

    visits: tuple[VisitRow, ...]
    next: str | None
