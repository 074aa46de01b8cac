"""Frames from anywhere by one address: files, folders, cameras, streams, a synthetic street.

Two laws. From a file every frame counts: none is dropped, and a hole is an error, because a missing
frame shortens somebody's step. From a live source the newest frame wins: what the reader is too
slow for is dropped and counted, and a source that falls silent is opened again. A source is its own
iterator and is read once; those that are not live start over with `reopen()`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Literal, Protocol

from cstl_edge.arrays import Image
from cstl_edge.errors import ConfigError, one_line

if TYPE_CHECKING:
    pass


NETWORK_SCHEMES = ("rtsp", "rtsps", "http", "https")  # read by FFmpeg
KNOWN_FORMS = (
    "a video file, a folder of images, a USB camera (0 or /dev/video0), rtsp://HOST/PATH, csi://0, "
    "gst:PIPELINE or synthetic://6"
)
SECRET = re.compile(
    r"((?:pass(?:word|wd)?|pwd|token|secret|auth|key|user-id|user-pw)=)"
    r"(\"[^\"]*\"|[^\s&!\"']+)",
    re.IGNORECASE,
)


def redact(text: object) -> str:
    """Return an address, or a line that holds one, fit for showing: without passwords.

    >>> redact("rtsp://admin:s3cret@10.0.0.2/1?token=abc&x=1")
    'rtsp://***@10.0.0.2/1?token=***&x=1'
    """
    shown = re.sub(r"(?<=://)[^\s\"'<>]*@", "***@", str(text))
    return one_line(SECRET.sub(r"\1***", shown), limit=300)


def scheme_of(text: str) -> str:
    """Return the scheme of an address, "" for paths and camera numbers."""
    if text.startswith("gst:"):
        return "gst"
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", text)
    if not match:
        return ""
    scheme = match.group(1).lower()
    if scheme not in (*NETWORK_SCHEMES, "csi", "synthetic"):
        raise ConfigError(f"unknown source {redact(text)}; expected {KNOWN_FORMS}")
    return scheme


def is_camera(text: str) -> bool:
    """Tell whether a text without scheme names a USB camera; ./0 is the file called 0."""
    return text.isdecimal() or re.fullmatch(r"/dev/video\d+", text) is not None


def query_values(text: str, allowed: Mapping[str, type], uri: str) -> dict[str, Any]:
    """Parse `seed=0&fps=25` with the types of `allowed`; raises ConfigError that names the key."""
    values: dict[str, Any] = {}
    for item in filter(None, text.split("&")):
        key, _, value = item.partition("=")
        if key not in allowed:
            known = ", ".join(allowed)
            raise ConfigError(f"unknown key {one_line(key)!r} in {uri}; expected {known}")
        try:
            values[key] = allowed[key](value)
        except ValueError as err:
            kind = allowed[key].__name__
            raise ConfigError(f"{key} in {uri}: expected {kind}, got {one_line(value)!r}") from err
    return values


DEFAULT_FPS = 25.0  # where a folder or a file does not say


@dataclass(frozen=True)
class Frame:
    """One picture and when it was taken.

    index: number of the frame in its source; a live source leaves gaps where frames were dropped,
           a file read from `start_s` keeps the file's numbers
    image: uint8 [H, W, 3], BGR, owned by the receiver; its size may change in mid-stream (a camera
           that is reconfigured), so a reader goes by the shape of each frame
    time_s: media time for files, the monotonic clock for live sources; strictly increasing
    utc: wall clock when this machine got the frame
    """

    index: int
    image: Image
    time_s: float
    utc: datetime = field(default_factory=lambda: datetime.now(timezone.utc))


@dataclass(frozen=True)
class SourceState:
    """A change in what a live source does, for an event.

    state: "opening", "online" (frames come), "offline" (it will be tried again), "ended"
    detail: one line without credentials; attempt: openings in this trouble
    """

    state: Literal["opening", "online", "offline", "ended"]
    detail: str = ""
    attempt: int = 0


StateCallback = Callable[[SourceState], None]


class FrameSource(Protocol):
    """What the pipeline reads from; iterate, then close, or use it as a context manager."""

    uri: str  # fit for showing: without credentials
    live: bool  # the newest frame wins; otherwise every frame counts
    fps: float  # frames per second as the source declares them, 0.0 where it does not say
    size: tuple[int, int]  # height, width in pixels of the first frame
    frames: int | None  # frames to come in all, where that is known

    @property
    def dropped(self) -> int:
        """Frames that the reader was too slow for."""

    def __iter__(self) -> Iterator[Frame]:
        """Return the source itself."""

    def __next__(self) -> Frame:
        """Return the next frame; a fault is raised once, after it there are no frames."""

    def reopen(self) -> FrameSource:
        """Return a new source that starts over; a live one raises ConfigError."""

    def close(self) -> None:
        """Stop threads and children, free the device; a second call does nothing."""

    def __enter__(self) -> FrameSource:
        """Return the source."""

    def __exit__(self, *exc: object) -> None:
        """Close it."""


class SourceBase:
    """The part that all sources share: iteration that ends once and for all, closing, `with`."""

    uri: str
    live = False
    fps: float
    size: tuple[int, int]
    frames: int | None = None

    def __init__(self, uri: str) -> None:
        self.uri = redact(uri)
        self._ended = False

    @property
    def dropped(self) -> int:
        """Frames that the reader was too slow for; a recording drops none."""
        return 0

    def __repr__(self) -> str:
        """Name the source without its credentials."""
        return f"{type(self).__name__}({self.uri!r})"

    def __iter__(self) -> Iterator[Frame]:
        """Return the source itself."""
        return self

    def __next__(self) -> Frame:
        """Return the next frame; the first fault or the end closes the source."""
        if self._ended:
            raise StopIteration
        try:
            frame = self._next()
        except BaseException:
            self.close()
            raise
        if frame is None:
            self.close()
            raise StopIteration
        return frame

    def close(self) -> None:
        """Stop threads and children, free the device; a second call does nothing."""
        self._ended = True
        self._release()

    def __enter__(self) -> Any:
        """Return the source."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close it."""
        self.close()

    def _next(self) -> Frame | None:
        raise NotImplementedError

    def _release(self) -> None:
        """Free what the source holds; called at least once."""
