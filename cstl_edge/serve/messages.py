"""Messages between the processes of the service: frozen and picklable, no arrays but silhouettes.

Who sends what to whom stands in each docstring. Boxes are `x y w h` in pixels of the picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Literal

from cstl_edge.arrays import Mask
from cstl_edge.live.boxes import Box
from cstl_edge.live.segmentation.base import Colours, SceneState
from cstl_edge.live.tracking.walk_filter import Reason

SUPERVISOR, RECOGNISER, FRONT, CAMERA = "supervisor", "recogniser", "front", "camera:"
"""Names of processes; a camera's worker is `camera:NAME`."""

SourceStateName = Literal["starting", "opening", "online", "offline", "ended", "paused", "off"]
Overlay = Literal["boxes", "segmentation", "none"]
LabelKind = Literal["known", "unknown", "none", "pending"]


def camera_process(camera: str) -> str:
    """Return the name of a camera's worker."""
    return CAMERA + camera


def camera_of(process: str) -> str | None:
    """Return the camera of a worker, None for another process.

    >>> camera_of("camera:door"), camera_of("front")
    ('door', None)
    """
    return process[len(CAMERA) :] if process.startswith(CAMERA) else None


def now() -> datetime:
    """Return the present time, UTC."""
    return datetime.now(timezone.utc)


@dataclass(frozen=True, slots=True)
class SeenTrack:
    """One track in one frame."""

    track: int  # number within this life of the worker
    box: Box
    reason: Reason | None  # why the frame must not be used
    silhouette: Mask | None  # uint8 [h, w], aligned
    heading: float | None = None  # body heights per second to the right
    colour: Colours | None = None  # clothes: Y, Cr, Cb of the upper half, then of the lower one
    zone: str | None = None  # where the feet stand
    resting: bool = False  # only tracked in this frame


@dataclass(frozen=True, slots=True)
class Observation:
    """Worker → recogniser: what perception sees in one frame."""

    camera: str
    run: str  # life of the worker: track numbers begin anew with each
    frame: int
    utc: datetime  # when the frame came
    time_s: float  # media time, the monotonic clock of a live source
    read_at_s: float  # time.perf_counter(), which all processes of a machine share
    size: tuple[int, int]  # height and width of the picture [pixels]
    scene: SceneState
    tracks: tuple[SeenTrack, ...] = ()
    born: tuple[int, ...] = ()
    closed: tuple[int, ...] = ()
    inverted: bool = False  # everybody so far walks on their head
    masking: str | None = None  # a sentence where not everybody gets the better mask
    doubtful: tuple[int, ...] = ()  # of `closed`: may be another person by now


@dataclass(frozen=True, slots=True)
class TracksEnded:
    """Worker → recogniser: these tracks are closed although no frame says so (end, offline)."""

    camera: str
    run: str
    closed: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CameraState:
    """Worker → recogniser and front; supervisor → both for a worker that is off."""

    camera: str
    state: SourceStateName
    reason_code: str | None = None  # of `live.events.ReasonCode`
    reason: str | None = None  # one line, without credentials
    source: str = ""  # address without credentials
    utc: datetime = field(default_factory=now)
    attempt: int = 0  # openings since frames last came


@dataclass(frozen=True, slots=True)
class Label:
    """What is written at a walker."""

    text: str
    kind: LabelKind


@dataclass(frozen=True, slots=True)
class Labels:
    """Recogniser → worker: what is written at the tracks; the newest message replaces older."""

    camera: str
    by_track: Mapping[int, Label]


@dataclass(frozen=True, slots=True)
class Watch:
    """Front → worker: somebody looks; it has to be sent again before `until_s` has passed."""

    camera: str
    fps: float  # pictures per second at most; 0 ends it
    overlay: Overlay = "boxes"
    until_s: float = 10.0  # from now: a page that died is not drawn for


@dataclass(frozen=True, slots=True)
class LivePicture:
    """Worker → front: the newest drawn picture; an older one that still waits is dropped."""

    camera: str
    jpeg: bytes
    utc: datetime  # of the frame
    sequence: int
    overlay: Overlay
    size: tuple[int, int]  # height and width [pixels]


@dataclass(frozen=True, slots=True)
class SnapshotRequest:
    """Recogniser → worker: the best picture of a track so far."""

    camera: str
    run: str
    track: int
    id: str


@dataclass(frozen=True, slots=True)
class TrackSnapshot:
    """Worker → recogniser; jpeg is None where the track is not known any more."""

    camera: str
    track: int
    id: str
    jpeg: bytes | None
    utc: datetime | None = None  # of the frame
    box: Box | None = None  # in the whole picture


@dataclass(frozen=True, slots=True)
class ClipRequest:
    """Recogniser → worker: a video from the ring, between two times of its frames."""

    camera: str
    id: str
    start_utc: datetime
    end_utc: datetime


@dataclass(frozen=True, slots=True)
class Clip:
    """Worker → recogniser: a file in the spool folder, which the recogniser takes over."""

    camera: str
    id: str
    path: str | None  # None where there is none, for `reason`
    media_type: str = "video/mp4"
    seconds: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Stats:
    """Everybody → supervisor (heartbeat) and front, about every second."""

    process: str
    utc: datetime
    values: Mapping[str, float] = field(default_factory=dict)
    """Gauges, and counters since the process began (their names end in `_total`)."""
    samples_ms: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Milliseconds by stage since the last message, at most some hundred of each."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """What the Health page says of it in words, such as the device that really runs."""
    counts: Mapping[str, Mapping[tuple[str, ...], float]] = field(default_factory=dict)
    """Counters by labels, such as `answers_total` by (answer, reason code)."""


@dataclass(frozen=True, slots=True)
class Command:
    """Front → recogniser or supervisor: something to do, answered by a `Reply` of the same id."""

    id: str
    name: str  # such as `people.rename`
    arguments: Mapping[str, Any]  # JSON values
    user: str  # for the audit log
    role: Literal["admin", "viewer", "system"] = "admin"


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer to a `Command`; code is a word for programs, message a line for people."""

    id: str
    ok: bool
    result: Any = None  # JSON value
    code: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class EventMessage:
    """Recogniser → front, after the row is committed."""

    rowid: int
    event: Mapping[str, Any]  # `Event.to_dict()`


@dataclass(frozen=True, slots=True)
class ProcessState:
    """State of one process, as the supervisor knows it."""

    name: str
    state: Literal["starting", "running", "waiting", "off", "stopped"]
    """`waiting`: dead, to be started again; `off`: died too often, or switched off."""
    pid: int | None = None
    started_utc: datetime | None = None
    restarts: int = 0  # since the service began
    reason: str | None = None  # of the last death, or why it is off
    memory_bytes: int | None = None  # resident
    cpu_s: float | None = None


@dataclass(frozen=True, slots=True)
class ServiceState:
    """Supervisor → front, every second and at every change."""

    utc: datetime
    processes: tuple[ProcessState, ...]
    cameras: Mapping[str, CameraState]
    site_error: str | None = None  # of the file that did not load last; the one before runs on
    ready: bool = False
    not_ready_reasons: tuple[str, ...] = ()
    stopping: bool = False


@dataclass(frozen=True, slots=True)
class Attach:
    """Supervisor → child: the end of a new pipe to a peer follows as a descriptor."""

    peer: str


@dataclass(frozen=True, slots=True)
class Detach:
    """Supervisor → child: a peer is gone for good (its camera was removed)."""

    peer: str


@dataclass(frozen=True, slots=True)
class Reload:
    """Supervisor → recogniser and front: this is the site from now on."""

    site: Any  # `site.Site`; not imported here, so that messages import nothing of the service


@dataclass(frozen=True, slots=True)
class LastWords:
    """Child → supervisor: why it ends."""

    process: str
    text: str  # one line
    exit_code: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Supervisor → child: end within the time that is left."""

    within_s: float


Message = (
    Observation
    | TracksEnded
    | CameraState
    | Labels
    | Watch
    | LivePicture
    | SnapshotRequest
    | TrackSnapshot
    | ClipRequest
    | Clip
    | Stats
    | Command
    | Reply
    | EventMessage
    | ServiceState
    | Attach
    | Detach
    | Reload
    | LastWords
    | Stop
)
