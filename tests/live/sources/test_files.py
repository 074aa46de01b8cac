"""Recordings as sources: every frame at its time, or an error that names the fault."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from short_walk import CLIP

from cstl_edge.errors import DataError, SourceUnavailable
from cstl_edge.live.sources.base import FrameSource
from cstl_edge.live.sources.files import ImageFolder, VideoFile
from cstl_edge.live.sources.open import open_source
from cstl_edge.silhouette import numbered_images


def write_video(path: Path, frames: int = 20) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (64, 48))
    assert writer.isOpened()
    for i in range(frames):
        writer.write(np.full((48, 64, 3), 10 * i % 250, np.uint8))
    writer.release()
    return path


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "a.mp4")


@pytest.fixture
def cut_clip(tmp_path: Path) -> Path:
    """Return the first half of the shipped clip, whose index stands at the front."""
    data, file = CLIP.read_bytes(), tmp_path / "cut.mp4"
    file.write_bytes(data[: len(data) // 2])
    return file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of 12 images, whose grey is their number."""
    (tmp_path / "frames").mkdir()
    for i in range(12):
        cv2.imwrite(str(tmp_path / "frames" / f"{i}.png"), np.full((48, 64, 3), i, np.uint8))
    return tmp_path / "frames"


def read_until_fault(source: FrameSource, message: str) -> list[int]:
    """Return the numbers of the frames before a DataError with `message`."""
    indices: list[int] = []
    with pytest.raises(DataError, match=message):
        indices.extend(frame.index for frame in source)
    return indices


def huge_png() -> bytes:
    """Return a PNG whose header declares 30000x30000, with hardly any data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def test_the_shipped_clip_gives_every_frame() -> None:
    with open_source(str(CLIP)) as source:
        assert isinstance(source, VideoFile)
        assert (source.size, source.fps, source.frames) == ((496, 884), 30.0, 230)
        assert not source.live
        frames = [(f.index, f.time_s, f.image.shape) for f in source]
    assert [f[0] for f in frames] == list(range(230))
    np.testing.assert_allclose([f[1] for f in frames], np.arange(230) / 30, atol=1e-3)
    assert {f[2] for f in frames} == {(496, 884, 3)}
    assert source.dropped == 0
    assert list(source) == []


def test_two_parts_give_the_frames_of_the_whole() -> None:
    first, second = open_source(CLIP, stop_s=1.0), open_source(CLIP, start_s=1.0, stop_s=2.0)
    assert (first.frames, second.frames, open_source(CLIP, start_s=0.5).frames) == (30, 30, 215)
    assert [f.index for f in [*first, *second]] == list(range(60))


def test_a_source_starts_over_with_reopen(video: Path) -> None:
    source = open_source(video, start_s=0.5)
    first = [f.image.mean() for f in source]
    assert [f.image.mean() for f in source.reopen()] == first
    assert len(first) == 15


@pytest.mark.parametrize("name", ["concat:b.mp4", "%03d.mp4", "ü ñ.mp4", "-i.mp4"])
def test_names_that_look_like_options_or_patterns_are_opened(video: Path, name: str) -> None:
    assert sum(1 for _ in open_source(video.rename(video.with_name(name)))) == 20


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.mp4", b""),
        ("text.mp4", b"this is no video\n" * 100),
        ("zeros.mp4", bytes(10_000)),
        ("image.mp4", huge_png()),
    ],
)
def test_a_file_that_is_no_video_is_refused(tmp_path, name, content, capfd) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name) as caught:
        open_source(tmp_path / name)
    assert caught.value.exit_code == 3
    assert capfd.readouterr().err == ""  # cv2 and FFmpeg keep silent


def test_a_file_without_its_index_is_refused(tmp_path: Path) -> None:
    file = write_video(tmp_path / "cut.mp4", frames=50)
    file.write_bytes(file.read_bytes()[:-1200])  # mp4v: the index stands at the end
    with pytest.raises(DataError, match="cut off"):
        open_source(file)


def test_a_file_cut_in_the_middle_gives_its_good_frames_then_an_error(cut_clip: Path) -> None:
    source = open_source(cut_clip)
    assert 50 < len(read_until_fault(source, r"picture \d+ is damaged|ends after \d+ of")) < 200
    assert list(source) == []


def test_a_part_before_the_cut_is_read(cut_clip: Path) -> None:
    assert sum(1 for _ in open_source(cut_clip, stop_s=1.0)) == 30


def test_a_part_beyond_the_end_is_refused(video: Path) -> None:
    with pytest.raises(DataError, match=r"2\.0 s long"):
        open_source(video, start_s=60.0)


def test_an_unreadable_file_is_refused(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(SourceUnavailable, match="Permission denied"):
        open_source(video)


def test_a_video_of_huge_pictures_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "huge.avi"
    size = (4800, 3600)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, size)
    writer.write(np.zeros((size[1], size[0], 3), np.uint8))
    writer.release()
    with pytest.raises(DataError, match="4800x3600"):
        open_source(path)


def test_files_are_closed(video: Path) -> None:
    open_source(video).close()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with open_source(video) as source:
            next(source)
        with pytest.raises(DataError):
            open_source(video, start_s=99.0)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_folder_is_read_in_the_order_of_its_numbers(folder: Path) -> None:
    (folder / "notes.txt").write_text("no image")
    (folder / "._3.png").write_bytes(b"left by another system")
    source = open_source(folder, fps=5.0)
    assert (source.size, source.frames, source.fps) == ((48, 64), 12, 5.0)
    frames = list(source)
    assert [int(f.image[0, 0, 0]) for f in frames] == list(range(12))
    assert [f.time_s for f in frames] == [i / 5 for i in range(12)]
    part = open_source(folder, fps=5.0, start_s=1.0, stop_s=2.0)
    for source in (part, part.reopen()):
        assert [f.index for f in source] == list(range(5, 10))
    assert [p.name for p in numbered_images(folder)][:3] == ["0.png", "1.png", "2.png"]
    assert isinstance(source, ImageFolder)


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images") as caught:
        open_source(tmp_path)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("content", [b"\x89PNG broken", huge_png()])
def test_a_folder_with_a_bad_or_huge_image_is_refused(folder: Path, content: bytes) -> None:
    (folder / "7.png").write_bytes(content)
    with pytest.raises(DataError, match=r"7\.png"):
        open_source(folder)


def test_a_folder_with_a_truncated_image_stops_there(folder: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    data = cv2.imencode(".png", noise)[1].tobytes()
    (folder / "7.png").write_bytes(data[: len(data) // 2])
    assert read_until_fault(open_source(folder), r"7\.png") == list(range(7))


def test_images_of_other_sizes_are_delivered(folder: Path) -> None:
    cv2.imwrite(str(folder / "12.png"), np.zeros((96, 128, 3), np.uint8))
    assert [f.image.shape for f in open_source(folder)][-1] == (96, 128, 3)
