"""The file in which a large gallery keeps its short vectors: where it is, and how it is erased."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from cstl_edge.output import sweep

SUFFIX = "-index"  # behind the name of the gallery's file
_ZEROS = bytes(2**20)


def cache_path(gallery: Path) -> Path:
    """Return the path of a gallery's cache."""
    return gallery.with_name(gallery.name + SUFFIX)


def forget_cache(gallery: Path) -> None:
    """Overwrite and delete the cache of a gallery, if there is one: somebody in it was erased."""
    path = cache_path(gallery)
    with contextlib.suppress(OSError):
        sweep(path)  # what a killed process left of it
    overwrite_and_delete(path)


def overwrite_and_delete(path: Path) -> None:
    """Overwrite a file and delete it, if it is there and may be written."""
    with contextlib.suppress(OSError):
        with path.open("r+b") as file:
            left = os.fstat(file.fileno()).st_size
            while left > 0:
                left -= file.write(_ZEROS[: min(left, len(_ZEROS))])
            file.flush()
            os.fsync(file.fileno())
        path.unlink()
