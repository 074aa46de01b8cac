"""Annotated videos: whole, private, playable at any time, kept when a disk fills or a run dies."""

import os
import shutil
import subprocess
import sys
import threading
import time

import cv2
import numpy as np
import pytest
from small_disk import small_disk

from cstl_edge.errors import ConfigError, DataError, StorageError
from cstl_edge.live.annotate import WalkerView
from cstl_edge.live.video import annotated, encoder, h264
from cstl_edge.live.video.annotated import AnnotatedVideo, playable_path
from cstl_edge.live.video.browser import ffmpeg_encoder
from cstl_edge.live.video.encoder import JpegEncoder, Vp8Encoder

FRAME = np.full((120, 160, 3), 90, np.uint8)
NOISE = np.random.default_rng(0).integers(0, 256, (8, 120, 160, 3), dtype=np.uint8)
VIEW = WalkerView((60.0, 40.0, 30.0, 60.0), "1: Zoë 0.4", "known", np.full((60, 30), 255, np.uint8))


HAS_H264 = ffmpeg_encoder() is not None


@pytest.fixture(params=["h264", "vp8", "mpeg4", "jpeg"])
def codec(request, monkeypatch):
    openers = {
        "jpeg": lambda w, h, on_frame: JpegEncoder(on_frame),
        "mpeg4": encoder.open_encoder,
    }
    if request.param in openers:
        monkeypatch.setattr(annotated, "open_encoder", openers[request.param])
    elif request.param == "h264" and not HAS_H264:
        pytest.skip("there is no ffmpeg that encodes H.264")
    return request.param


@pytest.fixture
def name(codec):
    return "out.webm" if codec == "vp8" else "out.mp4"


@pytest.fixture
def cv2_alone(monkeypatch):
    monkeypatch.setattr(annotated, "open_encoder", encoder.open_encoder)


def pictures(path):
    capture, images = cv2.VideoCapture(str(path)), []
    while capture.grab():
        images.append(capture.retrieve()[1])
    return images, capture.get(cv2.CAP_PROP_FPS)


def write(video, frames, end=None):
    with video:
        for frame in frames:
            video.write(frame, [])
        if end is not None:
            raise end


def test_a_video_appears_whole_and_private(tmp_path, name):
    path = tmp_path / "new" / name
    with AnnotatedVideo(path, 12.5) as video:
        for level in range(60):
            video.write(np.full((121, 161, 3), 4 * level, np.uint8), [VIEW])
        video.write(FRAME[:100], [])  # the camera changed its size
        assert not path.exists()
    images, fps = pictures(path)
    assert len(images) == 61
    assert fps == pytest.approx(12.5)
    assert [image[4, 4].mean() for image in images[:60]] == pytest.approx(range(0, 240, 4), abs=6)
    assert images[0].shape == (120, 160, 3)
    assert os.listdir(path.parent) == [name]
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="needs ffprobe")
def test_ffmpeg_finds_no_fault_and_the_length(tmp_path, name):
    write(AnnotatedVideo(tmp_path / name, 25.0), [*NOISE] * 10)
    probe = ["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0"]
    done = subprocess.run([*probe, tmp_path / name], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("3.200000", "")


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_a_signal_keeps_the_video(tmp_path, end):
    with pytest.raises(end):
        write(AnnotatedVideo(tmp_path / "out.mp4", 0.0), [FRAME], end)
    assert len(pictures(tmp_path / "out.mp4")[0]) == 1


def test_a_run_that_fails_keeps_its_recording_beside_the_name(tmp_path, caplog):
    with pytest.raises(AttributeError):
        write(AnnotatedVideo(tmp_path / "out.mp4", 10.0), [FRAME], AttributeError)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith("out.incomplete-")
    assert len(pictures(left)[0]) == 1
    assert left.name in caplog.text


def test_a_run_without_frames_writes_nothing(tmp_path):
    write(AnnotatedVideo(tmp_path / "out.mp4", 10.0), [])
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_told_and_the_recording_so_far_can_be_played(tmp_path, name):
    with small_disk(400_000), pytest.raises(StorageError, match="recording up to here") as err:
        write(AnnotatedVideo(tmp_path / name, 25.0), [*NOISE] * 200)
    (left,) = tmp_path.iterdir()
    assert left.name in str(err.value)
    assert len(pictures(left)[0]) >= 25


def test_what_was_written_before_a_kill_can_be_played(tmp_path, name):
    code = (
        "import os, time, numpy as np\nfrom cstl_edge.live.video.annotated import AnnotatedVideo\n"
        f"video = AnnotatedVideo({str(tmp_path / name)!r}, 25.0)\n"
        "frames = np.random.default_rng(0).integers(0, 256, (8, 120, 160, 3), dtype=np.uint8)\n"
        "for _ in range(25):\n    [video.write(frame, []) for frame in frames]\n"
        "time.sleep(0.5)\nos.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    (left,) = tmp_path.iterdir()
    assert len(pictures(left)[0]) >= 100


def test_an_encoder_is_restarted_before_its_index_grows(tmp_path, monkeypatch, cv2_alone):
    monkeypatch.setattr(encoder, "FRAMES_PER_RUN", 30)
    write(AnnotatedVideo(tmp_path / "out.mp4", 25.0), [FRAME] * 100)
    assert len(pictures(tmp_path / "out.mp4")[0]) == 100


def test_a_cv2_without_mpeg4_encodes_jpeg(tmp_path, monkeypatch, cv2_alone):
    monkeypatch.setattr(encoder.cv2.VideoWriter, "fourcc", lambda *_: 0x58393948)
    write(AnnotatedVideo(tmp_path / "out.mp4", 25.0), [FRAME] * 3)
    assert b"\xff\xd8\xff" in (tmp_path / "out.mp4").read_bytes()


def test_another_suffix_and_a_folder_that_cannot_be_made_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"ends in \.mp4 or \.webm; got .*w\.avi"):
        AnnotatedVideo(tmp_path / "w.avi", 25.0)
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot write"):
        write(AnnotatedVideo(tmp_path / "file" / "out.mp4", 25.0), [FRAME])


@pytest.mark.skipif(shutil.which("ffprobe") is None or not HAS_H264, reason="needs ffmpeg")
def test_the_video_is_one_that_browsers_play(tmp_path):
    write(AnnotatedVideo(tmp_path / "out.mp4", 25.0), [*NOISE])
    entries = ["-show_entries", "stream=codec_name,pix_fmt,nb_read_frames", "-count_frames"]
    probe = ["ffprobe", "-v", "error", *entries, "-of", "csv=p=0", tmp_path / "out.mp4"]
    done = subprocess.run(probe, capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("h264,yuv420p,8", "")


def test_without_ffmpeg_it_is_vp8_in_webm_and_said(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(annotated, "ffmpeg_encoder", lambda: None)
    path = playable_path(tmp_path / "out.mp4")
    assert path == tmp_path / "out.webm"
    assert "VP8 in" in caplog.text
    assert "apt-get install ffmpeg" in caplog.text
    assert playable_path(path) is path


def test_an_mp4_that_no_browser_plays_is_said(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(annotated, "ffmpeg_encoder", lambda: None)
    monkeypatch.setattr(annotated, "_has_vp8", lambda: False)
    monkeypatch.setattr(h264, "ffmpeg_encoder", lambda: None)
    write(AnnotatedVideo(playable_path(tmp_path / "out.mp4"), 25.0), [FRAME])
    assert "browsers do not" in caplog.text
    assert len(pictures(tmp_path / "out.mp4")[0]) == 1


def test_a_cv2_without_vp8_refuses_webm_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(encoder.cv2.VideoWriter, "fourcc", lambda *_: 0x58393948)
    with pytest.raises(ConfigError, match="no encoder of VP8"):
        write(AnnotatedVideo(tmp_path / "out.webm", 25.0), [FRAME])
    assert list(tmp_path.iterdir()) == []


def test_a_camera_is_not_held_up_by_vp8_and_the_video_keeps_its_time(tmp_path, monkeypatch, caplog):
    gate = threading.Event()
    work = Vp8Encoder._work
    monkeypatch.setattr(Vp8Encoder, "_work", lambda self: gate.wait(60) and work(self))
    with AnnotatedVideo(tmp_path / "out.webm", 10.0, live=True) as video:
        for _ in range(30):
            video.write(FRAME, [])  # as fast as it goes, while nothing is encoded
        gate.set()
        while not video._encoder._waiting.empty():
            time.sleep(0.01)
        video.write(FRAME, [])
    assert "22 frames were left out" in caplog.text
    capture, times_ms = cv2.VideoCapture(str(tmp_path / "out.webm")), []
    while capture.grab():
        times_ms.append(round(capture.get(cv2.CAP_PROP_POS_MSEC)))
    assert times_ms == [0, 100, 200, 300, 400, 500, 600, 700, 3000]


@pytest.mark.skipif(not HAS_H264, reason="needs ffmpeg")
def test_an_ffmpeg_that_dies_is_told_and_the_recording_is_kept(tmp_path):
    video = AnnotatedVideo(tmp_path / "out.mp4", 25.0)

    def run():
        with video:
            for number in range(120):
                video.write(FRAME, [])
                if number == 60:
                    video._encoder._process.kill()

    with pytest.raises(DataError, match="ffmpeg ended"):
        run()
    (left,) = tmp_path.iterdir()
    assert len(pictures(left)[0]) >= 25
