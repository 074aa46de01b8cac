"""Frames from anywhere by one address: files, folders, cameras, streams, a synthetic street.

Two laws. From a file every frame counts: none is dropped, and a hole is an error, because a missing
frame shortens somebody's step. From a live source the newest frame wins: what the reader is too
slow for is dropped and counted, and a source that falls silent is opened again. A source is its own
iterator and is read once; those that are not live start over with `reopen()`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from cstl_edge.errors import ConfigError, SourceUnavailable, one_line
from cstl_edge.live.source_uri import is_camera, redact, scheme_of

if TYPE_CHECKING:
    from cstl_edge.live.source_live import Opener

Image = npt.NDArray[np.uint8]  # [H, W, 3], BGR

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


def open_source(
    uri: str | os.PathLike[str],
    *,
    start_s: float | None = None,
    stop_s: float | None = None,
    fps: float | None = None,
    retry: bool = False,
    on_state: StateCallback | None = None,
) -> FrameSource:
    """Open a source by its address; the first frame has been seen when this returns.

    start_s, stop_s: part of a file, folder or synthetic street, in seconds of its media time
    fps: of a folder of images (25 where nothing is said), or asked of a USB or CSI camera
    retry: keep trying a live source that does not open; otherwise its first failure, after at most
           5 s, raises. Once it has given frames it is tried again for ever in either case.
    on_state: told of every change of a live source, in the thread that opens and iterates
    Raises ConfigError for an address that cannot be meant, SourceUnavailable for what is missing or
    does not answer, DataError for what is there and is no video.
    """
    text = os.fspath(uri)
    scheme = scheme_of(text)
    if not scheme and not is_camera(text):
        return _open_recorded(text, start_s, stop_s, fps)
    if scheme == "synthetic":
        from cstl_edge.live.synthetic import open_synthetic

        return open_synthetic(text, start_s=start_s, stop_s=stop_s, on_state=on_state)
    if start_s is not None or stop_s is not None:
        raise ConfigError(f"start_s and stop_s need a recording; {redact(text)} is a live source")
    from cstl_edge.live.source_live import LiveSource

    return LiveSource(text, _opener(text, scheme, fps), retry=retry, on_state=on_state)


def import_cv2() -> Any:
    """Return cv2 with FFmpeg's own chatter off, or say how to install it."""
    # FFmpeg reads this once, at the first capture; -8 is AV_LOG_QUIET. We say what is wrong.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    try:
        import cv2
    except ImportError as err:
        raise SourceUnavailable(
            "reading video needs cv2, which is not installed: pip install 'cstl-edge[cv]' "
            "(on a Jetson: apt install python3-opencv, in an environment that sees system packages)"
        ) from err
    return cv2


def _open_recorded(
    text: str, start_s: float | None, stop_s: float | None, fps: float | None
) -> FrameSource:
    from cstl_edge.live.source_file import ImageFolder, VideoFile

    if start_s is not None and stop_s is not None and not start_s < stop_s:
        raise ConfigError(f"expected start_s < stop_s, got {start_s} and {stop_s}")
    path = Path(text)
    try:
        is_folder = path.is_dir()
    except (OSError, ValueError) as err:  # a name too long, or with a NUL byte
        raise SourceUnavailable(f"no source at {one_line(text)}: {one_line(err)}") from err
    if is_folder:
        return ImageFolder(path, start_s=start_s, stop_s=stop_s, fps=fps or DEFAULT_FPS)
    return VideoFile(path, start_s=start_s, stop_s=stop_s)


def _opener(text: str, scheme: str, fps: float | None) -> Opener:
    from cstl_edge.live.source_child import ReaderCapture, usb_opener
    from cstl_edge.live.source_gst import csi_pipeline, gst_opener

    if scheme == "gst":
        return gst_opener(text.removeprefix("gst:"))
    if scheme == "csi":
        return gst_opener(csi_pipeline(text, fps))
    import_cv2()
    return usb_opener(text, fps) if not scheme else lambda: ReaderCapture({"url": text})
