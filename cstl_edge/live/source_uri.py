"""Addresses of sources: what kind they are, their options, and how to show them without secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cstl_edge.errors import ConfigError, one_line

NETWORK_SCHEMES = ("rtsp", "rtsps", "http", "https")  # read by FFmpeg
KNOWN_FORMS = (
    "a video file, a folder of images, a USB camera (0 or /dev/video0), rtsp://HOST/PATH, csi://0, "
    "gst:PIPELINE or synthetic://6"
)
SECRET = re.compile(
    r"((?:pass(?:word|wd)?|pwd|token|secret|auth|key|user-id|user-pw)=)"
    r"(\"[^\"]*\"|[^\s&!\"']+)",
    re.IGNORECASE,
)


def redact(text: object) -> str:
    """Return an address, or a line that holds one, fit for showing: without passwords.

    >>> redact("rtsp://admin:s3cret@10.0.0.2/1?token=abc&x=1")
    'rtsp://***@10.0.0.2/1?token=***&x=1'
    """
    shown = re.sub(r"(?<=://)[^\s\"'<>]*@", "***@", str(text))
    return one_line(SECRET.sub(r"\1***", shown), limit=300)


def scheme_of(text: str) -> str:
    """Return the scheme of an address, "" for paths and camera numbers."""
    if text.startswith("gst:"):
        return "gst"
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", text)
    if not match:
        return ""
    scheme = match.group(1).lower()
    if scheme not in (*NETWORK_SCHEMES, "csi", "synthetic"):
        raise ConfigError(f"unknown source {redact(text)}; expected {KNOWN_FORMS}")
    return scheme


def is_camera(text: str) -> bool:
    """Tell whether a text without scheme names a USB camera; ./0 is the file called 0."""
    return text.isdecimal() or re.fullmatch(r"/dev/video\d+", text) is not None


def query_values(text: str, allowed: Mapping[str, type], uri: str) -> dict[str, Any]:
    """Parse `seed=0&fps=25` with the types of `allowed`; raises ConfigError that names the key."""
    values: dict[str, Any] = {}
    for item in filter(None, text.split("&")):
        key, _, value = item.partition("=")
        if key not in allowed:
            known = ", ".join(allowed)
            raise ConfigError(f"unknown key {one_line(key)!r} in {uri}; expected {known}")
        try:
            values[key] = allowed[key](value)
        except ValueError as err:
            kind = allowed[key].__name__
            raise ConfigError(f"{key} in {uri}: expected {kind}, got {one_line(value)!r}") from err
    return values
