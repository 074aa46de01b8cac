"""What a reading child process is asked for, and its records: JSON, a picture behind some.

`hello` comes once, when the source answers: its rate, its number of pictures, whether it has an
end. Then `picture` records with their pixels, `skipped` for pictures before the part that is read,
and at last `end` or `error`.
"""

from __future__ import annotations

import json
import os
import struct
from dataclasses import asdict, dataclass
from typing import Any, Literal

HEAD = struct.Struct("=4sI")  # magic, bytes of JSON that follow
MAGIC = b"CEv2"
MAX_HEAD_BYTES = 64 * 1024


@dataclass(frozen=True)
class Hello:
    """What a source declares."""

    fps: float = 0.0  # 0.0 where it does not say
    count: int = 0  # pictures; 0 where that is not known
    exact: bool = False  # the count is the container's own, not an estimate
    finite: bool = False  # a file that has an end, wherever it lies
    notes: tuple[str, ...] = ()  # what a reader of the log should know


@dataclass(frozen=True)
class PictureHead:
    """Number, time and size of the picture whose rows follow."""

    index: int
    time_s: float  # media time of a recording, the monotonic clock at arrival of a live source
    height: int
    width: int
    row_bytes: int  # at least 3 · width: BGR, then padding


@dataclass(frozen=True)
class Skipped:
    """Pictures before the part that is wanted are being decoded."""

    index: int


@dataclass(frozen=True)
class End:
    """The source has ended after so many pictures."""

    index: int


Fault = Literal["unavailable", "data", "memory"]


@dataclass(frozen=True)
class Failure:
    """The source failed; `unavailable` may pass, `data` does not."""

    kind: Fault
    reason: str  # in our words


@dataclass(frozen=True)
class ReadRequest:
    """What is to be read: one of `path`, `url`, `device`, `pipeline`."""

    path: str | None = None  # absolute
    url: str | None = None
    device: int | None = None
    pipeline: str | None = None
    picture_timeout_s: float | None = None  # of the reader itself, where the usual is too short
    endless: bool = False  # the end of a pipeline is a fault
    reader: Literal["av", "cv2"] = "cv2"  # of files and addresses
    fps: float | None = None  # true rate of a recording, wanted rate of a device
    start_s: float = 0.0  # of a recording
    stop_s: float | None = None

    @property
    def is_recording(self) -> bool:
        """Whether every picture counts."""
        return self.path is not None

    @property
    def fault(self) -> Fault:
        """What it is where this cannot be read."""
        return "data" if self.is_recording else "unavailable"


class SourceFailure(Exception):
    """A source failed, with the kind of fault and a reason in our words."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


Record = Hello | PictureHead | Skipped | End | Failure
KINDS: dict[str, type[Any]] = {k.__name__: k for k in (Hello, PictureHead, Skipped, End, Failure)}


def encode(record: Record) -> bytes:
    """Return a record as bytes."""
    body = json.dumps([type(record).__name__, asdict(record)]).encode()
    return HEAD.pack(MAGIC, len(body)) + body


def decode(body: bytes) -> Record:
    """Return the record of a line of JSON; raises ValueError."""
    kind, values = json.loads(body)
    record: Record = KINDS[kind](**values)
    return record


def send(pipe: int, record: Record, rows: memoryview | None = None) -> None:
    """Write a record, and the rows of its picture, to a file descriptor."""
    for data in (memoryview(encode(record)), rows):
        rest = data
        while rest:
            rest = rest[os.write(pipe, rest) :]
