"""What REST takes and gives: bodies, queries and answers as typed models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from cstl_edge.serve.messages import Overlay
from cstl_edge.serve.store_rows import (
    AuditRow,
    CorrectionRow,
    LastSeenRow,
    PersonRow,
    PresenceRow,
    UnknownRow,
    VisitAnswer,
    VisitRow,
)
from cstl_edge.serve.web.rest.operations import Wire
from cstl_edge.serve.web.settings import Role

PersonName = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^\S(.*\S)?$")]
Utc = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)$")]
Limit = Annotated[int, Field(ge=1, le=500)]
Note = Annotated[str, Field(min_length=1, max_length=500)]


class LoginBody(Wire):
    """A login by name and password, or by token."""

    user: Annotated[str, Field(max_length=64)] = "admin"
    password: Annotated[str, Field(max_length=1024)] | None = None
    token: Annotated[str, Field(max_length=1024)] | None = None


class PictureQuery(Wire):
    """How a camera's picture is drawn."""

    overlay: Overlay = "boxes"
    """`boxes` with names, `segmentation`, or `none`."""


class PicturesQuery(PictureQuery):
    """How a camera's pictures are drawn, and how many."""

    fps: Annotated[float, Field(gt=0, le=30)] = 5.0
    """Pictures per second of a stream, at most."""


class EventsQuery(Wire):
    """Which events."""

    after: Annotated[int, Field(ge=0)] | None = None
    """Number of the last event that is known; without it the newest come, the newest first."""
    limit: Limit = 100
    wait_s: Annotated[float, Field(ge=0, le=30)] = 0.0
    """Seconds to wait for an event where there is none after `after`."""
    camera: str | None = None
    person: str | None = None
    answer: VisitAnswer | None = None
    since: Utc | None = None
    until: Utc | None = None


class StreamQuery(Wire):
    """Which events a stream begins with."""

    after: Annotated[int, Field(ge=0)] | None = None
    """Number of the last event that is known; without it only new ones come."""
    camera: str | None = None
    person: str | None = None
    answer: VisitAnswer | None = None


class VisitsQuery(Wire):
    """Which visits, the newest first."""

    camera: str | None = None
    person: str | None = None
    cluster: int | None = None
    answer: VisitAnswer | None = None
    journey: str | None = None
    since: Utc | None = None
    until: Utc | None = None
    page: Annotated[str, Field(max_length=200)] | None = None
    """`next` of the page before."""
    limit: Limit = 50


class CorrectionBody(Wire):
    """Who it really was."""

    person: PersonName | None
    """Somebody enrolled, or null: nobody who is enrolled."""


class NameBody(Wire):
    """A name for somebody unknown."""

    person: PersonName
    note: Note
    """How the person consented, such as `agreed at the door, 1 May`."""


class JoinBody(Wire):
    """An unknown who is the same one."""

    other: int


class IgnoreBody(Wire):
    """Whether an unknown is ignored."""

    ignored: bool


class RenameBody(Wire):
    """Another name of a person."""

    name: PersonName


class MergeBody(Wire):
    """A person who is the same one; their walks and visits go to the first."""

    other: PersonName


class UnmergeBody(Wire):
    """A merge or a join to undo."""

    merge: int


class EnrolBody(Wire):
    """Who is to be enrolled, and from what: a camera or a visit."""

    person: PersonName
    note: Note
    """How the person consented."""
    camera: str | None = None
    """Enrol whoever walks past this camera alone."""
    visit: str | None = None
    """Enrol the walk of this visit."""
    add: bool = False
    """True to add walks to somebody enrolled."""
    force: bool = False
    """True to add a walk that already matches well."""


class UploadQuery(Wire):
    """Whom an uploaded video shows."""

    person: PersonName
    note: Note
    add: bool = False


class StopBody(Wire):
    """How an enrolment ends."""

    keep: bool = False
    """True to enrol from what came so far."""


class IgnoredQuery(Wire):
    """Which unknowns."""

    ignored: bool = False
    """True to list ignored ones, too."""


class AuditQuery(Wire):
    """Which rows of the audit log, the newest first."""

    before: Annotated[int, Field(ge=1)] | None = None
    limit: Limit = 100


@dataclass(frozen=True, kw_only=True)
class WhoAmI:
    """The user of this request."""

    user: str
    role: Role
    kind: Literal["session", "token", "proxy"]
    cameras: tuple[str, ...] | None
    proof: str | None = None  # X-CSRF-Token of a session: handed out at its beginning
    session_minutes: int = 0


@dataclass(frozen=True, kw_only=True)
class SessionView:
    """One login."""

    id: str
    user: str
    created_utc: str
    seen_utc: str
    address: str
    agent: str
    current: bool


@dataclass(frozen=True, kw_only=True)
class CameraView:
    """One camera and how it is."""

    name: str
    title: str
    state: str
    reason_code: str | None = None
    reason: str | None = None
    since_utc: str | None = None
    source: str = ""  # without credentials
    fps: float | None = None
    dropped: int | None = None
    tracks: int | None = None
    attempt: int = 0
    restarts: int = 0
    process: str | None = None  # state of its process
    picture: str = ""  # addresses
    stream: str = ""


@dataclass(frozen=True, kw_only=True)
class VisitView(VisitRow):
    """A stay on one camera, with addresses of its pictures."""

    camera_title: str = ""
    snapshot_url: str | None = None
    strip_url: str | None = None
    clip_url: str | None = None
    clip_type: str | None = None
    cluster_label: str | None = None


@dataclass(frozen=True, kw_only=True)
class VisitDetail:
    """A visit, the others of its way, and what users said about it."""

    visit: VisitView
    journey: tuple[VisitView, ...]
    corrections: tuple[CorrectionRow, ...]


@dataclass(frozen=True, kw_only=True)
class VisitsView:
    """Some visits; `next` continues behind them, null at the end."""

    visits: tuple[VisitView, ...]
    next: str | None


@dataclass(frozen=True, kw_only=True)
class EventView:
    """An event as it was written."""

    id: int
    event: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class EventsView:
    """Some events; ask again with `after` = `last` for what comes next."""

    events: tuple[EventView, ...]
    last: int


@dataclass(frozen=True, kw_only=True)
class PresenceView(PresenceRow):
    """Somebody who is here now, with the address of a picture."""

    snapshot_url: str | None = None


@dataclass(frozen=True, kw_only=True)
class LastSeenView(LastSeenRow):
    """When and where a person was seen last, with the address of a picture."""

    snapshot_url: str | None = None


@dataclass(frozen=True, kw_only=True)
class HereView:
    """Who is here now, and when everybody was seen last: two things."""

    now: tuple[PresenceView, ...]
    last: tuple[LastSeenView, ...]


@dataclass(frozen=True, kw_only=True)
class UnknownView(UnknownRow):
    """Somebody unknown, with addresses of pictures."""

    snapshot_url: str | None = None
    strip_url: str | None = None


@dataclass(frozen=True, kw_only=True)
class UnknownsView:
    """The unknown visitors, and whether and how long they are kept."""

    enabled: bool
    days: float
    unknowns: tuple[UnknownView, ...]


@dataclass(frozen=True, kw_only=True)
class PersonWarning:
    """Something to look at, such as one person under two names."""

    person: str
    message: str
    other: str | None = None


@dataclass(frozen=True, kw_only=True)
class PeopleView:
    """Everybody enrolled, and what to look at."""

    people: tuple[PersonRow, ...]
    warnings: tuple[PersonWarning, ...]


@dataclass(frozen=True, kw_only=True)
class ErasedView:
    """What of an erasure is not finished yet: files that are in use; it is tried again."""

    unfinished: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class AuditView:
    """Some rows of the audit log, the newest first."""

    rows: tuple[AuditRow, ...]
