"""The file of a box's replica: made from the server, and made again where it is damaged.

All that a replica holds is on the server, but the list of the box's own backups and what its
cameras learned since the last exchange.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from cstl_edge.errors import DamagedGallery, GalleryError, one_line
from cstl_edge.gallery.camera_means import CameraMeans
from cstl_edge.gallery.erasure import finish
from cstl_edge.gallery.index_cache import forget_cache, overwrite_and_delete
from cstl_edge.gallery.keys import GalleryKey
from cstl_edge.gallery.repair import repair
from cstl_edge.gallery.replica_cameras import note_path
from cstl_edge.gallery.replication import copy_all, pull
from cstl_edge.gallery.rows import Rows
from cstl_edge.gallery.sealed_rows import SealedRows
from cstl_edge.gallery.store import GalleryStore

logger = logging.getLogger(__name__)


def open_replica(path: Path, key: GalleryKey, server: SealedRows | None) -> Rows | None:
    """Open a replica; one that is missing or damaged is copied from the server first.

    Args:
        path: Path of the file.
        key: Where the secret of an encrypted gallery comes from.
        server: The server's rows; None: it is away.

    Returns:
        The open file, None where there is none and no server.

    Raises:
        GalleryError: The file is refused, or is damaged while the server is away.
    """
    if server is not None:
        with _alone(path):
            marked = _damage_mark(path).exists()
            if marked or not path.exists():
                _copy(server, path, key, damage="its pages" if marked else None)
    if not path.exists():
        return None
    try:
        return Rows(path, create=False, key=key)
    except DamagedGallery as err:
        if server is None:
            raise
        with _alone(path):
            _copy(server, path, key, damage=str(err))
    return Rows(path, create=False, key=key)


def heal(server: SealedRows, replica: Rows, clock: Callable[[], datetime]) -> None:
    """Take what is damaged out of a replica, and copy it from the server again.

    Args:
        server: The server's rows.
        replica: Open file; one whose pages are damaged is made again when it is opened next.
        clock: Gives the time in UTC.

    Raises:
        GalleryError: Its pages are damaged, or the server's rows are.
    """
    try:
        replica.check_pages()
        means = CameraMeans(GalleryStore(replica, clock), threading.RLock())
        done = repair(replica, means)
    except GalleryError:
        with contextlib.suppress(OSError):
            _damage_mark(replica.path).touch(mode=0o600)
        raise
    with contextlib.suppress(OSError):  # else a camera that is missing here is erased there
        note_path(replica.path).unlink()
    pull(server, replica)
    finish(replica)
    for what in done:
        shown = one_line(replica.path)
        logger.warning("replica '%s': %s; it is copied from the server again", shown, what)


def _copy(server: SealedRows, path: Path, key: GalleryKey, *, damage: str | None) -> None:
    """Make a replica: beside its name, so that it is whole or missing.

    Args:
        server: The server's rows.
        path: Path of the file.
        key: Where the secret of an encrypted gallery comes from.
        damage: What is wrong with the one that is there, None without one.
    """
    part = path.with_name(path.name + ".part")
    try:
        rows = Rows(part, create=True, key=key, reserve=False)
    except DamagedGallery:
        _delete(part)
        rows = Rows(part, create=True, key=key, reserve=False)
    try:
        with rows.transaction("IMMEDIATE"):
            rows.database.execute("DELETE FROM head")
        copy_all(server, rows)
    finally:
        rows.close()
    if damage is not None:
        _drop(path, damage)
    os.replace(part, path)


def _drop(path: Path, reason: str) -> None:
    """Delete a damaged replica with what belongs to it."""
    logger.warning(
        "replica '%s' is copied from the server again, since it is damaged (%s); sums of cameras"
        " since the last exchange are lost, and backups made on this box are erased no more",
        one_line(path), one_line(reason),
    )  # fmt: skip
    forget_cache(path)
    _delete(path)
    for left in (note_path(path), _damage_mark(path)):
        left.unlink(missing_ok=True)


def _delete(path: Path) -> None:
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm", f"{path.name}-reserve"):
        overwrite_and_delete(path.with_name(name))


def _damage_mark(path: Path) -> Path:
    return path.with_name(path.name + ".damaged")


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold off other processes of this machine that make the same replica."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(path.with_name(path.name + ".lock"), "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
