"""Anonymise results: take out what identifies a machine and its user, before they are sent.

Names of the user and of the host, addresses, paths and identifiers of devices are replaced; figures
and versions stay. Known names are matched as words, the rest by its form.
"""

from __future__ import annotations

import contextlib
import getpass
import re
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cstl_edge.measure.linux import SysfsTree

PERSONAL_KEYS = re.compile(
    r"(?:^|_)(?:host|hostname|user|username|serial|uuid|mac|address|home)(?:_|$)", re.IGNORECASE
)
COMMON_NAMES = {"root", "user", "admin", "nvidia", "ubuntu", "jetson", "orin", "thor", "tegra"}
COMMON_NAMES |= {"localhost", "tegra-ubuntu", "linux", "debian"}  # they identify nobody
SYSTEM = ("/dev/", "/sys/", "/proc/", "/etc/nv", "/usr/bin/", "/usr/sbin/", "/usr/local/cuda")
FORMS = {
    "address": r"(?:rtsps?|https?|ftp|ssh|file|srt|udp)://\S+|[\w.+-]+@[\w-]+(?:\.[\w-]+)+",
    "hardware address": r"\b(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}\b",
    # Versions have four numbers too (TensorRT 10.3.0.30): only after a word that introduces one.
    "ip": r"\b192\.168\.\d+\.\d+\b|(?i:(?<=\bat )|(?<=\bto )|(?<=rom )|(?<=ost ))(?:\d+\.){3}\d+\b",
    "id": r"\b(?:GPU-|MIG-)?[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b",
}
PATH = re.compile(r"(?<![\w:/.<])(?:~|/[\w.@+-]+)(?:/[\w.@+ -]*[\w.@+-])+|[A-Za-z]:\\[^\s\"']+")


def scrub(value: Any, names: Iterable[str] | None = None) -> Any:
    """Return a JSON-ready value without personal parts of its texts and without personal keys.

    names: Words to take out; by default those of this machine (`local_names`)
    """
    ordered = sorted(local_names() if names is None else set(names), key=len, reverse=True)
    words = "|".join(re.escape(name) for name in ordered if name)
    known = re.compile(rf"(?<!\w)(?:{words})(?!\w)") if words else None
    return _walk(value, known)


def local_names(root: Path = Path("/")) -> set[str]:
    """Return the names that identify this machine, its user and its parts."""
    names = {socket.gethostname(), socket.gethostname().split(".")[0]}
    with contextlib.suppress(KeyError, OSError):  # a container's user may have no name
        names.add(getpass.getuser())
    files = ("proc/device-tree/serial-number", "etc/hostname", "etc/machine-id")
    names |= {SysfsTree(root).text(path) or "" for path in files}
    return {name for name in names if len(name) > 1 and name.lower() not in COMMON_NAMES}


def _walk(value: Any, known: re.Pattern[str] | None) -> Any:
    if isinstance(value, str):
        return _text(value, known)
    if isinstance(value, dict):
        return {
            key: _walk(item, known) for key, item in value.items() if not PERSONAL_KEYS.search(key)
        }
    if isinstance(value, (list, tuple)):
        return [_walk(item, known) for item in value]
    return value


def _text(text: str, known: re.Pattern[str] | None) -> str:
    for name, form in FORMS.items():
        text = re.sub(form, f"<{name}>", text)
    text = PATH.sub(_path, text)
    return known.sub("<name>", text) if known else text


def _path(match: re.Match[str]) -> str:
    """Leave a path of the system; one with a space may go on to somebody's folder."""
    return match[0] if match[0].startswith(SYSTEM) and " " not in match[0] else "<path>"
