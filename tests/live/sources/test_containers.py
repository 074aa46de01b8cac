"""What a container says of its pictures, with both readers; and what it may not make them do."""

from __future__ import annotations

import importlib.util
import os
import struct
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cstl_edge.errors import DataError
from cstl_edge.live.sources import files
from cstl_edge.live.sources.child_capture import ReaderCapture
from cstl_edge.live.sources.child_protocol import ReadRequest
from cstl_edge.live.sources.formats import square_size
from cstl_edge.live.sources.open import open_source

needs_av = pytest.mark.skipif(
    importlib.util.find_spec("av") is None, reason="PyAV is missing: pip install av"
)
OLD_CV2 = tuple(int(x) for x in cv2.__version__.split(".")[:2]) < (4, 12)
ONE = 65536  # 1.0 in a display matrix
QUARTER = np.zeros((48, 64, 3), np.uint8)
QUARTER[:24, :32] = 200  # top left


@pytest.fixture(params=[pytest.param("av", marks=needs_av), "cv2"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Read files with one of the two libraries."""
    monkeypatch.setattr(files, "best_reader", lambda: request.param)
    return str(request.param)


def write(path: Path, picture: np.ndarray = QUARTER, codec: str = "mp4v", frames: int = 4) -> Path:
    height, width = picture.shape[:2]
    fourcc = cv2.VideoWriter.fourcc(*codec)
    writer = cv2.VideoWriter(str(path), fourcc, 10.0, (width, height))
    for _ in range(frames):
        writer.write(picture)
    writer.release()
    return path


def write_av(path: Path, codec: str, pictures: list[np.ndarray], **settings: Any) -> Path:
    """Write a file with PyAV; settings: attributes of the encoder."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = settings.pop("pix_fmt", "yuv420p")
        for name, value in settings.items():
            setattr(stream.codec_context, name, value)
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def with_matrix(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """Write a display matrix into the track header of an MP4."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    data[at : at + 36] = struct.pack(">9i", a * ONE, b * ONE, 0, c * ONE, d * ONE, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def corner(image: np.ndarray) -> str:
    """Return where the bright quarter of a picture is."""
    height, width = image.shape[:2]
    rows, columns = np.nonzero(image[..., 0] > 100)
    vertical = "top" if rows.mean() < height / 2 else "bottom"
    return f"{vertical} {'left' if columns.mean() < width / 2 else 'right'}"


@needs_av
@pytest.mark.parametrize(
    ("aspect", "size"), [((2, 1), (48, 128)), ((1, 2), (96, 64)), ((9, 1), (48, 64))]
)
def test_pixels_become_square(tmp_path, reader, aspect, size) -> None:
    settings = {"sample_aspect_ratio": Fraction(*aspect)}
    path = write_av(tmp_path / "a.mp4", "mpeg4", [QUARTER] * 3, **settings)
    with open_source(path) as source:
        assert source.size == size
        assert {frame.image.shape[:2] for frame in source} == {size}


def test_absurd_pixels_count_as_square() -> None:
    assert square_size(704, 576, 12 / 11) == (768, 576)
    assert square_size(64, 48, 0.0) == square_size(64, 48, 100.0) == (64, 48)


@pytest.mark.parametrize(
    ("matrix", "size", "place"),
    [
        ((0, 1, -1, 0), (64, 48), "top right"),
        ((-1, 0, 0, -1), (48, 64), "bottom right"),
        ((0, -1, 1, 0), (64, 48), "bottom left"),
    ],
)
def test_pictures_stand_upright(tmp_path, reader, matrix, size, place) -> None:
    if reader == "cv2" and OLD_CV2:
        pytest.skip("OpenCV before 4.12 does not turn by the matrix: --rotate does")
    path = with_matrix(write(tmp_path / "a.mp4"), *matrix)
    frame = next(open_source(path))
    assert (frame.image.shape[:2], corner(frame.image)) == (size, place)


@needs_av
@pytest.mark.parametrize(
    ("matrix", "place"), [((-1, 0, 0, 1), "top right"), ((1, 0, 0, -1), "bottom left")]
)
def test_mirrored_pictures_are_mirrored(tmp_path, matrix, place) -> None:
    assert corner(next(open_source(with_matrix(write(tmp_path / "a.mp4"), *matrix))).image) == place


@needs_av
def test_one_field_is_taken_of_interlaced_pictures(tmp_path: Path) -> None:
    comb = np.zeros((64, 64, 3), np.uint8)
    comb[::2, :32] = comb[1::2, 32:] = 200  # two moments: something bright has moved
    flags = 0x40000 | 0x20000000  # interlaced DCT and motion estimation
    path = write_av(tmp_path / "a.mkv", "mpeg2video", [comb] * 4, flags=flags, bit_rate=8_000_000)
    image = next(open_source(path)).image
    assert image[8:-8, 4:28].mean() > 180
    assert image[8:-8, 36:60].mean() < 20


def test_full_range_is_not_stretched(tmp_path: Path, reader: str) -> None:
    path = write(tmp_path / "a.avi", np.full((48, 64, 3), 40, np.uint8), "MJPG")
    assert next(open_source(path)).image.mean() == pytest.approx(40, abs=3)


def test_the_true_rate_replaces_the_timestamps(tmp_path: Path, reader: str) -> None:
    source = open_source(write(tmp_path / "a.mp4"), fps=40.0)
    assert source.fps == 40.0
    assert [frame.time_s for frame in source] == [0, 0.025, 0.05, 0.075]


@needs_av
def test_a_title_in_another_encoding_is_no_fault(tmp_path: Path, reader: str) -> None:
    import av

    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "Zoe-zoe-zoe"
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        frames = [av.VideoFrame.from_ndarray(QUARTER, format="bgr24") for _ in range(3)]
        for frame in (*frames, None):
            container.mux(stream.encode(frame))
    data = path.read_bytes()
    assert b"Zoe-zoe-zoe" in data
    path.write_bytes(data.replace(b"Zoe-zoe-zoe", b"Zo\xeb-zo\xeb-zo\xeb"))
    assert sum(1 for _ in open_source(path)) == 3


PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{other}\n#EXT-X-ENDLIST\n"
DASH = (
    '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet '
    'mimeType="video/mp4"><Representation id="1"><BaseURL>file://{other}</BaseURL>'
    "</Representation></AdaptationSet></Period></MPD>"
)


@pytest.mark.parametrize("text", [PLAYLIST, "ffconcat version 1.0\nfile {other}\n", DASH])
@pytest.mark.parametrize("other", ["video", "fifo"])
def test_a_file_opens_nothing_but_itself(tmp_path, reader, text, other) -> None:
    paths = {"video": write(tmp_path / "v.mp4"), "fifo": tmp_path / "f.mp4"}
    os.mkfifo(paths["fifo"])
    path = tmp_path / "playlist.mp4"
    path.write_text(text.format(other=paths[other]))
    begun_s = time.monotonic()
    with pytest.raises(DataError, match="no video that FFmpeg can read"):
        open_source(path)
    assert time.monotonic() - begun_s < 8


def test_what_hangs_is_ended(tmp_path: Path, reader: str) -> None:
    os.mkfifo(tmp_path / "f.mp4")
    capture = ReaderCapture(ReadRequest(path=str(tmp_path / "f.mp4"), reader=reader), 0.5)
    with pytest.raises(DataError, match=r"took more than 0\.5 s"):
        capture.open()
    capture.close()
    assert capture.process.returncode is not None


def test_memory_of_a_reader_is_bounded() -> None:
    import subprocess
    import sys

    code = (
        "from cstl_edge.live.sources import child_main as m; m._limit_memory()\n"
        "try:\n    bytearray(m.MEMORY_BYTES + 1)\nexcept MemoryError:\n    print('refused')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "refused\n"
