"""Media time of recordings, whatever their timestamps are."""

from __future__ import annotations

import math

from cstl_edge.live.sources.base import DEFAULT_FPS

MAX_FPS = 1000.0  # a container that claims more has no frame rate


class MediaClock:
    """Turns a container's timestamps into strictly increasing media time in seconds.

    A timestamp that is missing, repeated or runs backwards is replaced by the time of the frame
    before plus 1 / fps, so a file without timestamps falls back to index / fps.
    """

    def __init__(self, fps: float) -> None:
        """Start before the first frame."""
        self._step_s = 1.0 / fps
        self._last_s: float | None = None

    def time_s(self, stamp_s: float | None) -> float:
        """Return the media time of the next frame, which the container stamps `stamp_s`."""
        stamp = math.nan if stamp_s is None else stamp_s
        if self._last_s is None:
            self._last_s = stamp if math.isfinite(stamp) and stamp >= 0 else 0.0
        elif math.isfinite(stamp) and stamp > self._last_s + 1e-6:
            self._last_s = stamp
        else:
            self._last_s += self._step_s
        return self._last_s


def believable_fps(declared: float, wanted: float | None) -> tuple[float, str]:
    """Return the rate of a recording, and what to say where it had to be assumed.

    Args:
        declared: By the container, frames per second.
        wanted: By the user, or None.
    """
    if wanted is not None:
        return wanted, ""
    if math.isfinite(declared) and 0 < declared <= MAX_FPS:
        return declared, ""
    return DEFAULT_FPS, f"declares {declared:g} frames per second; taking {DEFAULT_FPS:g}"
