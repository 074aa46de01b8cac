"""Base class of frame sources, their frames and states; addresses without secrets.

Two laws. A recording gives every frame: none is dropped, and a hole is an error, because a missing
frame shortens somebody's step. A live source gives the newest frame: frames for which the reader is
too slow are dropped and counted, and a source that falls silent is opened again. A source is its
own iterator and is read once; one that is not live starts over with `reopen()`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from cstl_edge.errors import ConfigError, one_line

if TYPE_CHECKING:  # numpy: a reading child process starts without it
    from cstl_edge.arrays import Image

DEFAULT_FPS = 25.0  # of a folder, and of a file that declares no frame rate
SECRET_KEYS = r"((?:pass(?:word|wd)?|pwd|token|secret|auth|key|user-id|user-pw)=)"
# in a query a value goes up to the next key, whatever stands in it; elsewhere up to a space
SECRET = re.compile(
    rf"(?<=[?&]){SECRET_KEYS}(?!\*\*\*)[^&\"']*|{SECRET_KEYS}(?!\*\*\*)(?:\"[^\"]*\"|[^\s&!\"']+)",
    re.IGNORECASE,
)
SCHEME = r"[A-Za-z][A-Za-z0-9+.-]*://"
# user and password go up to the last @ before another address: they may hold / @ : and spaces
USER = re.compile(rf"(?<=://)(?:(?![\s\"'=]{SCHEME}).)*@", re.DOTALL)


def redact(text: object) -> str:
    """Return an address, or a line that holds some, without passwords.

    >>> redact("rtsp://admin:s3cret@10.0.0.2/1?token=abc&x=1")
    'rtsp://***@10.0.0.2/1?token=***&x=1'
    >>> redact("rtsp://admin:pass word@cam")
    'rtsp://***@cam'
    """
    shown = USER.sub("***@", str(text))
    shown = SECRET.sub(lambda match: f"{match.group(1) or match.group(2)}***", shown)
    return one_line(shown, limit=300)


def query_values(text: str, allowed: Mapping[str, type], uri: str) -> dict[str, Any]:
    """Parse a query such as `seed=0&fps=25`; raises ConfigError that names the key.

    Args:
        text: The query.
        allowed: Type of each key.
        uri: The whole address, for messages.
    """
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


@dataclass(frozen=True)
class Frame:
    """One picture and its time.

    index: number of the frame in its source; a live source leaves gaps where frames were dropped,
           a file read from `start_s` keeps the file's numbers
    image: uint8 [H, W, 3], BGR, owned by the receiver; its size may change in mid-stream (a camera
           that is reconfigured), so a reader goes by the shape of each frame
    time_s: media time of recordings, the monotonic clock of live sources; strictly increasing
    utc: wall clock when this machine got the frame
    """

    index: int
    image: Image
    time_s: float
    utc: datetime = field(default_factory=lambda: datetime.now(timezone.utc))


@dataclass(frozen=True)
class SourceState:
    """Change of state of a live source; `online`: frames come, `offline`: it is tried again."""

    state: Literal["opening", "online", "offline", "ended"]
    detail: str = ""  # one line without credentials
    attempt: int = 0  # openings since frames last came


StateCallback = Callable[[SourceState], None]
Source = TypeVar("Source", bound="FrameSource")


class FrameSource:
    """An open source: iterate it, then close it, or use `with`.

    Iteration ends once and for all, at the end or at the first fault, which is raised once.
    A subclass sets `fps` and `size` and defines `_next`, `reopen` and, where it holds anything,
    `_release`.
    """

    uri: str  # without credentials
    live = False  # gives the newest frame; a recording gives every frame
    fps: float  # frames per second as the source declares them, 0.0 where it does not say
    size: tuple[int, int]  # height, width in pixels of the first frame
    frames: int | None = None  # number of frames, where that is known

    def __init__(self, uri: str) -> None:
        self.uri = redact(uri)
        self._ended = False

    @property
    def dropped(self) -> int:
        """Number of frames for which the reader was too slow; a recording drops none."""
        return 0

    def reopen(self) -> FrameSource:
        """Return a new source that starts from the beginning; a live one raises ConfigError."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop threads and children, free the device; a second call does nothing."""
        self._ended = True
        self._release()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.uri!r})"

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        try:
            frame = None if self._ended else self._next()
        except BaseException:
            self.close()
            raise
        if frame is None:
            self.close()
            raise StopIteration
        return frame

    def __enter__(self: Source) -> Source:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _next(self) -> Frame | None:
        """Return the next frame, None at the end."""
        raise NotImplementedError

    def _release(self) -> None:
        """Free threads, children and devices; called at least once."""
