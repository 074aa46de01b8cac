"""Reader of files and network streams with PyAV, for the reading child process.

What a container says about its pictures is done to them: pixels that are not square, rotation and
mirroring, fields of interlaced video, full range. A local path opens nothing but itself: formats
that name other files (playlists) are not among those that are tried, and FFmpeg may use no protocol
but `file`.
"""

from __future__ import annotations

import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
from av.filter import Graph

from cstl_edge.foreign import MAX_PIXELS
from cstl_edge.live.sources.child_protocol import (
    End,
    Failure,
    Hello,
    PictureHead,
    ReadRequest,
    Skipped,
    SourceFailure,
    send,
)
from cstl_edge.live.sources.formats import (
    ANSWER_TIMEOUT_S,
    PICTURE_TIMEOUT_S,
    is_rtsp,
    limits,
    square_size,
)
from cstl_edge.live.sources.media_clock import MediaClock, believable_fps
from cstl_edge.live.sources.network_probe import probe
from cstl_edge.live.sources.reasons import NO_FILE, stream_reason

STEP_TIMEOUT_S = 10.0  # of a file, or of a file behind http://
DECODER_THREADS = 2
MAX_AGE_S = 1.0  # a packet that has waited longer is skipped
MAX_DAMAGED = 50  # packets of a stream in a row
SKIPPED_EVERY = 50  # pictures between two signs of life
FULL_RANGE = 2  # AVCOL_RANGE_JPEG


def read(request: ReadRequest, pipe: int) -> None:
    """Send the records of a source; raises SourceFailure."""
    if request.url is not None:
        probe(request.url, ANSWER_TIMEOUT_S)
        if is_rtsp(request.url):
            send(pipe, Hello())  # FFmpeg's opening also waits for a key frame: up to 10 s
    try:
        with _open(request) as container:
            _read_container(container, request, pipe)
    except av.error.MemoryError as err:
        raise MemoryError from err
    except av.error.FFmpegError as err:
        reason = NO_FILE if request.is_recording else stream_reason(err.errno, str(err.strerror))
        raise SourceFailure(Failure(request.fault, reason)) from err


def _open(request: ReadRequest) -> Any:
    options, timeout_s = limits(request.path, request.url), (STEP_TIMEOUT_S, STEP_TIMEOUT_S)
    picture_s = request.picture_timeout_s or PICTURE_TIMEOUT_S
    # "file:" keeps FFmpeg from taking a name with a colon or % for a protocol or a pattern
    address = f"file:{request.path}" if request.path is not None else str(request.url)
    if is_rtsp(request.url):  # of a file behind http:// no buffer would lose the first pictures
        options = {**options, "fflags": "nobuffer"}
        timeout_s = (picture_s, picture_s)
    elif request.url is not None:
        timeout_s = (ANSWER_TIMEOUT_S, picture_s)
    # titles in old encodings are no fault of the pictures
    return av.open(address, options=options, timeout=timeout_s, metadata_errors="replace")


def _read_container(container: Any, request: ReadRequest, pipe: int) -> None:
    if not container.streams.video:
        raise SourceFailure(Failure("data", "it holds no video"))
    stream = container.streams.video[0]
    _check_pixels(stream.codec_context.width, stream.codec_context.height)
    stream.thread_type, stream.thread_count = "AUTO", DECODER_THREADS
    finite = request.is_recording or _is_finite(container)
    fps, note = believable_fps(_declared_fps(stream), request.fps)
    seconds = container.duration / av.time_base if container.duration else 0.0
    hello = Hello(
        fps=fps if finite else _declared_fps(stream) or 0.0,
        count=stream.frames or int(seconds * fps),
        exact=stream.frames > 0 and "mp4" in container.format.name,
        finite=finite,
        notes=(note,) if note and finite else (),
    )
    if not is_rtsp(request.url):
        send(pipe, hello)
    picture = _Picture(stream)
    if finite:
        _send_recording(container, stream, request, pipe, picture, fps)
    else:
        _send_newest(container, stream, pipe, picture)


def _is_finite(container: Any) -> bool:
    """Return whether a network source is a file that has an end."""
    rtsp = container.format.name == "rtsp"
    return not rtsp and (container.size > 0 or bool(container.duration))


def _declared_fps(stream: Any) -> float:
    return float(stream.average_rate or stream.guessed_rate or 0)


def _send_recording(
    container: Any, stream: Any, request: ReadRequest, pipe: int, picture: _Picture, fps: float
) -> None:
    """Send every picture between `start_s` and `stop_s`, in order."""
    clock, index, start = MediaClock(fps), 0, stream.start_time or 0
    for frame in _decoded(container, stream):
        stamp = None if frame.pts is None else float((frame.pts - start) * frame.time_base)
        time_s = index / fps if request.fps is not None else clock.time_s(stamp)
        index += 1
        if request.stop_s is not None and time_s >= request.stop_s:
            break
        if time_s >= request.start_s:
            picture.send(frame, pipe, index - 1, time_s)
        elif index % SKIPPED_EVERY == 0:  # decoded and dropped: seeking is not exact everywhere
            send(pipe, Skipped(index))
    send(pipe, End(index))


def _decoded(container: Any, stream: Any) -> Iterator[Any]:
    """Yield the pictures of a recording; raises SourceFailure at one that is damaged."""
    index = 0
    for packet in container.demux(stream):
        if packet.size == 0 and packet.dts is not None:
            continue  # AVI: the picture before stays
        try:
            frames = packet.decode()
        except av.error.EOFError:
            return
        except av.error.InvalidDataError as err:
            if index == 0:
                continue  # cut out of a longer recording: no key frame yet
            reason = f"picture {index} is damaged"
            raise SourceFailure(Failure("data", reason)) from err
        for frame in frames:
            index += 1
            yield frame


def _send_newest(container: Any, stream: Any, pipe: int, picture: _Picture) -> None:
    """Send the pictures of a live stream; those that this machine is too slow for are skipped.

    A thread of its own takes packets off the network as they come, so that none grows old in the
    buffers of the connection, where its age could not be told.
    """
    inbox = _Inbox(container, stream)
    index = damaged = 0
    while (item := inbox.take()) is not None:
        packet, arrived_s = item
        if time.monotonic() - arrived_s > MAX_AGE_S:
            inbox.skip_to_key_frame()
            stream.codec_context.flush_buffers()
            continue
        try:
            frames = packet.decode()
            damaged = 0
        except av.error.InvalidDataError:
            damaged += 1
            if damaged > MAX_DAMAGED:
                raise
            continue
        for frame in frames:
            picture.send(frame, pipe, index, arrived_s)
            index += 1
    raise SourceFailure(Failure("unavailable", inbox.reason()))


class _Inbox:
    """Packets of a live stream as they come, each with the time of its arrival."""

    def __init__(self, container: Any, stream: Any) -> None:
        self._packets: deque[tuple[Any, float]] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._fault: Exception | None = None
        threading.Thread(target=self._fetch, args=(container, stream), daemon=True).start()

    def take(self) -> tuple[Any, float] | None:
        """Wait for a packet; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._packets or self._ended)
            return self._packets.popleft() if self._packets else None

    def skip_to_key_frame(self) -> None:
        """Drop packets up to the newest key frame, or to the next one that comes."""
        with self._changed:
            keys = [i for i, (packet, _) in enumerate(self._packets) if packet.is_keyframe]
            for _ in range(keys[-1] if keys else len(self._packets)):
                self._packets.popleft()
            while not (self._packets or self._ended):
                self._changed.wait()
                while self._packets and not self._packets[0][0].is_keyframe:
                    self._packets.popleft()

    def reason(self) -> str:
        """Return why no more packets come."""
        fault = self._fault
        if isinstance(fault, av.error.FFmpegError):
            return stream_reason(fault.errno, str(fault.strerror))
        return "the stream ended" if fault is None else str(fault)

    def _fetch(self, container: Any, stream: Any) -> None:
        try:
            for packet in container.demux(stream):
                if packet.size:
                    with self._changed:
                        self._packets.append((packet, time.monotonic()))
                        self._changed.notify()
        except Exception as err:  # told by the thread that decodes
            self._fault = err
        with self._changed:
            self._ended = True
            self._changed.notify()


class _Picture:
    """Turns decoded frames into upright BGR pictures of square pixels, and sends them."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._form: tuple[Any, ...] | None = None
        self._graph: Any = None

    def send(self, frame: Any, pipe: int, index: int, time_s: float) -> None:
        """Send one frame.

        Args:
            frame: The decoder's.
            pipe: File descriptor of the parent's pipe.
            index: Number of the frame.
            time_s: Its time.
        """
        _check_pixels(frame.width, frame.height)
        aspect = self._stream.sample_aspect_ratio or self._stream.codec_context.sample_aspect_ratio
        form = (
            *(frame.width, frame.height, frame.format.name, frame.interlaced_frame),
            *(int(frame.color_range) == FULL_RANGE, aspect, _display_matrix(frame)),
        )
        if form != self._form:
            self._graph, self._form = _graph(frame, form), form
        self._graph.push(frame)
        picture = self._graph.pull()
        plane = picture.planes[0]
        head = PictureHead(index, time_s, picture.height, picture.width, plane.line_size)
        send(pipe, head, memoryview(plane)[: picture.height * plane.line_size])


def _graph(frame: Any, form: tuple[Any, ...]) -> Any:
    """Return the filters that a form of frames needs."""
    width, height, pixels, interlaced, full, aspect, matrix = form
    wide, high = square_size(width, height, float(aspect or 1))
    _check_pixels(wide, high)
    graph = Graph()
    filters = [graph.add_buffer(width=width, height=height, format=pixels, time_base=_base(frame))]
    if interlaced:  # two moments in one picture: one of its fields is a whole moment
        filters.append(graph.add("field", "top"))
    scale = f"{wide}:{high}:flags=bilinear" + (":in_range=full" if full else "")
    filters.append(graph.add("scale", scale))
    filters += [graph.add(*filter_) for filter_ in upright_filters(matrix)]
    filters += [graph.add("format", "bgr24"), graph.add("buffersink")]
    graph.link_nodes(*filters).configure()
    return graph


def _base(frame: Any) -> Fraction:
    return frame.time_base or Fraction(1, 1000)


def upright_filters(matrix: tuple[int, ...] | None) -> list[tuple[str, ...]]:
    """Return the filters that a display matrix asks for: a, b, u, c, d, v, x, y, w by rows."""
    if matrix is None:
        return []
    a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]
    crossed = abs(b) > abs(a)
    filters: list[tuple[str, ...]] = [("transpose", "cclock_flip")] if crossed else []
    across, down = (c, b) if crossed else (a, d)
    filters += [("hflip",)] if across < 0 else []
    return filters + ([("vflip",)] if down < 0 else [])


def _display_matrix(frame: Any) -> tuple[int, ...] | None:
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            return struct.unpack("=9i", bytes(data)[:36])
    return None


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        limit = f"{MAX_PIXELS // 10**6} megapixels (a person needs 100 to 400 pixels of height)"
        reason = f"it is {width}x{height}; expected at most {limit}"
        raise SourceFailure(Failure("data", reason))
