"""What FFmpeg may read, containers that hold their own pictures and protocols, and who calls it."""

from __future__ import annotations

import importlib.util
from typing import Literal

from cstl_edge.opencv import import_cv2

FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,h264,hevc,obu,av1,ivf,flv,"
    "live_flv,asf,ogg,mjpeg,mpjpeg,yuv4mpegpipe,mxf,nut,dv,rm,m4v,dhav,gif,wtv"
)  # FFmpeg's names
FILE_LIMITS = {"protocol_whitelist": "file", "format_whitelist": FORMATS}
STREAM_LIMITS = {
    "protocol_whitelist": "http,https,tcp,tls,udp,rtp,rtsp,rtsps,crypto,httpproxy",
    "format_whitelist": f"{FORMATS},hls,rtsp",
}
RTSP_LIMITS = {**STREAM_LIMITS, "rtsp_transport": "tcp"}  # over UDP a lost packet smears a second
ANSWER_TIMEOUT_S = 4.0  # below the parent's 5 s, so that the reason comes from the child
PICTURE_TIMEOUT_S = 20.0  # above the parent's timeouts for live sources, which therefore decide
WIDEST_PIXEL = 4.0  # width by height of a pixel, or the inverse; more is no camera's


def limits(path: str | None, url: str | None) -> dict[str, str]:
    """Return FFmpeg's options for a file or an address."""
    if path is not None:
        return FILE_LIMITS
    return RTSP_LIMITS if is_rtsp(url) else STREAM_LIMITS


def is_rtsp(url: str | None) -> bool:
    """Return whether an address is one of RTSP."""
    return url is not None and url.lower().startswith("rtsp")


def square_size(width: int, height: int, aspect: float) -> tuple[int, int]:
    """Return width and height with square pixels; neither side shrinks.

    Args:
        width: Of the coded picture.
        height: Of the coded picture.
        aspect: Width by height of one pixel; zero and absurd values count as 1.
    """
    if not 1 / WIDEST_PIXEL <= aspect <= WIDEST_PIXEL:
        return width, height
    return (round(width * aspect), height) if aspect >= 1 else (width, round(height / aspect))


def best_reader() -> Literal["av", "cv2"]:
    """Return the reader of files and addresses; raises SourceUnavailable where there is none."""
    if importlib.util.find_spec("av") is not None:
        return "av"
    import_cv2()
    return "cv2"
