"""A file beside the gallery that holds room, so that people can be erased on a full disk.

SQLite needs room to delete: 200 KB of log for each batch of rows, 32 KB of shared memory to open a
file. The reserve is given up when the disk is full, and taken again when there is room.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

RESERVE_BYTES = 2**20


def take(gallery: Path) -> bool:
    """Make the reserve of a gallery, if it is not there; returns whether it is there now."""
    path = _path(gallery)
    try:
        if path.exists() and path.stat().st_size:
            return _is_ours(path)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    except (OSError, ValueError):  # the folder may only be read
        return False
    try:
        _fill(descriptor)
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()
        return False
    finally:
        os.close(descriptor)
    return True


def give_up(gallery: Path) -> bool:
    """Delete the reserve of a gallery; returns whether there was one."""
    path = _path(gallery)
    try:
        if not _is_ours(path):
            return False
        path.unlink()
    except (OSError, ValueError):
        return False
    return True


def _is_ours(path: Path) -> bool:
    """Return whether a file is a reserve, not somebody's file of that name."""
    if path.stat().st_size != RESERVE_BYTES:
        return False
    with path.open("rb") as file:
        return not any(file.read(4096))


def _fill(descriptor: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
        return
    written = 0
    while written < RESERVE_BYTES:
        written += os.write(descriptor, bytes(RESERVE_BYTES - written))


def _path(gallery: Path) -> Path:
    return gallery.with_name(gallery.name + "-reserve")
