"""The data folder of a site: private, and used by one service at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

from cstl_edge.errors import StorageError, one_line
from cstl_edge.output import storing
from cstl_edge.serve.site import Site

LOCK_NAME = "service.lock"
PRIVATE = 0o700


@contextlib.contextmanager
def claimed(site: Site) -> Iterator[None]:
    """Make the folder of a site and hold it, against a second service.

    Raises:
        StorageError: The folder cannot be made, or another service uses it.
    """
    with storing(site.data):
        site.data.mkdir(parents=True, exist_ok=True, mode=PRIVATE)
        lock = os.open(site.data / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as err:
            raise StorageError(
                f"another cstl-edge serve uses {one_line(site.data)}",
                remedy="end it first, or give this site another folder (data:)",
            ) from err
        with storing(site.spool):
            site.spool.mkdir(exist_ok=True, mode=PRIVATE)
            for left_over in site.spool.iterdir():
                if left_over.is_file():
                    left_over.unlink()
        yield
    finally:
        os.close(lock)
