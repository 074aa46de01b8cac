"""Clips that browsers play: what encodes, what comes out, and what goes wrong."""

import subprocess

import cv2
import numpy as np
import pytest

from cstl_edge.errors import DataError
from cstl_edge.live.video import browser
from cstl_edge.live.video.browser import MP4, WEBM, BrowserEncoder, browser_encoder, write_clip

VP8 = BrowserEncoder("VP8 (cv2)", WEBM, ".webm")


def pictures(count, size=(62, 81)):
    ramp = np.linspace(0, 255, size[1], dtype=np.uint8)
    images = [
        np.broadcast_to(np.roll(ramp, 5 * i)[None, :, None], (*size, 3)) for i in range(count)
    ]
    return [bytes(cv2.imencode(".jpg", np.ascontiguousarray(i))[1].tobytes()) for i in images]


def read_back(path):
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        there, frame = capture.read()
        if not there:
            return frames
        frames.append(frame)


def test_vp8_without_any_program_of_the_system(tmp_path):
    path = tmp_path / "clip.webm"
    assert write_clip(pictures(9), 10.0, path, VP8) is VP8
    frames = read_back(path)
    assert len(frames) == 9
    assert frames[0].shape == (62, 80, 3)
    assert path.stat().st_mode & 0o777 == 0o600


def test_h264_in_fragments_where_the_system_has_an_encoder(tmp_path):
    encoder = browser_encoder()
    if encoder.media_type != MP4:
        pytest.skip("this machine has no H.264 encoder")
    path = tmp_path / "clip.mp4"
    write_clip(pictures(12), 10.0, path)
    data = path.read_bytes()
    assert b"moof" in data
    assert data.index(b"moov") < data.index(b"moof")
    frames = read_back(path)
    assert len(frames) == 12
    assert np.abs(frames[0].astype(int) - frames[6].astype(int)).mean() > 5


def test_without_programs_cv2_is_chosen(monkeypatch):
    monkeypatch.setattr(browser.shutil, "which", lambda name: None)
    assert browser_encoder.__wrapped__() == VP8


def test_an_encoder_that_fails_is_passed_over(monkeypatch, tmp_path):
    broken = BrowserEncoder("H.264", MP4, ".mp4", "ffmpeg", "libx264")
    monkeypatch.setattr(browser, "_candidates", lambda: [broken])
    monkeypatch.setattr(browser, "_command", lambda *_: ["false"])
    assert browser_encoder.__wrapped__() == VP8
    with pytest.raises(DataError, match="false cannot encode a clip: code 1"):
        write_clip(pictures(1), 10.0, tmp_path / "clip.mp4", broken)
    assert not (tmp_path / "clip.mp4").exists()


def test_an_encoder_that_hangs_is_ended(monkeypatch, tmp_path):
    def hangs(*args, **kwargs):
        raise subprocess.TimeoutExpired("ffmpeg", 60)

    monkeypatch.setattr(browser.subprocess, "run", hangs)
    with pytest.raises(DataError, match="more than 60 s"):
        write_clip(pictures(1), 10.0, tmp_path / "clip.webm", VP8)


def test_no_pictures_are_no_clip(tmp_path):
    with pytest.raises(DataError, match="at least one picture"):
        write_clip([], 10.0, tmp_path / "clip.webm", VP8)


@pytest.mark.parametrize("program", ["ffmpeg", "gst-launch-1.0"])
def test_commands_write_fragments(program, tmp_path):
    encoder = BrowserEncoder("H.264", MP4, ".mp4", program, "libx264")
    command = " ".join(browser._command(encoder, 12.5, tmp_path / "a.mp4"))
    assert "frag_keyframe" in command or "fragment-duration" in command
    assert "12.5" in command or "12500/1000" in command
