"""Encoder of H.264 by the system's FFmpeg: pictures into its pipe, frames for an MP4 out of it.

A child of its own session, so that Ctrl-C ends the recording and not its encoder. Frames are cut at
the delimiters that FFmpeg is told to put in front of each (ISO/IEC 14496-10, 7.4.1.2.3), and get
lengths in place of start codes (ISO/IEC 14496-15, 5.3).
"""

from __future__ import annotations

import contextlib
import struct
import subprocess
import threading
from collections.abc import Iterator
from typing import IO

import numpy as np

from cstl_edge.arrays import Image
from cstl_edge.errors import DataError, one_line
from cstl_edge.live.video.browser import H264_ENCODERS, ffmpeg_encoder
from cstl_edge.live.video.encoder import OnFrame

START = b"\0\0\1"
DELIMITER, SEQUENCE, PICTURE, KEY = 9, 7, 8, 5  # kinds of units (NAL)
CHUNK_BYTES = 2**16
KEY_EVERY = 25  # frames
END_S = 20.0  # that the last frames may take


class H264Encoder:
    """Encoder of H.264; OSError where the system has no FFmpeg that encodes it."""

    codec = "h264"

    def __init__(self, width: int, height: int, on_frame: OnFrame) -> None:
        """Start FFmpeg.

        Args:
            width: Of the pictures, even [pixels].
            height: Of the pictures, even [pixels].
            on_frame: Receiver of the frames, in another thread.
        """
        chosen = ffmpeg_encoder()
        if chosen is None:
            raise OSError("there is no FFmpeg that encodes H.264")
        self.configuration = b""
        self._on_frame = on_frame
        self._process = subprocess.Popen(
            _command(chosen.codec, width, height),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._thread = threading.Thread(target=self._drain, name="h264", daemon=True)
        self._thread.start()

    def write(self, picture: Image) -> None:
        """Encode one picture (DataError: FFmpeg ended)."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(np.ascontiguousarray(picture).data)
        except OSError as err:
            raise DataError(f"ffmpeg ended while it encoded: {self._words()}") from err

    def close(self) -> None:
        """Encode what is left and wait until the last frame was handed on."""
        stdin = self._process.stdin
        if stdin is None or stdin.closed:
            return
        with contextlib.suppress(OSError):
            stdin.close()
        self._thread.join(END_S)
        if self._thread.is_alive():
            self._process.kill()
            self._thread.join()
        self._process.wait()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def _words(self) -> str:
        self._process.kill()
        stderr = self._process.stderr
        said = stderr.read().decode("utf-8", "replace").strip() if stderr is not None else ""
        return one_line(said) or "it says nothing"

    def _drain(self) -> None:
        assert self._process.stdout is not None
        for units in _pictures(self._process.stdout):
            kinds = [unit[0] & 31 for unit in units]
            if not self.configuration and SEQUENCE in kinds and PICTURE in kinds:
                sequence, picture = (units[kinds.index(kind)] for kind in (SEQUENCE, PICTURE))
                self.configuration = _configuration(sequence, picture)
            data = b"".join(
                struct.pack(">I", len(unit)) + unit
                for unit, kind in zip(units, kinds, strict=True)
                if kind not in (DELIMITER, SEQUENCE, PICTURE)
            )
            self._on_frame(data, KEY in kinds)


def _command(codec: str, width: int, height: int) -> list[str]:
    fast = ("-tune", "zerolatency") if codec == "libx264" else ()
    return [
        "ffmpeg", "-hide_banner", "-loglevel", "error", "-nostdin",
        "-f", "rawvideo", "-pix_fmt", "bgr24", "-video_size", f"{width}x{height}",
        "-framerate", "25", "-i", "pipe:0", "-an", "-threads", "1",
        "-c:v", codec, *H264_ENCODERS[codec], *fast, "-bf", "0", "-g", str(KEY_EVERY),
        "-pix_fmt", "yuv420p", "-bsf:v", "h264_metadata=aud=insert", "-f", "h264", "pipe:1",
    ]  # fmt: skip


def _pictures(stream: IO[bytes]) -> Iterator[list[bytes]]:
    """Yield the units of each picture, as they come; a picture begins with a delimiter."""
    units: list[bytes] = []
    for unit in _units(stream):
        if unit[0] & 31 == DELIMITER and units:
            yield units
            units = []
        units.append(unit)
    if units:
        yield units


def _units(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield what lies between start codes."""
    rest = b""
    while chunk := stream.read1(CHUNK_BYTES):  # type: ignore[attr-defined]
        *whole, rest = (rest + chunk).split(START)
        yield from filter(None, (unit.rstrip(b"\0") for unit in whole))
        rest = START + rest if whole else rest
    yield from filter(None, (unit.rstrip(b"\0") for unit in rest.split(START)))


def _configuration(sequence: bytes, picture: bytes) -> bytes:
    """Return the decoder's configuration record (ISO/IEC 14496-15, 5.3.3.1)."""
    return b"".join(
        (
            bytes([1, *sequence[1:4], 0xFF, 0xE1]),
            struct.pack(">H", len(sequence)),
            sequence,
            b"\1",
            struct.pack(">H", len(picture)),
            picture,
        )
    )
