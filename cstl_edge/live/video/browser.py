"""Videos that browsers play, from JPEGs: H.264 by the system's FFmpeg or GStreamer, else VP8.

Encoders are programs of the system, run as children at low priority: H.264 in fragmented MP4 where
one is there, VP8 in WebM by cv2 elsewhere. Browsers play neither MPEG-4 part 2 nor H.265.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from cstl_edge.errors import DataError, StorageError, one_line
from cstl_edge.live.video.webm import packed
from cstl_edge.opencv import import_cv2

MP4, WEBM = "video/mp4", "video/webm"
H264_ENCODERS = {  # of FFmpeg, in the order of preference: name, its options
    "libx264": ("-preset", "veryfast", "-crf", "26"),
    "h264_nvenc": ("-preset", "p4", "-cq", "28"),
    "h264_v4l2m2m": ("-b:v", "1500k"),
    "libopenh264": ("-b:v", "1500k"),
}
FRAGMENTED = "+frag_keyframe+empty_moov+default_base_moof"
JETSON_ELEMENTS = ("nvvidconv", "nvv4l2h264enc")
WEBM_CHILD = "cstl_edge.live.video.webm"
TIMEOUT_S = 60.0  # of one clip
TRY_TIMEOUT_S = 20.0
NICENESS = 10
LEAST_FPS, MOST_FPS = 1.0, 60.0


@dataclass(frozen=True)
class BrowserEncoder:
    """What encodes, and how it is called."""

    name: str  # for people
    media_type: str
    suffix: str
    program: str | None = None  # `ffmpeg`, `gst-launch-1.0`; None for cv2
    codec: str = ""


def write_clip(
    jpegs: Sequence[bytes], fps: float, path: Path, encoder: BrowserEncoder | None = None
) -> BrowserEncoder:
    """Write pictures as a video that browsers play; return what encoded it.

    Args:
        jpegs: Pictures of one size.
        fps: Frames per second.
        path: File to write; of a suffix that the encoder names.
        encoder: What encodes, by default the best one of this machine.

    Raises:
        DataError: There are no pictures, or the encoder fails.
        StorageError: The disk refuses.
    """
    if not jpegs:
        raise DataError("expected at least one picture for a clip, got none")
    chosen = encoder or browser_encoder()
    rate = min(max(fps, LEAST_FPS), MOST_FPS)
    if chosen.program is None:
        _run([sys.executable, "-m", WEBM_CHILD, str(path)], packed(list(jpegs), rate), path)
    else:
        _run(_command(chosen, rate, path), b"".join(jpegs), path)
    return chosen


@lru_cache(maxsize=1)
def browser_encoder() -> BrowserEncoder:
    """Return the best encoder of this machine; each is tried with a small video."""
    return _first_that_works(_candidates()) or BrowserEncoder("VP8 (cv2)", WEBM, ".webm")


@lru_cache(maxsize=1)
def ffmpeg_encoder() -> BrowserEncoder | None:
    """Return the best encoder of the system's FFmpeg, None where it encodes no H.264."""
    return _first_that_works([one for one in _candidates() if one.program == "ffmpeg"])


def _first_that_works(encoders: list[BrowserEncoder]) -> BrowserEncoder | None:
    picture = _jpeg(np.full((64, 64, 3), 90, np.uint8))
    for encoder in encoders:
        with tempfile.TemporaryDirectory(prefix="cstl-edge-") as folder:
            target = Path(folder) / f"try{encoder.suffix}"
            try:
                _run(_command(encoder, 10.0, target), picture * 3, target)
            except (DataError, StorageError):
                continue
            if target.stat().st_size > 0:
                return encoder
    return None


def _candidates() -> list[BrowserEncoder]:
    """Return the encoders that may be there, the best one first."""
    found = []
    if shutil.which("gst-inspect-1.0") and shutil.which("gst-launch-1.0") and _is_jetson():
        found.append(BrowserEncoder("H.264 (nvv4l2h264enc)", MP4, ".mp4", "gst-launch-1.0"))
    if shutil.which("ffmpeg"):
        listed = _output(["ffmpeg", "-hide_banner", "-encoders"])
        found += [
            BrowserEncoder(f"H.264 (FFmpeg, {codec})", MP4, ".mp4", "ffmpeg", codec)
            for codec in H264_ENCODERS
            if f" {codec} " in listed
        ]
    return found


def _is_jetson() -> bool:
    return all(_output(["gst-inspect-1.0", element]) for element in JETSON_ELEMENTS)


def _output(command: list[str]) -> str:
    """Return what a program prints, nothing where it fails."""
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=TRY_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return result.stdout if result.returncode == 0 else ""


def _command(encoder: BrowserEncoder, fps: float, path: Path) -> list[str]:
    if encoder.program == "gst-launch-1.0":
        rate = f"image/jpeg,framerate={round(fps * 1000)}/1000"
        encode = "nvvidconv ! nvv4l2h264enc ! h264parse ! mp4mux fragment-duration=1000"
        pipeline = f"fdsrc fd=0 ! {rate} ! jpegparse ! jpegdec ! {encode} ! filesink"
        return ["gst-launch-1.0", "-q", *pipeline.split(), f"location={path}"]
    return [
        "ffmpeg", "-hide_banner", "-loglevel", "error", "-nostdin", "-y",
        "-f", "image2pipe", "-c:v", "mjpeg", "-framerate", f"{fps:.4f}", "-i", "pipe:0",
        "-an", "-vf", "crop=trunc(iw/2)*2:trunc(ih/2)*2", "-threads", "1",
        "-c:v", encoder.codec, *H264_ENCODERS[encoder.codec], "-pix_fmt", "yuv420p",
        "-g", f"{max(1, round(2 * fps))}", "-movflags", FRAGMENTED, "-f", "mp4", f"file:{path}",
    ]  # fmt: skip


def _run(command: list[str], pictures: bytes, path: Path) -> None:
    """Feed pictures to an encoder (DataError where it fails)."""
    name = Path(command[0]).name
    quiet = ["nice", "-n", str(NICENESS), *command] if shutil.which("nice") else command
    try:
        result = subprocess.run(
            quiet, input=pictures, capture_output=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as err:
        path.unlink(missing_ok=True)
        raise DataError(f"{name} took more than {TIMEOUT_S:g} s for a clip") from err
    except OSError as err:
        raise StorageError.of(path, err) from err
    if result.returncode or not path.is_file():
        path.unlink(missing_ok=True)
        said = result.stderr.decode("utf-8", "replace").strip() or f"code {result.returncode}"
        raise DataError(f"{name} cannot encode a clip: {one_line(said)}")
    os.chmod(path, 0o600)


def _jpeg(image: np.ndarray) -> bytes:  # type: ignore[type-arg]
    return bytes(import_cv2().imencode(".jpg", image)[1].tobytes())
