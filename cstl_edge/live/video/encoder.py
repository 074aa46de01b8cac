"""Encoders of pictures into the frames of an annotated video, from whatever cv2 has.

H.264 is in `h264`. VP8, which browsers play too, and MPEG-4 come from cv2's FFmpeg, which writes an
AVI into a pipe of ours: its own files cannot be played unless ended, and it does not say when a
disk is full. A cv2 without it encodes JPEG.
"""

from __future__ import annotations

import contextlib
import os
import queue
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from cstl_edge.arrays import Image
from cstl_edge.opencv import import_cv2

cv2 = import_cv2()

OnFrame = Callable[[bytes, bool], None]
"""Called with each encoded frame, and whether it is a key frame; without data for a frame that was
left out."""

JPEG_QUALITY = 85
ENCODER_FPS = 25.0  # for its rate control alone: the container has the true rate
MAX_MPEG4_SIDE = 8176  # pixels
MAX_WAITING = 8  # pictures that wait for the encoder of VP8
FRAMES_PER_RUN = 20_000  # of one AVI: its index grows in memory
PICTURE = b"\x00\x00\x01\xb6"  # start code of a picture in an MPEG-4 stream
PIPE_CHUNK_BYTES = 2**16


class VideoEncoder(Protocol):
    """Encodes pictures of one size."""

    codec: str  # `h264`, `vp8`, `mpeg4`, `jpeg`
    configuration: bytes  # what the container's header says of the stream, from the first frame on

    def write(self, picture: Image) -> None:
        """Encode uint8 [h, w, 3], BGR."""
        ...

    def close(self) -> None:
        """Encode what is left; may be called twice."""
        ...


def open_encoder(width: int, height: int, on_frame: OnFrame) -> VideoEncoder:
    """Return the best encoder that this cv2 has.

    Args:
        width: Of the pictures, even [pixels].
        height: Of the pictures, even [pixels].
        on_frame: Receiver of the frames, perhaps in another thread.
    """
    if max(width, height) <= MAX_MPEG4_SIDE:
        with contextlib.suppress(OSError):
            return Mpeg4Encoder(width, height, on_frame)
    return JpegEncoder(on_frame)


class JpegEncoder:
    """Encoder of one JPEG per frame, in the caller's thread."""

    codec, configuration = "jpeg", b""

    def __init__(self, on_frame: OnFrame) -> None:
        self._on_frame = on_frame

    def write(self, picture: Image) -> None:
        """Encode one picture."""
        _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        self._on_frame(data.tobytes(), True)

    def close(self) -> None:
        """Do nothing: no frame waits."""


class AviEncoder:
    """Encoder of cv2's FFmpeg; a thread takes the frames out of its AVI."""

    codec, fourcc, name = "mpeg4", "mp4v", "MPEG-4"

    def __init__(self, width: int, height: int, on_frame: OnFrame) -> None:
        """Open the encoder; OSError where this cv2 has none."""
        self.configuration = b""
        self._size, self._on_frame, self._written = (width, height), on_frame, 0
        self._writer: Any = None
        self._inlet = -1
        self._thread: threading.Thread | None = None
        self._start()

    def write(self, picture: Image) -> None:
        """Encode one picture."""
        if self._written >= FRAMES_PER_RUN:
            self._end()
            self._start()
        self._writer.write(picture)
        self._written += 1

    def close(self) -> None:
        """Encode what is left and wait until the last frame was handed on."""
        self._end()

    def _take(self, frame: bytes) -> None:
        """Hand on a frame, in the thread that reads the AVI."""
        raise NotImplementedError

    def _end(self) -> None:
        if self._writer is not None:
            self._writer.release()
            self._writer = None
            os.close(self._inlet)
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _start(self) -> None:
        self._written = 0
        outlet, self._inlet = os.pipe()
        try:
            self._writer = _open_writer(self._inlet, self._size, self.fourcc)
        except OSError as err:
            os.close(outlet)
            os.close(self._inlet)
            raise OSError(f"this cv2 has no encoder of {self.name}") from err
        self._thread = threading.Thread(target=self._drain, args=(outlet,), daemon=True)
        self._thread.start()

    def _drain(self, outlet: int) -> None:
        with os.fdopen(outlet, "rb", buffering=PIPE_CHUNK_BYTES) as pipe:
            for frame in avi_frames(pipe.read):
                self._take(frame)


class Mpeg4Encoder(AviEncoder):
    """Encoder of MPEG-4 part 2, in the caller's thread."""

    def _take(self, frame: bytes) -> None:
        if not self.configuration:  # the headers in front of the first picture
            self.configuration = frame[: max(0, frame.find(PICTURE))]
        self._on_frame(frame, _is_key(frame))


class Vp8Encoder(AviEncoder):
    """Encoder of VP8 in a thread of its own; a camera is not held up: frames are left out."""

    codec, fourcc, name = "vp8", "VP80", "VP8"

    def __init__(self, width: int, height: int, on_frame: OnFrame, *, live: bool) -> None:
        """Open the encoder; OSError where this cv2 has none.

        Args:
            width: Of the pictures, even [pixels].
            height: Of the pictures, even [pixels].
            on_frame: Receiver of the frames, in another thread.
            live: Whether frames are left out that come faster than they are encoded.
        """
        super().__init__(width, height, on_frame)
        self._live, self._left_out, self.left_out = live, 0, 0
        self._gaps: deque[int] = deque()  # frames left out before each that is encoded
        self._waiting: queue.Queue[tuple[int, Image] | None] = queue.Queue(MAX_WAITING)
        self._failed: Exception | None = None
        self._worker: threading.Thread | None = threading.Thread(target=self._work, daemon=True)
        self._worker.start()

    def write(self, picture: Image) -> None:
        """Encode one picture soon, or leave it out."""
        if self._failed is not None:
            raise self._failed
        try:
            self._waiting.put((self._left_out, picture.copy()), block=not self._live)
            self._left_out = 0
        except queue.Full:
            self._left_out += 1
            self.left_out += 1

    def close(self) -> None:
        """Encode what is left and wait until the last frame was handed on."""
        if self._worker is not None:
            self._waiting.put(None)
            self._worker.join()
            self._worker = None
        self._end()

    def _work(self) -> None:
        while (item := self._waiting.get()) is not None:
            if self._failed is not None:
                continue
            self._gaps.append(item[0])
            try:
                super().write(item[1])
            except Exception as err:  # it is the caller's, at the next picture
                self._failed = err

    def _take(self, frame: bytes) -> None:
        for _ in range(self._gaps.popleft()):
            self._on_frame(b"", False)
        self._on_frame(frame, not frame[0] & 1)  # RFC 6386, 9.1


def avi_frames(read: Callable[[int], bytes]) -> Iterator[bytes]:
    """Yield the frames of an AVI of one stream, as they come.

    read: gives so many of its next bytes, fewer at its end
    """
    read(12)  # RIFF, size, AVI
    while len(head := read(8)) == 8:
        kind, size = head[:4], int.from_bytes(head[4:], "little")
        if kind == b"LIST" and read(4) == b"movi":
            continue  # its chunks follow
        body = read(size + size % 2 - (4 if kind == b"LIST" else 0))
        if kind == b"00dc" and size:
            yield body[:size]


def _is_key(frame: bytes) -> bool:
    """Tell whether an MPEG-4 frame is an I-VOP (ISO/IEC 14496-2, 6.2.5)."""
    at = frame.find(PICTURE)
    return at >= 0 and frame[at + 4] >> 6 == 0


def _open_writer(inlet: int, size: tuple[int, int], fourcc: str) -> Any:
    """Return an open cv2.VideoWriter (OSError where there is no encoder).

    Args:
        inlet: Descriptor that it writes to.
        size: Width and height [pixels].
        fourcc: Code of the encoder.
    """
    level = cv2.getLogLevel()
    cv2.setLogLevel(0)  # a missing encoder is no error to print
    try:
        with tempfile.TemporaryDirectory(prefix="cstl-edge-") as folder:
            link = Path(folder) / "pipe.avi"  # FFmpeg goes by the suffix
            link.symlink_to(f"/dev/fd/{inlet}")
            code = cv2.VideoWriter.fourcc(*fourcc)
            writer = cv2.VideoWriter(str(link), cv2.CAP_FFMPEG, code, ENCODER_FPS, size)
    finally:
        cv2.setLogLevel(level)
    if not writer.isOpened():
        raise OSError("no encoder")
    return writer
