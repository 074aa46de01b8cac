"""Table of sources by scheme, and `open_source`.

To add one, write a module with a function `open_…(uri: str, options: SourceOptions) -> FrameSource`
and add a line here; its addresses begin with `NAME://`. Another package adds its own as an entry
point of the group `cstl_edge.sources`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cstl_edge.errors import ConfigError
from cstl_edge.registry import Entry, Registry

if TYPE_CHECKING:  # the command line reads this table before anything heavy is imported
    from cstl_edge.live.sources.base import FrameSource
    from cstl_edge.live.sources.options import SourceOptions

SOURCES = Registry(
    "source",
    {
        "file": Entry(
            "cstl_edge.live.sources.files:open_recording", "a video file, a folder of images"
        ),
        "camera": Entry(
            "cstl_edge.live.sources.network:open_usb", "a USB camera (0 or /dev/video0)"
        ),
        "rtsp": Entry("cstl_edge.live.sources.network:open_stream", "rtsp://HOST/PATH"),
        "rtsps": Entry("cstl_edge.live.sources.network:open_stream"),
        "http": Entry("cstl_edge.live.sources.network:open_http"),
        "https": Entry("cstl_edge.live.sources.network:open_http"),
        "csi": Entry("cstl_edge.live.sources.gstreamer:open_csi", "csi://0"),
        "gst": Entry("cstl_edge.live.sources.gstreamer:open_gst", "gst:PIPELINE"),
        "synthetic": Entry("cstl_edge.live.sources.synthetic.open:open_synthetic", "synthetic://6"),
    },
    group="cstl_edge.sources",
)
WITHOUT_SCHEME = {"file", "camera"}
DEVICE = re.compile(r"/dev/(?!shm/|fd/|stdin$)")  # what is left of /dev are no files


def open_source(
    uri: str | os.PathLike[str], options: SourceOptions | None = None, **fields: Any
) -> FrameSource:
    """Open a source by its address; its first frame has arrived when this returns.

    With `wait` a live source returns at once and opens while it is iterated.

    Args:
        uri: Path of a video or of a folder of images, number or device of a USB camera, or an
            address with a scheme; `?rotate=90&flip=h&fps=12` behind it are options as well, and
            `{NAME}` in one with a scheme stands for credentials (`cstl_edge.credentials`).
        options: Part, rate, orientation; whether to wait.
        **fields: Fields of `SourceOptions`, in place of those of `options`.

    Raises:
        ConfigError: The address or an option makes no sense.
        SourceUnavailable: Something is missing or does not answer.
        DataError: A file or folder is there and holds no video.
    """
    from cstl_edge.credentials import fill_in
    from cstl_edge.live.sources.options import SourceOptions, split_query
    from cstl_edge.live.sources.turned import turned

    address, chosen = split_query(os.fspath(uri), replace(options or SourceOptions(), **fields))
    kind = source_kind(address)
    if kind not in WITHOUT_SCHEME:
        address = fill_in(address)
    source: FrameSource = SOURCES.load(kind)(address, chosen)
    return turned(source, chosen.rotate, chosen.flip)


def source_kind(address: str) -> str:
    """Return the name in the table of the source that an address means; raises ConfigError."""
    if address.startswith("gst:"):
        return "gst"
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", address)
    if match is None:
        # ./0 is the file called 0; udev gives devices names such as /dev/camera-door
        is_camera = address.isdecimal() or DEVICE.match(address)
        return "camera" if is_camera else "file"
    scheme = match.group(1).lower()
    if scheme in WITHOUT_SCHEME or scheme not in SOURCES:
        from cstl_edge.live.sources.base import redact

        raise ConfigError(f"unknown source {redact(address)}; expected {source_forms(SOURCES)}")
    return scheme


def source_forms(names: Iterable[str] = SOURCES.entries) -> str:
    """Return the forms of addresses: ours for help texts, those of all `SOURCES` for messages."""
    own = SOURCES.entries
    forms = [own[name].summary if name in own else f"{name}://" for name in names]
    *others, last = filter(None, forms)
    return f"{', '.join(others)} or {last}"
