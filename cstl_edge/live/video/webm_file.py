"""WebM (Matroska, RFC 9559) of VP8 frames: a video that is playable up to its last whole cluster.

While it grows the segment has no length, as in a live stream. The end gives it its length, and an
index of the clusters, by which players jump.
"""

from __future__ import annotations

import os
import struct

from cstl_edge.live.video.growing_video import GrowingVideo, Sample

UNKNOWN_SIZE = b"\x01" + b"\xff" * 7
EBML, SEGMENT, SEEK_HEAD, SEEK, SEEK_ID, SEEK_AT, VOID = (
    b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", b"\x11\x4d\x9b\x74", b"\x4d\xbb", b"\x53\xab",
    b"\x53\xac", b"\xec",
)  # fmt: skip
INFO, TRACKS, TRACK, VIDEO = b"\x15\x49\xa9\x66", b"\x16\x54\xae\x6b", b"\xae", b"\xe0"
DURATION, CLUSTER, TIME, BLOCK = b"\x44\x89", b"\x1f\x43\xb6\x75", b"\xe7", b"\xa3"
CUES, CUE, CUE_TIME, CUE_PLACE = b"\x1c\x53\xbb\x6b", b"\xbb", b"\xb3", b"\xb7"
CUE_TRACK, CUE_AT = b"\xf7", b"\xf1"
KEY_FLAG = 0x80
SEEK_BYTES, DURATION_BYTES = 26, 11  # of the elements that the end fills in


class WebmFile(GrowingVideo):
    """Writer of VP8 frames into a WebM."""

    def _header(self) -> tuple[bytes, int]:
        form = self._form
        self._clusters: list[tuple[int, int]] = []  # time [ms] and place of those with a key frame
        head = _element(
            EBML,
            _number(b"\x42\x86", 1), _number(b"\x42\xf7", 1),  # version of EBML; to read it
            _number(b"\x42\xf2", 4), _number(b"\x42\xf3", 8),  # longest id and length
            _element(b"\x42\x82", b"webm"),
            _number(b"\x42\x87", 4), _number(b"\x42\x85", 2),  # version of WebM; to read it
        )  # fmt: skip
        name = _element(b"\x4d\x80", b"cstl-edge") + _element(b"\x57\x41", b"cstl-edge")
        scale = _number(b"\x2a\xd7\xb1", 1_000_000)  # nanoseconds in a unit of time
        info = _element(INFO, scale, name, _void(DURATION_BYTES))
        size = _element(VIDEO, _number(b"\xb0", form.width), _number(b"\xba", form.height))
        track = _element(
            TRACK,
            _number(b"\xd7", 1), _number(b"\x73\xc5", 1),  # number and id
            _number(b"\x83", 1), _number(b"\x9c", 0),  # a video, without lacing
            _number(b"\x23\xe3\x83", round(1e9 / form.fps)),  # nanoseconds of a frame
            _element(b"\x86", b"V_VP8"), size,
        )  # fmt: skip
        head += SEGMENT + UNKNOWN_SIZE
        self._segment_at = len(head)  # from here places count
        head += _void(SEEK_BYTES) + info
        return head + _element(TRACKS, track), len(head) - DURATION_BYTES

    def _fragment(self, samples: list[Sample]) -> bytes:
        begin_ms = self._time_ms(self._frames)
        if samples[0][1]:
            self._clusters.append((begin_ms, self._end - self._segment_at))
        blocks = []
        for number, (data, key) in enumerate(samples, start=self._frames):
            if data:
                after_ms = self._time_ms(number) - begin_ms
                head = struct.pack(">BhB", 0x81, after_ms, KEY_FLAG if key else 0)
                blocks.append(_element(BLOCK, head, data))
        return _element(CLUSTER, _number(TIME, begin_ms), *blocks)

    def _length(self) -> bytes:
        milliseconds = self._frames * 1e3 / self._form.fps
        return _element(DURATION, struct.pack(">d", milliseconds))

    def _write_index(self) -> None:
        cues_at = self._end - self._segment_at
        cues = [
            _element(
                CUE,
                _number(CUE_TIME, time_ms),
                _element(CUE_PLACE, _number(CUE_TRACK, 1), _number(CUE_AT, place)),
            )
            for time_ms, place in self._clusters
        ]
        self._append(_element(CUES, *cues))
        seek = _element(
            SEEK, _element(SEEK_ID, CUES), _element(SEEK_AT, struct.pack(">Q", cues_at))
        )
        os.pwrite(self._file, _element(SEEK_HEAD, seek), self._segment_at)
        length = struct.pack(">Q", 1 << 56 | self._end - self._segment_at)
        os.pwrite(self._file, length, self._segment_at - len(UNKNOWN_SIZE))

    def _time_ms(self, frame: int) -> int:
        return round(frame * 1000 / self._form.fps)


def _element(kind: bytes, *content: bytes) -> bytes:
    """Return an element: its id, the length of its content in as few bytes as hold it, and that."""
    body = b"".join(content)
    width = next(w for w in range(1, 9) if len(body) < (1 << 7 * w) - 1)
    return kind + (1 << 7 * width | len(body)).to_bytes(width, "big") + body


def _number(kind: bytes, value: int) -> bytes:
    return _element(kind, value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big"))


def _void(size: int) -> bytes:
    """Return an element of so many bytes, at most 128, that says nothing."""
    return _element(VOID, bytes(size - 2))
