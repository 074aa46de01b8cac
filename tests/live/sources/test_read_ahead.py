"""Recordings read ahead: the same frames and faults, pictures kept, memory bounded, threads end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from short_walk import CLIP

from cstl_edge.errors import DataError, SourceUnavailable
from cstl_edge.live.sources import read_ahead as module
from cstl_edge.live.sources.base import Frame, FrameSource
from cstl_edge.live.sources.open import open_source
from cstl_edge.live.sources.read_ahead import AHEAD, ReadAhead, read_ahead

H, W, WAIT_S = 6, 8, 30.0


class Film(FrameSource):
    """A recording of pictures whose grey is their number; `fail_at` raises in mid-stream."""

    def __init__(self, count: int, *, declares: int | None = None, fail_at: int | None = None):
        super().__init__("film")
        self.fps, self.size, self.frames = 25.0, (H, W), declares or count
        self.opened: list[Film] = []  # again
        self.count, self.fail_at, self.read, self.released = count, fail_at, 0, False

    def reopen(self) -> Film:
        self.opened.append(Film(self.count, declares=self.frames, fail_at=self.fail_at))
        return self.opened[-1]

    def _next(self) -> Frame | None:
        if self.read == self.fail_at:
            raise DataError("film is torn")
        if self.read == self.count:
            return None
        self.read += 1
        return Frame(self.read - 1, np.full((H, W, 3), self.read - 1, np.uint8), self.read / 25)

    def _release(self) -> None:
        self.released = True


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    for thread in threading.enumerate():
        if thread.name == "cstl-edge-reader":
            thread.join(WAIT_S)
            assert not thread.is_alive()


def ahead_of(film: FrameSource) -> ReadAhead:
    source = ReadAhead(lambda: film, "film")
    source.wait()
    return source


def greys(source: FrameSource) -> list[int]:
    return [int(frame.image[0, 0, 0]) for frame in source]


def wait_until(condition) -> None:
    event = threading.Event()
    for _ in range(int(WAIT_S / 0.01)):
        if condition():
            return
        event.wait(0.01)
    raise AssertionError("it never came")


def test_the_frames_of_a_recording_are_the_same() -> None:
    source = read_ahead(f"{CLIP}?rotate=180")
    assert source is not None
    source.wait()
    with open_source(f"{CLIP}?rotate=180") as plain, source:
        assert (source.fps, source.size, source.frames) == (plain.fps, plain.size, plain.frames)
        assert (source.uri, source.live) == (plain.uri, False)
        for mine, other in zip(source, plain, strict=True):
            assert (mine.index, mine.time_s) == (other.index, other.time_s)
            assert np.array_equal(mine.image, other.image)


def test_only_files_and_folders_are_read_ahead() -> None:
    for address in ("0", "rtsp://192.0.2.1/1", "synthetic://1", "gst:videotestsrc"):
        assert read_ahead(address) is None


def test_a_short_recording_is_read_once() -> None:
    film = Film(9)
    with ahead_of(film) as source:
        assert greys(source.reopen()) == list(range(9))
        assert greys(source.reopen()) == list(range(9))
        assert greys(source) == list(range(9))
    assert not film.opened
    assert film.released


def test_a_picture_that_was_taken_is_read_anew() -> None:
    film = Film(9)
    with ahead_of(film) as source, source.reopen() as again:
        assert next(again).index == 0
        assert [next(source).index for _ in range(4)] == [0, 1, 2, 3]
        assert greys(again) == list(range(1, 9))
        assert greys(source) == list(range(4, 9))
    assert len(film.opened) == 1
    assert film.opened[0].released


def test_a_recording_longer_than_it_says_is_read_anew_behind_what_is_kept(monkeypatch) -> None:
    monkeypatch.setattr(module, "KEPT_BYTES", 10 * H * W * 3)
    film = Film(40, declares=8)
    with ahead_of(film) as source:
        with source.reopen() as again:
            assert greys(again) == list(range(40))
        assert film.read <= 10
        assert greys(source) == list(range(40))


def test_of_a_long_recording_a_few_pictures_are_read_ahead(monkeypatch) -> None:
    monkeypatch.setattr(module, "KEPT_BYTES", 10 * H * W * 3)
    film = Film(40)
    with ahead_of(film) as source:
        wait_until(lambda: film.read == AHEAD)
        assert greys(source.reopen()) == list(range(40))
        assert film.read == AHEAD
        assert next(source).index == 0
        wait_until(lambda: film.read == AHEAD + 1)
        assert greys(source) == list(range(1, 40))


def test_pictures_that_are_large_are_fewer(monkeypatch) -> None:
    monkeypatch.setattr(module, "KEPT_BYTES", 2 * H * W * 3)
    film = Film(40)
    with ahead_of(film) as source:
        wait_until(lambda: film.read == 2)
        assert greys(source) == list(range(40))


def test_a_fault_comes_at_its_place_for_everybody() -> None:
    with ahead_of(Film(9, fail_at=5)) as source:
        for reader in (source.reopen(), source):
            seen = []
            with pytest.raises(DataError, match="torn"):
                seen.extend(frame.index for frame in reader)
            assert seen == [0, 1, 2, 3, 4]


def test_what_opening_raises_is_raised_by_waiting(tmp_path: Path) -> None:
    for name, error, words in (
        ("missing.mp4", SourceUnavailable, "check the spelling"),
        ("empty.mp4", DataError, "0 bytes"),
    ):
        (tmp_path / "empty.mp4").touch()
        source = read_ahead(tmp_path / name)
        assert source is not None
        with source, pytest.raises(error, match=words):
            source.wait()


def test_closing_ends_the_thread_in_mid_stream() -> None:
    film = Film(10**6)
    source = ahead_of(film)
    next(source)
    source.close()
    assert film.released
    assert list(source) == []
    source.close()


def test_closing_ends_who_waits_for_pictures_kept() -> None:
    source = ahead_of(Film(9))
    again = source.reopen()
    source.close()
    assert greys(again) == list(range(9))  # read anew


def test_closing_before_it_is_open_closes_it() -> None:
    film, may_open = Film(10**6), threading.Event()

    def opener() -> FrameSource:
        may_open.wait(WAIT_S)
        return film

    source = ReadAhead(opener, "film")
    threading.Timer(0.05, may_open.set).start()
    source.close()
    assert film.released
    assert film.read <= 1
