"""Writes JPEGs from standard input as VP8 in WebM, by cv2; a child of `browser`.

A process of its own: it works at low priority, and what cv2's FFmpeg prints goes to nobody. The
input is the frames per second as a little-endian double, then each picture behind its length as
four bytes, little-endian.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from cstl_edge.opencv import import_cv2

FPS, LENGTH = struct.Struct("<d"), struct.Struct("<I")


def packed(jpegs: list[bytes], fps: float) -> bytes:
    """Return the input of the child."""
    parts = [FPS.pack(fps)]
    for jpeg in jpegs:
        parts += [LENGTH.pack(len(jpeg)), jpeg]
    return b"".join(parts)


def unpacked(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the pictures of an input whose rate has been read."""
    while len(head := stream.read(LENGTH.size)) == LENGTH.size:
        yield stream.read(LENGTH.unpack(head)[0])


def main() -> int:
    """Write the file that the first argument names; return 1 where cv2 cannot."""
    cv2, writer = import_cv2(), None
    cv2.setNumThreads(1)
    stream = sys.stdin.buffer
    (fps,) = FPS.unpack(stream.read(FPS.size))
    for jpeg in unpacked(stream):
        image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        image = image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]
        if writer is None:
            code = cv2.VideoWriter.fourcc(*"VP80")
            size = image.shape[1], image.shape[0]
            writer = cv2.VideoWriter(sys.argv[1], cv2.CAP_FFMPEG, code, fps, size)
            if not writer.isOpened():
                print("this cv2 has no encoder of VP8", file=sys.stderr)
                return 1
        writer.write(np.ascontiguousarray(image))
    if writer is not None:
        writer.release()
    return 0


if __name__ == "__main__":
    sys.exit(main())
