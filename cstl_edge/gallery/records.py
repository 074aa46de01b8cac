"""Contents of the rows of a gallery, as typed records that are stored as JSON."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cstl_edge.gallery.sealing import BrokenSeal, Content

Record = TypeVar("Record")


@dataclass(frozen=True, kw_only=True)
class WalkOrigin:
    """Where the templates of a walk come from; None where it is not known."""

    camera: str | None = None
    view: str | None = None  # how the walker was seen: left, right, towards, away
    frames_per_second: float | None = None
    seconds: float | None = None  # of the walk


@dataclass(kw_only=True)
class PersonRecord:
    """Body of a row of `people`."""

    name: str
    created_utc: str
    expires_utc: str | None = None
    seen_expired_utc: str | None = None
    enrolments: list[int] = field(default_factory=list)  # ids, all of them


@dataclass(kw_only=True)
class EnrolmentRecord:
    """Body of a row of `enrolments`: one walk, its consent, and the model of its templates."""

    created_utc: str
    consent: str
    weights_sha256: str
    parts: int
    dimensions: int
    templates: list[int] = field(default_factory=list)  # ids, all of them
    silhouettes: list[int] = field(default_factory=list)  # ids, all of them
    camera: str | None = None
    view: str | None = None
    frames_per_second: float | None = None
    seconds: float | None = None

    @property
    def origin(self) -> WalkOrigin:
        """Where the walk was seen."""
        return WalkOrigin(
            camera=self.camera,
            view=self.view,
            frames_per_second=self.frames_per_second,
            seconds=self.seconds,
        )


@dataclass(kw_only=True)
class KnownBackup:
    """A backup that `gallery backup` wrote."""

    path: str
    created_utc: str
    written: bool = False  # False while it is being written, or when that was killed


@dataclass(kw_only=True)
class GalleryHead:
    """Body of the one row of `head`."""

    gallery: str = ""  # random digits of this gallery, the same in its backups
    people: int = 0  # rows
    cameras: int = 0  # rows of camera_means
    tombstones: int = 0  # rows
    revision: int = 0  # raised by every change of people and templates
    next_expiry: str | None = None  # UTC, when the first retention ends
    clock_utc: str | None = None  # what the clock showed at the last look for ended retentions
    doubt_until: str | None = None  # UTC, until when the clock is not taken at its word
    unfinished: bool = False  # rows were erased, their bytes may still be in the files
    pending_backups: list[str] = field(default_factory=list)  # paths that still hold erased people
    backups: list[KnownBackup] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make backups records again after they were read from JSON."""
        self.backups = [KnownBackup(**b) if isinstance(b, dict) else b for b in self.backups]


def to_bytes(record: Any) -> bytes:
    """Return a record as JSON."""
    return json.dumps(dataclasses.asdict(record), ensure_ascii=False).encode()


def from_bytes(kind: type[Record], content: Content) -> Record:
    """Return the record that `to_bytes` stored; raises BrokenSeal for anything else."""
    try:
        return kind(**json.loads(bytes(content)))
    except (TypeError, ValueError, RecursionError) as err:
        raise BrokenSeal from err
