"""Annotated video: draws on frames and records them to a file that is never lost and never half.

H.264 in MP4 by the system's FFmpeg, VP8 in WebM by cv2: browsers play both. The recording grows as
`NAME.incomplete-<random>.mp4`, playable at any time, and gets its name when the run ends, also
after Ctrl-C or a signal. After an error or a kill it stays under that name.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from cstl_edge.arrays import Image
from cstl_edge.errors import ConfigError, StorageError, one_line
from cstl_edge.live.annotate import WalkerView, annotate
from cstl_edge.live.video.browser import ffmpeg_encoder
from cstl_edge.live.video.encoder import OnFrame, VideoEncoder, Vp8Encoder
from cstl_edge.live.video.encoder import open_encoder as open_cv2_encoder
from cstl_edge.live.video.fragmented_mp4 import FragmentedMp4
from cstl_edge.live.video.growing_video import GrowingVideo, VideoFormat
from cstl_edge.live.video.h264 import H264Encoder
from cstl_edge.live.video.webm_file import WebmFile
from cstl_edge.opencv import import_cv2
from cstl_edge.output import PRIVATE, storing, sync_folder

cv2 = import_cv2()

log = logging.getLogger(__name__)

MP4, WEBM = VIDEO_SUFFIXES = (".mp4", ".webm")
DEFAULT_FPS = 25.0
NO_FFMPEG = "there is no ffmpeg that encodes H.264 on this system (Debian: apt-get install ffmpeg)"


def playable_path(path: Path) -> Path:
    """Return where an annotated video goes: without FFmpeg NAME.mp4 becomes NAME.webm, and says so.

    With a cv2 that cannot write that either it stays as it is.
    """
    if path.suffix.lower() != MP4 or ffmpeg_encoder() is not None or not _has_vp8():
        return path
    changed = path.with_suffix(WEBM)
    log.warning("the video is VP8 in %s, which browsers play: %s", one_line(changed), NO_FFMPEG)
    return changed


class AnnotatedVideo:
    """Writes frames to an MP4 or WebM that its owner alone can read; use as a context manager.

    The file appears under its name when the block ends well, also by Ctrl-C or a signal. The
    recording of a block that fails is kept beside it, under the name that the message tells.
    """

    def __init__(self, path: str | os.PathLike[str], fps: float, *, live: bool = False) -> None:
        """Name the file.

        Args:
            path: File to write, `.mp4` or `.webm`; `playable_path` says which of them can be had.
            fps: Frames per second, 25 where it is not positive.
            live: Whether VP8 leaves out frames that come faster than it encodes.

        Raises:
            ConfigError: The name ends otherwise.
        """
        self.path = Path(path)
        if self.path.suffix.lower() not in VIDEO_SUFFIXES:
            raise ConfigError(
                f"expected a file that ends in .mp4 or .webm; got {one_line(self.path)}"
            )
        self._fps, self._live = fps if fps > 0 else DEFAULT_FPS, live
        self._incomplete: Path | None = None  # name while it grows
        self._file = -1
        self._size = (0, 0)  # width, height
        self._encoder: VideoEncoder | None = None  # until it is closed
        self._chosen: VideoEncoder | None = None
        self._container: GrowingVideo | None = None
        self._failed: OSError | None = None  # in the encoder's thread

    def write(self, image: Image, walkers: Sequence[WalkerView], note: str | None = None) -> None:
        """Append one frame; its size may change, the video keeps that of the first.

        Args:
            image: uint8 [H, W, 3], BGR.
            walkers: People to draw.
            note: Line of text in the picture.

        Raises:
            StorageError: The disk refuses; what was written before is kept and playable.
        """
        picture = annotate(image, walkers, note)
        if self._encoder is None:
            self._start(picture.shape[1] & ~1, picture.shape[0] & ~1)
        width, height = self._size
        if picture.shape[1] & ~1 != width or picture.shape[0] & ~1 != height:
            picture = cv2.resize(picture, self._size)
        assert self._encoder is not None
        self._encoder.write(picture[:height, :width])
        self._check()

    def close(self, *, keep: bool = True) -> None:
        """End the recording and give it its name; keep=False leaves it the one it grew under."""
        if self._encoder is None or self._incomplete is None:
            return
        encoder, self._encoder = self._encoder, None
        try:
            encoder.close()
            self._check()
            with storing(self.path, self._where()):
                if self._container is not None:
                    self._container.close()
                if isinstance(encoder, Vp8Encoder) and encoder.left_out:
                    log.warning(
                        "%d frames were left out of the video: VP8 takes too long", encoder.left_out
                    )
                if keep:
                    os.replace(self._incomplete, self.path)
                    sync_folder(self.path.parent)
        finally:
            os.close(self._file)

    def _start(self, width: int, height: int) -> None:
        if min(width, height) < 2:
            raise ConfigError(f"expected pictures of at least 2x2 pixels, got {width}x{height}")
        self._size = (width, height)
        suffix = f".incomplete-{secrets.token_hex(4)}{self.path.suffix}"
        incomplete = self.path.with_name(f"{self.path.stem[:100]}{suffix}")
        with storing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(incomplete, os.O_RDWR | os.O_CREAT | os.O_EXCL, PRIVATE)
        try:
            self._encoder = self._chosen = self._open_encoder(width, height)
        except BaseException:
            os.close(self._file)
            incomplete.unlink()
            raise
        self._incomplete = incomplete

    def _open_encoder(self, width: int, height: int) -> VideoEncoder:
        if self.path.suffix.lower() == MP4:
            return open_encoder(width, height, self._add)
        try:
            return Vp8Encoder(width, height, self._add, live=self._live)
        except OSError as err:
            raise ConfigError(f"{err}", remedy="write an .mp4 in place of the .webm") from err

    def _add(self, frame: bytes, key: bool) -> None:
        """Take an encoded frame, in the encoder's thread; after a failure it goes nowhere."""
        if self._failed is not None:
            return
        try:
            if self._container is None:
                assert self._chosen is not None
                codec, said = self._chosen.codec, self._chosen.configuration
                form = VideoFormat(codec, *self._size, self._fps, said)  # type: ignore[arg-type]
                kind = WebmFile if codec == "vp8" else FragmentedMp4
                self._container = kind(self._file, form)
            self._container.add(frame, key=key)
        except OSError as err:
            self._failed = err

    def _check(self) -> None:
        if self._failed is not None:
            raise StorageError.of(self.path, self._failed, self._where()) from self._failed

    def _where(self) -> str:
        return f"the recording up to here is in {one_line(self._incomplete)}"

    def __enter__(self) -> AnnotatedVideo:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        ended_well = kind is None or not issubclass(kind, Exception)  # Ctrl-C, a signal
        if kind is not None and issubclass(kind, StorageError) and self._failed is not None:
            self._abandon()
        else:
            self.close(keep=ended_well)
            if not ended_well and self._incomplete is not None:
                log.warning("%s", self._where())

    def _abandon(self) -> None:
        """Release all after a failure that was told; the file ends with its last fragment."""
        encoder, self._encoder = self._encoder, None
        if encoder is not None:
            encoder.close()
            with contextlib.suppress(OSError):
                if self._container is not None:
                    self._container.state_length()
            os.close(self._file)


def open_encoder(width: int, height: int, on_frame: OnFrame) -> VideoEncoder:
    """Return an encoder for an MP4: H.264, or what cv2 has and a warning that no browser plays it.

    Args:
        width: Of the pictures, even [pixels].
        height: Of the pictures, even [pixels].
        on_frame: Receiver of the frames, perhaps in another thread.
    """
    try:
        return H264Encoder(width, height, on_frame)
    except OSError:
        encoder = open_cv2_encoder(width, height, on_frame)
    log.warning(
        "the video is %s, which players show and browsers do not: %s; a name that ends in .webm"
        " gives one that browsers play",
        encoder.codec.upper(),
        NO_FFMPEG,
    )
    return encoder


@lru_cache(maxsize=1)
def _has_vp8() -> bool:
    """Tell whether this cv2 encodes VP8."""
    try:
        Vp8Encoder(64, 64, lambda frame, key: None, live=False).close()
    except OSError:
        return False
    return True
