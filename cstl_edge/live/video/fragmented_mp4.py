"""Fragmented MP4 (ISO/IEC 14496-12, 8.8): a video that is playable up to its last whole fragment.

The movie header states no samples, every fragment its own.
"""

from __future__ import annotations

import struct

from cstl_edge.live.video.growing_video import GrowingVideo, Sample, VideoFormat

TICKS_PER_FRAME = 1000
MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)  # no rotation
KEY, DELTA = 0x02000000, 0x01010000  # sample flags: depends on no other frame; on the one before
DATA_OFFSET, SIZES_AND_FLAGS = 0x1, 0x600  # fields of a run of samples that are there
BASE_IS_MOOF = 0x20000
OBJECT_TYPES = {"mpeg4": 0x20, "jpeg": 0x6C}  # ISO/IEC 14496-1, table 5


class FragmentedMp4(GrowingVideo):
    """Writer of H.264, MPEG-4 or JPEG frames into a fragmented MP4."""

    def _header(self) -> tuple[bytes, int]:
        return _header(self._form)

    def _fragment(self, samples: list[Sample]) -> bytes:
        return _fragment(self._sequence, self._frames * TICKS_PER_FRAME, samples)

    def _length(self) -> bytes:
        return struct.pack(">Q", self._frames * TICKS_PER_FRAME)


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


def _fragment(sequence: int, start: int, samples: list[Sample]) -> bytes:
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
