"""A video file that grows by whole fragments: what is common to fragmented MP4 and WebM.

The header comes first and names no frame; every fragment names its own and is written with one
call, so a full disk, a kill or a power cut costs the fragment in work and nothing before it. One
track, one frame rate.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

SYNC_S = 5.0  # of video between two syncs to the disk
FRAGMENT_S = 1.0  # a fragment ends at the first key frame from here on
MAX_FRAGMENT_FRAMES, MAX_FRAGMENT_S = 250, 30.0  # where key frames do not come

Codec = Literal["h264", "vp8", "mpeg4", "jpeg"]
Sample = tuple[bytes, bool]
"""An encoded frame, and whether it is a key frame; without data for a frame that was left out."""


@dataclass(frozen=True)
class VideoFormat:
    """What a track's header states of its pictures."""

    codec: Codec
    width: int  # pixels
    height: int
    fps: float
    configuration: bytes = b""  # headers of the MPEG-4 stream; the record of the H.264 decoder


class GrowingVideo:
    """Writer of frames into an open file; `close` ends the last fragment and states the length.

    Every OSError of the disk comes out of `add` or `close`; the file then ends with the last
    fragment that fitted.
    """

    def __init__(self, file: int, form: VideoFormat) -> None:
        """Write the header to an empty file, given by its descriptor."""
        self._file, self._form = file, form
        self._samples: list[Sample] = []  # of the fragment in work
        self._sequence = self._frames = self._unsynced = 0
        self._end = 0  # of the last whole fragment, in bytes
        header, self._length_at = self._header()
        self._append(header)

    def add(self, frame: bytes, *, key: bool) -> None:
        """Append one encoded frame; key: it depends on no other."""
        count = len(self._samples)
        fps = self._form.fps
        long_enough = count >= FRAGMENT_S * fps
        most = min(MAX_FRAGMENT_FRAMES, MAX_FRAGMENT_S * fps)
        if count and ((key and long_enough) or count >= most):
            self._flush()
        self._samples.append((frame, key))

    def close(self) -> None:
        """Write what is left, and the length of the whole into the header."""
        if self._samples:
            self._flush()
        self._write_index()
        self.state_length()
        os.fsync(self._file)

    def state_length(self) -> None:
        """Write the length of the whole fragments into the header, which takes no more space."""
        os.pwrite(self._file, self._length(), self._length_at)

    def _header(self) -> tuple[bytes, int]:
        """Return the file's head, and where in it the length stands, which is open for now."""
        raise NotImplementedError

    def _fragment(self, samples: list[Sample]) -> bytes:
        """Return a fragment that begins at frame `self._frames`, the `self._sequence`-th."""
        raise NotImplementedError

    def _length(self) -> bytes:
        """Return what the header says of the length of `self._frames` frames."""
        raise NotImplementedError

    def _write_index(self) -> None:
        """Write what finds fragments, at the end of the file."""

    def _flush(self) -> None:
        samples, self._samples = self._samples, []
        self._sequence += 1
        self._append(self._fragment(samples))
        self._frames += len(samples)
        self._unsynced += len(samples)
        if self._unsynced >= SYNC_S * self._form.fps:
            self._unsynced = 0
            os.fsync(self._file)

    def _append(self, data: bytes) -> None:
        """Write at the end, or leave the file as it was (OSError)."""
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError:
            os.ftruncate(self._file, self._end)
            raise
        self._end += len(data)
