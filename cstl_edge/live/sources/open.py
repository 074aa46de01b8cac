"""TODO."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from cstl_edge.errors import ConfigError, SourceUnavailable, one_line
from cstl_edge.live.sources.base import is_camera, redact, scheme_of

if TYPE_CHECKING:
    from cstl_edge.live.sources.stream import Opener
from cstl_edge.live.sources.base import DEFAULT_FPS, FrameSource, StateCallback
from cstl_edge.opencv import import_cv2


def open_source(
    uri: str | os.PathLike[str],
    *,
    start_s: float | None = None,
    stop_s: float | None = None,
    fps: float | None = None,
    retry: bool = False,
    on_state: StateCallback | None = None,
) -> FrameSource:
    """Open a source by its address; the first frame has been seen when this returns.

    start_s, stop_s: part of a file, folder or synthetic street, in seconds of its media time
    fps: of a folder of images (25 where nothing is said), or asked of a USB or CSI camera
    retry: keep trying a live source that does not open; otherwise its first failure, after at most
           5 s, raises. Once it has given frames it is tried again for ever in either case.
    on_state: told of every change of a live source, in the thread that opens and iterates
    Raises ConfigError for an address that cannot be meant, SourceUnavailable for what is missing or
    does not answer, DataError for what is there and is no video.
    """
    text = os.fspath(uri)
    scheme = scheme_of(text)
    if not scheme and not is_camera(text):
        return _open_recorded(text, start_s, stop_s, fps)
    if scheme == "synthetic":
        from cstl_edge.live.sources.synthetic.source import open_synthetic

        return open_synthetic(text, start_s=start_s, stop_s=stop_s, on_state=on_state)
    if start_s is not None or stop_s is not None:
        raise ConfigError(f"start_s and stop_s need a recording; {redact(text)} is a live source")
    from cstl_edge.live.sources.stream import LiveSource

    return LiveSource(text, _opener(text, scheme, fps), retry=retry, on_state=on_state)


def _open_recorded(
    text: str, start_s: float | None, stop_s: float | None, fps: float | None
) -> FrameSource:
    from cstl_edge.live.sources.files import ImageFolder, VideoFile

    if start_s is not None and stop_s is not None and not start_s < stop_s:
        raise ConfigError(f"expected start_s < stop_s, got {start_s} and {stop_s}")
    path = Path(text)
    try:
        is_folder = path.is_dir()
    except (OSError, ValueError) as err:  # a name too long, or with a NUL byte
        raise SourceUnavailable(f"no source at {one_line(text)}: {one_line(err)}") from err
    if is_folder:
        return ImageFolder(path, start_s=start_s, stop_s=stop_s, fps=fps or DEFAULT_FPS)
    return VideoFile(path, start_s=start_s, stop_s=stop_s)


def _opener(text: str, scheme: str, fps: float | None) -> Opener:
    from cstl_edge.live.sources.child_capture import ReaderCapture, usb_opener
    from cstl_edge.live.sources.gstreamer import csi_pipeline, gst_opener

    if scheme == "gst":
        return gst_opener(text.removeprefix("gst:"))
    if scheme == "csi":
        return gst_opener(csi_pipeline(text, fps))
    import_cv2()
    return usb_opener(text, fps) if not scheme else lambda: ReaderCapture({"url": text})
