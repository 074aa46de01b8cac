"""Recordings: video files through cv2's FFmpeg, folders of images in the order of their numbers.

Every frame counts. A video that ends before its container's count, or an image that cannot be read,
raises DataError at that place, after the good frames before it: silently shortened steps would be
worse than no answer. Nothing is decoded before its header shows how large it is.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cstl_edge.errors import DataError, SourceUnavailable, one_line
from cstl_edge.live.sources.base import DEFAULT_FPS, Frame, FrameSource
from cstl_edge.live.sources.options import SourceOptions
from cstl_edge.opencv import import_cv2
from cstl_edge.silhouette import IMAGE_SUFFIXES, MAX_PIXELS, numbered_images, read_image

log = logging.getLogger(__name__)

MAX_FPS = 1000.0  # a container that claims more has no frame rate
EXACT_SHARE = 0.98  # of the frames that an MP4 counts; fewer mean that it was cut off
RE_ENCODE = "copy it again, or save what is left: ffmpeg -i IN -c:v libx264 OUT.mp4"


def open_recording(uri: str, options: SourceOptions) -> FrameSource:
    """Open a video file or a folder of images."""
    path = Path(uri)
    try:
        is_folder = path.is_dir()
    except (OSError, ValueError) as err:  # a name too long, or with a NUL byte
        raise SourceUnavailable(f"no source at {one_line(uri)}: {one_line(err)}") from err
    return (ImageFolder if is_folder else VideoFile)(path, options)


class MediaClock:
    """Turns a container's timestamps into strictly increasing media time in seconds.

    A timestamp that is missing, repeated or runs backwards is replaced by the time of the frame
    before plus 1 / fps, so a file without timestamps falls back to index / fps.
    """

    def __init__(self, fps: float) -> None:
        """Start before the first frame."""
        self._step_s = 1.0 / fps
        self._last_s: float | None = None

    def time_s(self, stamp_ms: float) -> float:
        """Return the media time of the next frame, which the container stamps `stamp_ms`."""
        stamp_s = stamp_ms / 1000.0
        if self._last_s is None:
            self._last_s = stamp_s if math.isfinite(stamp_s) and stamp_s >= 0 else 0.0
        elif math.isfinite(stamp_s) and stamp_s > self._last_s + 1e-6:
            self._last_s = stamp_s
        else:
            self._last_s += self._step_s
        return self._last_s


class _Recording(FrameSource):
    """A file or folder, of which a part is read."""

    def __init__(self, path: Path, options: SourceOptions) -> None:
        super().__init__(str(path))
        self._path, self._options = path, options
        self._start_s = options.start_s or 0.0
        self._stop_s = math.inf if options.stop_s is None else options.stop_s
        self._part = f"between {self._start_s:g} s and {self._stop_s:g} s"

    def reopen(self) -> FrameSource:
        return type(self)(self._path, self._options)


class VideoFile(_Recording):
    """A video file; frames keep the numbers and the media time of the file.

    Files whose frame rate is zero, not a number or absurd count as 25 per second (with a warning),
    files with a variable one go by their timestamps. `frames` is the container's count.
    """

    def __init__(self, path: Path, options: SourceOptions) -> None:
        super().__init__(path, options)
        _check_file(path)
        self._index = 0
        self._cv2 = import_cv2()
        self._capture = _open_capture(self._cv2, path)
        self.fps = options.fps or self._frame_rate()
        self._clock = MediaClock(self.fps)
        counted = self._capture.get(self._cv2.CAP_PROP_FRAME_COUNT)
        self._counted = int(counted) if 0 < counted < 2**40 else 0
        self.frames = self._frames_in_range()
        self._ahead: Frame | None = None
        try:
            first = self._ahead = self._first()
        except BaseException:
            self.close()
            raise
        self.size = (first.image.shape[0], first.image.shape[1])

    def _next(self) -> Frame | None:
        frame, self._ahead = self._ahead, None
        return frame or self._read()

    def _release(self) -> None:
        self._capture.release()

    def _first(self) -> Frame:
        # the stream's header gives the size of the pictures before one is decoded
        width = self._capture.get(self._cv2.CAP_PROP_FRAME_WIDTH)
        height = self._capture.get(self._cv2.CAP_PROP_FRAME_HEIGHT)
        _check_pixels(self.uri, int(height), int(width))
        frame = self._read()
        if frame is None and self._index == 0:
            raise DataError(f"{self.uri} holds no picture that can be decoded; {RE_ENCODE}")
        if frame is None:
            long_s = f"{self._index / self.fps:.1f} s long"
            raise DataError(f"no frame of {self.uri} {self._part}; it is {long_s}")
        return frame

    def _read(self) -> Frame | None:
        """Return the next frame of the part that is read, None at its end."""
        while self._capture.grab():
            time_s = self._time_s()
            self._index += 1
            if time_s >= self._stop_s:
                return None
            if time_s < self._start_s:
                continue  # decoded and dropped: seeking is not exact in every container
            ok, image = self._capture.retrieve()
            if not ok:
                raise DataError(f"frame {self._index - 1} of {self.uri} is damaged; {RE_ENCODE}")
            _check_pixels(self.uri, *image.shape[:2])
            return Frame(self._index - 1, image, time_s)
        self._check_complete()
        return None

    def _time_s(self) -> float:
        """Return the media time of the frame that was grabbed."""
        if self._options.fps is not None:  # the container's timestamps are wrong
            return self._index / self.fps
        return self._clock.time_s(self._capture.get(self._cv2.CAP_PROP_POS_MSEC))

    def _check_complete(self) -> None:
        """Raise DataError when the file ended early; only MP4 and its like count frames exactly."""
        if not 0 < self._index < EXACT_SHARE * self._counted - 1:
            return
        message = f"{self.uri} ends after {self._index} of {self._counted} frames"
        if _head(self._path)[4:8] == b"ftyp":
            raise DataError(f"{message}: it was cut off or is damaged; {RE_ENCODE}")
        log.warning("%s; its container may only have guessed their number", message)

    def _frame_rate(self) -> float:
        fps = float(self._capture.get(self._cv2.CAP_PROP_FPS))
        if math.isfinite(fps) and 0 < fps <= MAX_FPS:
            return fps
        log.warning("%s declares %g frames per second; taking %g", self.uri, fps, DEFAULT_FPS)
        return DEFAULT_FPS

    def _frames_in_range(self) -> int | None:
        if not self._counted:
            return None
        last = math.ceil(min(self._stop_s * self.fps, self._counted))
        return max(0, last - math.ceil(self._start_s * self.fps))


class ImageFolder(_Recording):
    """A folder of PNG, JPEG or BMP images, 2.png before 10.png, `fps` of them per second.

    All headers are read at opening; a file that is no image, is too large or cannot be decoded
    raises DataError with its name. None is skipped: a hole would be an unseen step. Hidden files
    and other kinds of files are ignored.
    """

    def __init__(self, path: Path, options: SourceOptions) -> None:
        super().__init__(path, options)
        self.fps = fps = options.fps or DEFAULT_FPS
        files = _attempt(self.uri, lambda: numbered_images(path))
        if not files:
            raise DataError(f"no images ({', '.join(IMAGE_SUFFIXES)}) in {self.uri}")
        sizes = [_header(file) for file in files]
        first, last = (
            math.ceil(min(time_s * fps - 1e-9, len(files)))
            for time_s in (self._start_s, self._stop_s)
        )
        if first >= last:
            raise DataError(
                f"no image of {self.uri} {self._part}; it has {len(files)} at {fps:g} per second"
            )
        self._todo = list(enumerate(files))[first:last]
        self.frames = len(self._todo)
        self.size = sizes[first]

    def _next(self) -> Frame | None:
        if not self._todo:
            return None
        index, file = self._todo.pop(0)
        return Frame(index, read_image(file), index / self.fps)


def _header(file: Path) -> tuple[int, int]:
    """Return height and width of an image from its header alone."""
    from PIL import Image as PilImage

    try:
        with PilImage.open(file, formats=("PNG", "JPEG", "BMP")) as image:
            width, height = image.size
    except (OSError, SyntaxError, ValueError, PilImage.DecompressionBombError) as err:
        raise DataError(
            f"cannot read the image {one_line(file)}: {one_line(err)}; replace it, or remove it "
            "and all frames before or after it"
        ) from err
    _check_pixels(one_line(file), height, width)
    return height, width


def _check_file(path: Path) -> None:
    name = one_line(path)
    if not _attempt(name, path.exists):
        raise SourceUnavailable(f"no video, folder or camera at {name}; check the spelling")
    if not path.is_file():
        raise SourceUnavailable(f"{name} is neither a file nor a folder")
    if _attempt(name, lambda: _head(path)) == b"":
        raise DataError(f"{name} is empty (0 bytes); expected a video")


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(12)


def _attempt(name: str, action: Callable[[], Any]) -> Any:
    """Return the result of a file operation; SourceUnavailable where it is refused."""
    try:
        return action()
    except (OSError, ValueError) as err:
        reason = getattr(err, "strerror", None) or err
        raise SourceUnavailable(f"cannot open {name}: {one_line(reason)}") from err


def _open_capture(cv2: Any, path: Path) -> Any:
    # "file:" keeps FFmpeg from taking a name with a colon or % for a protocol or a pattern
    level = cv2.getLogLevel()
    cv2.setLogLevel(0)  # our errors say what is wrong
    try:
        capture = cv2.VideoCapture(f"file:{path}", cv2.CAP_FFMPEG)
    finally:
        cv2.setLogLevel(level)
    if not capture.isOpened():
        capture.release()
        raise DataError(
            f"{one_line(path)} is no video that FFmpeg can read, or it was cut off; {RE_ENCODE}"
        )
    return capture


def _check_pixels(name: str, height: int, width: int) -> None:
    if height * width > MAX_PIXELS:
        raise DataError(
            f"{name} is {width}x{height}; expected at most {MAX_PIXELS // 10**6} megapixels "
            "(a person needs 100 to 400 pixels of height)"
        )
