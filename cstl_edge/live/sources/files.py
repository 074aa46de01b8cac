"""Recordings: video files, read by a child process, and folders of images in numerical order.

Every frame counts. A video that ends before its container's count, or an image that cannot be read,
raises DataError at that place, after the good frames before it: silently shortened steps would be
worse than no answer. What is read takes 10 s without a picture and 1 GiB at most.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from cstl_edge.errors import DataError, SourceUnavailable, one_line
from cstl_edge.foreign import MAX_PIXELS
from cstl_edge.live.sources.base import DEFAULT_FPS, Frame, FrameSource
from cstl_edge.live.sources.child_capture import ReaderCapture
from cstl_edge.live.sources.child_protocol import End, Hello, PictureHead, ReadRequest
from cstl_edge.live.sources.formats import best_reader
from cstl_edge.live.sources.options import SourceOptions

log = logging.getLogger(__name__)
Result = TypeVar("Result")

STEP_TIMEOUT_S = 10.0  # longest time without a picture: no file is worth more
PLAYLISTS = (b"#EXTM3U", b"ffconcat", b"<?xml", b"<MPD", b"<Smooth", b"v=0", b"[playlist]")
"""Beginnings of files that name others. FFmpeg never sees them: OpenCV before 4.12 does not hand it
our list of formats."""
EXACT_SHARE = 0.98  # of the frames that an MP4 counts; fewer mean that it was cut off
RE_ENCODE = "copy it again, or save what is left: ffmpeg -i IN -c:v libx264 OUT.mp4"


def open_recording(uri: str, options: SourceOptions) -> FrameSource:
    """Open a video file or a folder of images."""
    path = Path(uri)
    try:
        is_folder = path.is_dir()
    except (OSError, ValueError) as err:  # a name too long, or with a NUL byte
        raise SourceUnavailable(f"no source at {one_line(uri)}: {one_line(err)}") from err
    if is_folder:
        return ImageFolder(path, options)
    _check_file(path)
    request = ReadRequest(
        path=str(path.absolute()),
        fps=options.fps,
        start_s=options.start_s or 0.0,
        stop_s=options.stop_s,
        reader=best_reader(),
    )
    return VideoFile(str(path), request, options)


class VideoFile(FrameSource):
    """A video file, or one behind http://; frames have the numbers and the media time of the file.

    Files whose frame rate is zero, not a number or absurd count as 25 per second (with a warning),
    files with a variable one go by their timestamps. `frames` is the container's count.
    """

    def __init__(
        self,
        uri: str,
        request: ReadRequest,
        options: SourceOptions,
        capture: ReaderCapture | None = None,
    ) -> None:
        """Open the file and read its first frame.

        Args:
            uri: Path or address, for messages.
            request: What the reading process is asked for.
            options: Part and rate.
            capture: That process, where it runs already.
        """
        super().__init__(uri)
        self._address, self._request, self._options = uri, request, options
        self._capture = capture or ReaderCapture(request, STEP_TIMEOUT_S)
        self._ahead: Frame | None = None
        try:
            hello = self._attempt(self._capture.open)
            for note in hello.notes:
                log.warning("%s %s", self.uri, note)
            self.fps, self._hello = hello.fps, hello
            self.frames = _frames_in_part(hello, options)
            first = self._ahead = self._first()
        except BaseException:
            self.close()
            raise
        self.size = (first.image.shape[0], first.image.shape[1])

    def reopen(self) -> VideoFile:
        """Return a new source that starts from the beginning."""
        return VideoFile(self._address, self._request, self._options)

    def _next(self) -> Frame | None:
        frame, self._ahead = self._ahead, None
        return frame or self._read()

    def _release(self) -> None:
        self._capture.close()

    def _first(self) -> Frame:
        self._ended_after = 0
        frame = self._read()
        if frame is None and self._ended_after == 0:
            raise DataError(f"{self.uri} holds no picture that can be decoded; {RE_ENCODE}")
        if frame is None:
            long_s = f"{self._ended_after / self.fps:.1f} s long"
            raise DataError(f"no frame of {self.uri} {_part(self._options)}; it is {long_s}")
        return frame

    def _read(self) -> Frame | None:
        """Return the next frame of the part that is read, None at its end."""
        while True:
            record = self._attempt(self._capture.record)
            if isinstance(record, PictureHead):
                image = self._attempt(partial(self._capture.picture, record))
                return Frame(record.index, image, record.time_s)
            if isinstance(record, End):
                self._ended_after = record.index
                self._check_complete(record.index)
                return None

    def _check_complete(self, index: int) -> None:
        """Raise DataError when the file ended early; only MP4 and its like count frames exactly."""
        counted = self._hello.count
        if self._options.stop_s is not None or not 0 < index < EXACT_SHARE * counted - 1:
            return
        message = f"{self.uri} ends after {index} of {counted} frames"
        if self._hello.exact:
            raise DataError(f"{message}: it was cut off or is damaged; {RE_ENCODE}")
        log.warning("%s; its container may only have guessed their number", message)

    def _attempt(self, action: Callable[[], Result]) -> Result:
        """Return the result of an action of the reading process; its errors name the file."""
        try:
            return action()
        except DataError as err:
            raise DataError(f"{self.uri} cannot be read: {err}; {RE_ENCODE}") from err
        except SourceUnavailable as err:
            raise SourceUnavailable(f"{self.uri}: {err}") from err


def _bounds(options: SourceOptions) -> tuple[float, float]:
    """Return start and stop in seconds of the part that is read."""
    return options.start_s or 0.0, math.inf if options.stop_s is None else options.stop_s


def _frames_in_part(hello: Hello, options: SourceOptions) -> int | None:
    if not hello.count:
        return None
    start_s, stop_s = _bounds(options)
    last = math.ceil(min(stop_s * hello.fps, hello.count))
    return max(0, last - math.ceil(start_s * hello.fps))


def _part(options: SourceOptions) -> str:
    start_s, stop_s = _bounds(options)
    return f"between {start_s:g} s and {stop_s:g} s"


class ImageFolder(FrameSource):
    """A folder of PNG, JPEG or BMP images, 2.png before 10.png, `fps` of them per second.

    All headers are read at opening; a file that is no image, is too large or cannot be decoded
    raises DataError with its name. None is skipped: a hole would be an unseen step. Hidden files
    and other kinds of files are ignored.
    """

    def __init__(self, path: Path, options: SourceOptions) -> None:
        from cstl_edge.silhouette import IMAGE_SUFFIXES, numbered_images

        super().__init__(str(path))
        self._path, self._options = path, options
        self.fps = fps = options.fps or DEFAULT_FPS
        files = _attempt(self.uri, lambda: numbered_images(path))
        if not files:
            raise DataError(f"no images ({', '.join(IMAGE_SUFFIXES)}) in {self.uri}")
        sizes = [_header(file) for file in files]
        first, last = (
            math.ceil(min(time_s * fps - 1e-9, len(files))) for time_s in _bounds(options)
        )
        if first >= last:
            raise DataError(
                f"no image of {self.uri} {_part(options)}; it has {len(files)}, {fps:g} per second"
            )
        self._todo = deque(list(enumerate(files))[first:last])
        self.frames = len(self._todo)
        self.size = sizes[first]

    def reopen(self) -> ImageFolder:
        """Return a new source that starts from the beginning."""
        return ImageFolder(self._path, self._options)

    def _next(self) -> Frame | None:
        if not self._todo:
            return None
        from cstl_edge.silhouette import read_image

        index, file = self._todo.popleft()
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
    head = _attempt(name, lambda: _head(path))
    if head == b"":
        raise DataError(f"{name} is empty (0 bytes); expected a video")
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(PLAYLISTS):
        raise DataError(
            f"{name}: it is no video that FFmpeg can read, but a list of other files or addresses; "
            "give the video itself"
        )


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(64)


def _attempt(name: str, action: Callable[[], Any]) -> Any:
    """Return the result of a file operation; SourceUnavailable where it is refused."""
    try:
        return action()
    except (OSError, ValueError) as err:
        reason = getattr(err, "strerror", None) or err
        raise SourceUnavailable(f"cannot open {name}: {one_line(reason)}") from err


def _check_pixels(name: str, height: int, width: int) -> None:
    if height * width > MAX_PIXELS:
        raise DataError(
            f"{name} is {width}x{height}; expected at most {MAX_PIXELS // 10**6} megapixels "
            "(a person needs 100 to 400 pixels of height)"
        )
