"""Options of a source, as arguments or as the query of its address: `rtsp://HOST/1?rotate=180`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cstl_edge.errors import ConfigError, one_line
from cstl_edge.live.sources.base import StateCallback, redact

ROTATIONS = (0, 90, 180, 270)  # degrees, clockwise
FLIPS = ("h", "v")  # left and right, top and bottom change places
MAX_FPS = 1000.0
QUERY: dict[str, Callable[[str], Any]] = {"rotate": int, "flip": str, "fps": float}
PIPELINE = "gst:"  # a pipeline may hold addresses with queries of their own
OWN_FPS = re.compile(r"(?!csi:)[A-Za-z][A-Za-z0-9+.-]*://")  # addresses that know a key `fps`


@dataclass(frozen=True)
class SourceOptions:
    """Options of `open_source`; a source ignores what means nothing to it."""

    start_s: float | None = None
    """Start of the part of a recording that is read, in seconds of its media time."""
    stop_s: float | None = None
    """End of that part."""
    fps: float | None = None
    """True rate of a recording, in place of its timestamps (slow motion, a wrong tag, a folder of
    images); wanted of a USB or CSI camera; of a stream, where it declares a wrong one."""
    rotate: int | None = None
    """Degrees by which pictures are turned clockwise: 0, 90, 180 or 270."""
    flip: str | None = None
    """Mirror pictures, after turning them: h exchanges left and right, v top and bottom."""
    wait: bool = False
    """Wait for a live source that does not answer, for ever; without it the first failure, after
    at most 5 s, raises. One that has given frames is opened again for ever in either case."""
    first_picture_s: float | None = None
    """Longest wait of a live source for the first picture after it answered, in place of 15 s."""
    next_picture_s: float | None = None
    """Longest wait of a live source between two pictures, in place of 5 s."""
    on_state: StateCallback | None = None
    """Called at every change of a live source, in the thread that opens and iterates it."""

    def __post_init__(self) -> None:
        """Raise ConfigError for values out of range."""
        if self.rotate is not None and self.rotate not in ROTATIONS:
            raise ConfigError(f"rotate: expected 0, 90, 180 or 270, got {self.rotate}")
        if self.flip is not None and self.flip not in FLIPS:
            raise ConfigError(f"flip: expected h or v, got {one_line(self.flip)!r}")
        if self.fps is not None and not 0 < self.fps <= MAX_FPS:
            raise ConfigError(f"fps: expected a rate above 0, {MAX_FPS:g} at most; got {self.fps}")
        for name in ("first_picture_s", "next_picture_s"):
            wait_s = getattr(self, name)
            if wait_s is not None and not 0 < wait_s < math.inf:
                raise ConfigError(f"{name}: expected seconds above 0, got {wait_s}")
        times = [t for t in (self.start_s, self.stop_s) if t is not None]
        if not all(math.isfinite(t) and t >= 0 for t in times) or sorted(set(times)) != times:
            raise ConfigError(
                f"expected 0 <= start_s < stop_s, got {self.start_s} and {self.stop_s}"
            )

    @property
    def longest_wait_s(self) -> float:
        """The longer of the two waits that are set, 0 where none is."""
        return max(self.first_picture_s or 0.0, self.next_picture_s or 0.0)

    def refuse_part(self, uri: str) -> None:
        """Raise ConfigError when a part is wanted of a live source."""
        if self.start_s is not None or self.stop_s is not None:
            raise ConfigError(
                f"start_s and stop_s need a recording; {redact(uri)} is a live source"
            )


def split_query(address: str, options: SourceOptions) -> tuple[str, SourceOptions]:
    """Take `rotate`, `flip` and `fps` out of an address; what `options` has already comes first.

    >>> split_query("rtsp://cam/1?channel=2&rotate=90", SourceOptions())[0]
    'rtsp://cam/1?channel=2'
    """
    before, question, query = address.partition("?")
    if not question or address.startswith(PIPELINE):
        return address, options
    items = [item.partition("=") for item in query.split("&")]
    if "://" not in address and (
        Path(address).exists() or any(key not in QUERY for key, _, _ in items)
    ):
        return address, options  # a file whose name has a question mark
    values = {key: _parse(key, value, address) for key, _, value in items if key in QUERY}
    # a camera sends as many frames as its address says, so it has to see that key
    has_own_fps = OWN_FPS.match(address) is not None
    rest = [i for i in items if i[0] not in QUERY or (i[0] == "fps" and has_own_fps)]
    missing = {key: value for key, value in values.items() if getattr(options, key) is None}
    tail = "&".join("".join(item) for item in rest)
    return before + (f"?{tail}" if tail else ""), replace(options, **missing)


def _parse(key: str, text: str, address: str) -> Any:
    try:
        return QUERY[key](text)
    except ValueError as err:
        raise ConfigError(
            f"{key} in {redact(address)}: expected a number, got {one_line(text)!r}"
        ) from err
