"""Child processes that read cameras and streams, over real servers and real deaths."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from standin_cameras import HttpCamera, RtspCamera, RtspServer, Server, wait_until

from cstl_edge.errors import SourceUnavailable
from cstl_edge.live.sources import formats, stream
from cstl_edge.live.sources.base import SourceState
from cstl_edge.live.sources.child_capture import ReaderCapture
from cstl_edge.live.sources.child_protocol import ReadRequest
from cstl_edge.live.sources.network_probe import probe
from cstl_edge.live.sources.open import open_source

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "FIRST_DELAY_S", 0.1)


@pytest.fixture
def camera() -> Iterator[HttpCamera]:
    with contextlib.closing(HttpCamera()) as served:
        yield served


def resources() -> tuple[int, int]:
    return len(os.listdir("/proc/self/fd")), threading.active_count()


def children() -> set[int]:
    pids = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return {int(pid) for pid in pids}


def test_a_network_camera_gives_the_newest_frame(camera: HttpCamera) -> None:
    with open_source(camera.address) as source:
        assert source.live
        assert source.size == (48, 64)
        frames = [next(source) for _ in range(5)]
        times = [f.time_s for f in frames]
        assert times == sorted(set(times))
        time.sleep(0.3)
        next(source)
        newest = next(source)
        assert newest.index > 6  # what came meanwhile was overtaken …
        assert source.dropped == newest.index - 6  # … and counted


def test_no_file_thread_or_child_is_left_behind(camera: HttpCamera) -> None:
    with open_source(camera.address) as source:  # the first start loads what stays loaded
        next(source)
    camera.hang_up()
    time.sleep(0.2)  # the camera's own threads end
    before, processes = resources(), children()
    for _ in range(2):
        with open_source(camera.address) as source:
            next(source)
            begun_s = time.monotonic()
        assert time.monotonic() - begun_s < 3
    camera.hang_up()
    wait_until(lambda: resources()[0] <= before[0] and resources()[1] <= before[1])
    assert children() == processes


def test_a_camera_that_falls_silent_is_opened_again(camera, monkeypatch) -> None:
    monkeypatch.setattr(stream, "STALL_TIMEOUT_S", 0.3)
    states: list[SourceState] = []
    with open_source(camera.address, on_state=states.append) as source:
        next(source)
        camera.silent.set()
        threading.Timer(0.6, camera.silent.clear).start()
        threading.Timer(0.6, setattr, (camera, "shape", (96, 128))).start()
        wait_until(lambda: next(source).image.shape == (96, 128, 3), 10)
    assert [s.state for s in states][:3] == ["opening", "online", "offline"]
    assert "no frame for 0.3 s" in states[2].detail
    assert states[-1].state == "online"
    assert "s3cret" not in repr(states)


def test_a_reader_that_dies_is_replaced(camera: HttpCamera) -> None:
    states: list[SourceState] = []
    before = children()
    with open_source(camera.address, on_state=states.append) as source:
        next(source)
        (reader,) = children() - before
        os.kill(reader, signal.SIGSEGV)  # as a broken decoder would
        wait_until(lambda: next(source) is not None and len(states) >= 5)
    assert [s.state for s in states] == ["opening", "online", "offline", "opening", "online"]


def test_the_password_is_not_in_the_list_of_processes(camera: HttpCamera) -> None:
    before = children()
    with open_source(camera.address) as source:
        next(source)
        (reader,) = children() - before
        for name in ("cmdline", "environ"):
            assert b"s3cret" not in Path(f"/proc/{reader}/{name}").read_bytes()


def test_an_rtsp_server_that_never_answers_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert formats.ANSWER_TIMEOUT_S < stream.OPEN_TIMEOUT_S  # so that the child's reason comes
    monkeypatch.setattr(stream, "OPEN_TIMEOUT_S", 0.4)
    with contextlib.closing(Server()) as server:
        address = f"rtsp://{server.place}/1"
        with pytest.raises(OSError, match=r"no answer within 0\.2 s"):
            probe(address, 0.2)
        begun_s = time.monotonic()
        with pytest.raises(SourceUnavailable, match=r"no answer within 0\.4 s") as caught:
            open_source(address)
        assert time.monotonic() - begun_s < 4  # with the child's end, on a busy machine
    assert caught.value.exit_code == 5
    assert "s3cret" not in str(caught.value)


def test_an_rtsp_server_that_refuses_the_password_is_reported() -> None:
    refused = pytest.raises(SourceUnavailable, match="401 Unauthorized")
    with contextlib.closing(RtspServer()) as server, refused:
        open_source(server.address)


@needs_ffmpeg
def test_an_rtsp_stream_is_read_and_opened_again(tmp_path: Path) -> None:
    states: list[SourceState] = []
    with (
        contextlib.closing(RtspCamera(tmp_path)) as server,
        open_source(server.address, wait=True, on_state=states.append) as source,
    ):
        times = [next(source).time_s for _ in range(10)]
        assert source.size == (248, 442)
        assert times == sorted(set(times))
        server.hang_up()
        while [s.state for s in states].count("online") < 2:
            assert next(source).image.shape == (248, 442, 3)
    assert "offline" in [s.state for s in states]
    assert "s3cret" not in repr(states)


def test_a_password_that_breaks_the_address_is_reported_without_it() -> None:
    with pytest.raises(SourceUnavailable, match="%2F") as caught:
        open_source("rtsp://user:s3c/r@127.0.0.1/1")
    assert "s3c" not in str(caught.value)


def test_a_stopped_capture_returns_at_once() -> None:
    with contextlib.closing(Server()) as server:
        capture = ReaderCapture(ReadRequest(url=f"rtsp://{server.place}/1"))
        begun_s = time.monotonic()
        capture.stop()
        assert time.monotonic() - begun_s < 3
        with pytest.raises(SourceUnavailable):
            capture.open()
        capture.close()
        capture.close()


def test_a_missing_usb_camera_is_refused_with_the_present_ones() -> None:
    with pytest.raises(SourceUnavailable, match="no /dev/video987; cameras here: "):
        open_source("987")


def test_a_name_that_udev_gives_is_followed_to_its_number() -> None:
    with pytest.raises(SourceUnavailable, match="there is no /dev/camera-door; cameras here: "):
        open_source("/dev/camera-door")
    with pytest.raises(SourceUnavailable, match="/dev/null is no camera; cameras here: "):
        open_source("/dev/null")


def test_a_device_that_is_no_camera_is_refused() -> None:
    capture = ReaderCapture(ReadRequest(device=987, fps=15.0))
    with pytest.raises(SourceUnavailable, match="no video that can be read"):
        capture.open()
    capture.close()


def test_the_reader_leaves_when_its_parent_is_killed(camera: HttpCamera) -> None:
    code = (
        "import sys, os, time; from pathlib import Path\n"
        "from cstl_edge.live.sources.open import open_source\n"
        "source = open_source(sys.argv[1]); next(source)\n"
        "print(Path(f'/proc/{os.getpid()}/task/{os.getpid()}/children').read_text(), flush=True)\n"
        "time.sleep(60)\n"
    )
    argv = [sys.executable, "-c", code, camera.address]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        reader = int(parent.stdout.readline().split()[0])
        camera.silent.set()  # no broken pipe helps
        parent.kill()
    wait_until(lambda: not Path(f"/proc/{reader}").exists() or "Z" in _state(reader))


def _state(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    return "Z"
