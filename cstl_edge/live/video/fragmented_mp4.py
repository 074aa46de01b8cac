"""Fragmented MP4 (ISO/IEC 14496-12, 8.8): a video that is playable up to its last whole fragment.

The movie header comes first and states no samples; every fragment states its own and is written
with one call, so a full disk, a kill or a power cut costs the fragment in work and nothing before
it. One track, one frame rate.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import Literal

TICKS_PER_FRAME = 1000
SYNC_S = 5.0  # of video between two syncs to the disk
FRAGMENT_S = 1.0  # a fragment ends at the first key frame from here on
MAX_FRAGMENT_FRAMES = 250  # where key frames do not come
MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)  # no rotation
KEY, DELTA = 0x02000000, 0x01010000  # sample flags: depends on no other frame; on the one before
DATA_OFFSET, SIZES_AND_FLAGS = 0x1, 0x600  # fields of a run of samples that are there
BASE_IS_MOOF = 0x20000
OBJECT_TYPES = {"mpeg4": 0x20, "jpeg": 0x6C}  # ISO/IEC 14496-1, table 5

Codec = Literal["h264", "mpeg4", "jpeg"]


@dataclass(frozen=True)
class VideoFormat:
    """What a track's header states of its pictures."""

    codec: Codec
    width: int  # pixels
    height: int
    fps: float
    configuration: bytes = b""  # headers of the MPEG-4 stream; the record of the H.264 decoder


class FragmentedMp4:
    """Writer of frames into an open file; `close` ends the last fragment and states the length.

    Every OSError of the disk comes out of `add` or `close`; the file then ends with the last
    fragment that fitted.
    """

    def __init__(self, file: int, form: VideoFormat) -> None:
        """Write the movie header to an empty file, given by its descriptor."""
        self._file, self._form = file, form
        self._samples: list[tuple[bytes, bool]] = []  # of the fragment in work: data, key frame?
        self._sequence = self._frames = self._unsynced = 0
        self._end = 0  # of the last whole fragment, in bytes
        header, self._length_at = _header(form)
        self._append(header)

    def add(self, frame: bytes, *, key: bool) -> None:
        """Append one encoded frame; key: it depends on no other."""
        count = len(self._samples)
        long_enough = count >= FRAGMENT_S * self._form.fps
        if count and ((key and long_enough) or count >= MAX_FRAGMENT_FRAMES):
            self._flush()
        self._samples.append((frame, key))

    def close(self) -> None:
        """Write what is left, and the length of the whole into the header."""
        if self._samples:
            self._flush()
        self.state_length()
        os.fsync(self._file)

    def state_length(self) -> None:
        """Write the length of the whole fragments into the header, which takes no more space."""
        os.pwrite(self._file, struct.pack(">Q", self._frames * TICKS_PER_FRAME), self._length_at)

    def _flush(self) -> None:
        samples, self._samples = self._samples, []
        self._sequence += 1
        self._append(_fragment(self._sequence, self._frames * TICKS_PER_FRAME, samples))
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


def _box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def _full_box(kind: bytes, flags: int, *content: bytes, version: int = 0) -> bytes:
    return _box(kind, struct.pack(">I", version << 24 | flags), *content)


def _header(form: VideoFormat) -> tuple[bytes, int]:
    """Return the file's head, and where in it the length [ticks] stands, which is 0 for now."""
    timescale = max(1, round(form.fps * TICKS_PER_FRAME))
    size = struct.pack(">II", form.width << 16, form.height << 16)
    movie = struct.pack(">IIIIIH10x", 0, 0, timescale, 0, 0x10000, 0x0100)
    track = struct.pack(">IIIII8xHHHH", 0, 0, 1, 0, 0, 0, 0, 0, 0)
    tables = [_full_box(kind, 0, bytes(4)) for kind in (b"stts", b"stsc", b"stco")]
    samples = _box(b"stbl", _description(form), *tables, _full_box(b"stsz", 0, bytes(8)))
    here = _full_box(b"url ", 1)  # the data are in this file
    data = _box(b"dinf", _full_box(b"dref", 0, struct.pack(">I", 1), here))
    media = _box(
        b"mdia",
        _full_box(b"mdhd", 0, struct.pack(">IIIIHH", 0, 0, timescale, 0, 0x55C4, 0)),
        _full_box(b"hdlr", 0, struct.pack(">I4s12x", 0, b"vide"), b"video\0"),
        _box(b"minf", _full_box(b"vmhd", 1, bytes(8)), data, samples),
    )
    length = _full_box(b"mehd", 0, bytes(8), version=1)
    defaults = _full_box(b"trex", 0, struct.pack(">IIIII", 1, 1, TICKS_PER_FRAME, 0, DELTA))
    moov = _box(
        b"moov",
        _full_box(b"mvhd", 0, movie, MATRIX, bytes(24), struct.pack(">I", 2)),
        _box(b"trak", _full_box(b"tkhd", 3, track, MATRIX, size), media),
        _box(b"mvex", length, defaults),
    )
    head = _box(b"ftyp", b"isom", struct.pack(">I", 512), b"isomiso5iso6mp41") + moov
    return head, head.index(b"mehd") + 8


def _description(form: VideoFormat) -> bytes:
    """Return the sample description: H.264, MPEG-4 visual, or JPEG in the entry of that."""

    def descriptor(tag: int, *content: bytes) -> bytes:
        body = b"".join(content)  # its length in four groups of seven bits
        groups = [len(body) >> shift & 0x7F for shift in (21, 14, 7, 0)]
        return bytes([tag, *(group | 0x80 for group in groups[:3]), groups[3]]) + body

    picture = struct.pack(
        ">6xH16xHHIIIH32sHh", 1, form.width, form.height, 0x480000, 0x480000, 0, 1, b"", 24, -1
    )
    if form.codec == "h264":
        entry = _box(b"avc1", picture, _box(b"avcC", form.configuration))
        return _full_box(b"stsd", 0, struct.pack(">I", 1), entry)
    decoder = struct.pack(">BB3xII", OBJECT_TYPES[form.codec], 0x11, 0, 0)
    specific = descriptor(0x05, form.configuration) if form.configuration else b""
    stream = descriptor(
        0x03, struct.pack(">HB", 1, 0), descriptor(0x04, decoder, specific), descriptor(0x06, b"\2")
    )
    entry = _box(b"mp4v", picture, _full_box(b"esds", 0, stream))
    return _full_box(b"stsd", 0, struct.pack(">I", 1), entry)


def _fragment(sequence: int, start: int, samples: list[tuple[bytes, bool]]) -> bytes:
    """Return a fragment that begins at `start` [ticks]."""
    rows = b"".join(struct.pack(">II", len(data), KEY if key else DELTA) for data, key in samples)

    def movie(offset: int) -> bytes:
        run = _full_box(
            b"trun",
            DATA_OFFSET | SIZES_AND_FLAGS,
            struct.pack(">II", len(samples), offset),
            rows,
        )
        track = _box(
            b"traf",
            _full_box(b"tfhd", BASE_IS_MOOF, struct.pack(">I", 1)),
            _full_box(b"tfdt", 0, struct.pack(">Q", start), version=1),
            run,
        )
        return _box(b"moof", _full_box(b"mfhd", 0, struct.pack(">I", sequence)), track)

    moof = movie(len(movie(0)) + 8)
    return moof + _box(b"mdat", *(data for data, _ in samples))
