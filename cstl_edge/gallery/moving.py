"""Bring a gallery to another place, from a file to a server or back (`gallery migrate`)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from cstl_edge.errors import ConfigError, GalleryError, one_line
from cstl_edge.gallery.keys import GalleryKey
from cstl_edge.gallery.postgres import PostgresRows
from cstl_edge.gallery.replication import clear_head, copy_all
from cstl_edge.gallery.rows import Rows
from cstl_edge.gallery.sealed_rows import SealedRows
from cstl_edge.gallery.server_address import is_server, server_address


def move(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    key: GalleryKey,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> int:
    """Copy a gallery to an empty place as it is, key and tombstones included; returns its people.

    One that was interrupted goes on where it was. The source stays as it is.

    Args:
        source: File, or address of a server's gallery.
        target: File or address, where there is nothing or an interrupted copy of this gallery.
        key: Where the secret of an encrypted gallery comes from.
        progress: Called with the people copied, and those in all.

    Raises:
        GalleryError: One of them is refused, the target is not empty, or storage failed.
        ConfigError: Both are the same.
    """
    if _name(source) == _name(target):
        raise ConfigError("a gallery is migrated to another place: give two different ones")
    with contextlib.ExitStack() as opened:
        read = _open(source, key, create=False)
        opened.callback(read.close)
        written = _open(target, key, create=True)
        opened.callback(written.close)
        clear_head(written)
        head = copy_all(read, written, progress)
        if not isinstance(written, Rows):
            return head.people
        written.empty_log()
        return head.people


def shown_place(place: str | os.PathLike[str]) -> str:
    """Return a gallery's place for people: without credentials."""
    return server_address(place).shown if is_server(place) else one_line(os.fspath(place))


def refuse_server(place: str | os.PathLike[str], what: str) -> None:
    """Raise GalleryError where a place is a server's, for what files alone can do.

    Args:
        place: File or address.
        what: What cannot be done, as the end of a sentence.
    """
    if is_server(place):
        raise GalleryError(f"'{shown_place(place)}' is on a server: {what}")


def _open(place: str | os.PathLike[str], key: GalleryKey, *, create: bool) -> SealedRows:
    if is_server(place):
        return PostgresRows(server_address(place), create=create, key=key)
    return Rows(Path(place), create=create, key=key)


def _name(place: str | os.PathLike[str]) -> str:
    return server_address(place).shown if is_server(place) else os.path.realpath(place)
