"""Backups of a gallery: made while others write, known to it, and erased in step with it.

A backup is a gallery file of its own. Whoever is erased from the gallery is erased from every
backup that can be reached; one that cannot is noted, and tried again at each opening. A restore
leaves out whoever was erased since, by their tombstones.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cstl_edge.errors import DamagedGallery, GalleryError, StorageError, one_line
from cstl_edge.gallery import database
from cstl_edge.gallery.erasure import Erasure, erase, finish
from cstl_edge.gallery.keys import GalleryKey
from cstl_edge.gallery.loading import load
from cstl_edge.gallery.records import KnownBackup
from cstl_edge.gallery.rows import Rows
from cstl_edge.gallery.stored_people import read_people, tombstones
from cstl_edge.output import PRIVATE, partial_name, storing, sweep, sync_folder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Restored:
    """What a restore did."""

    people: int  # in the gallery now
    left_out: int  # of the backup's people, erased since
    moved: Path | None = None  # where the damaged gallery lies


def backup(rows: Rows, path: Path, now: str) -> None:
    """Write all of one state of a gallery to a new file, and remember it.

    Args:
        rows: Open gallery; other processes may go on writing.
        path: File of the backup; an existing one is replaced.
        now: Moment of the backup.

    Raises:
        GalleryError, StorageError: Nothing is left under its name.
    """
    path = Path(os.path.abspath(path))
    if path.exists() and rows.path.exists() and path.samefile(rows.path):
        raise GalleryError(f"'{one_line(path)}' is the gallery itself: name another file")
    _remember(rows, path, now, written=False)  # first: an erasure from now on reaches it
    try:
        with _partial(path) as part:
            with database.explained_errors(path):
                rows.database.execute("VACUUM INTO ?", (str(part),))
            _forget_all_backups(part, rows.key)
            with storing(path):
                os.replace(part, path)
                sync_folder(path.parent)
    except BaseException:
        if not path.is_file():
            forget_backup(rows, path)
        raise
    _remember(rows, path, now, written=True)
    erase_in_backups(rows)


def _remember(rows: Rows, path: Path, now: str, *, written: bool) -> None:
    with rows.change(of_people=False) as head:
        earlier = [known for known in head.backups if known.path == str(path)]
        written = written or any(known.written for known in earlier)
        head.backups = [known for known in head.backups if known.path != str(path)]
        head.backups.append(KnownBackup(path=str(path), created_utc=now, written=written))


def forget_backup(rows: Rows, path: Path) -> bool:
    """Take a backup that is gone off the list; returns whether it was there."""
    name = os.path.abspath(path)
    with rows.change(of_people=False) as head:
        before = len(head.backups)
        head.backups = [b for b in head.backups if b.path != name]
        head.pending_backups = [p for p in head.pending_backups if p != name]
        return len(head.backups) < before


def erase_in_backups(rows: Rows, *, only_pending: bool = False) -> Erasure:
    """Erase whoever has a tombstone from the backups; returns what must wait.

    Args:
        rows: Open gallery.
        only_pending: Whether only backups that could not be reached before are looked at.
    """
    head = rows.head()
    erasure, pending = Erasure(), list[str]()
    for known in head.backups:
        if only_pending and known.path not in head.pending_backups:
            continue
        if not known.written and not Path(known.path).exists():  # killed while it was written
            forget_backup(rows, Path(known.path))
            continue
        reason = _erase_in_backup(rows, known, head.gallery)
        if reason:
            pending.append(known.path)
            erasure.unfinished.append(f"the backup '{one_line(known.path)}' {reason}")
    if pending != rows.head().pending_backups:
        with rows.change(of_people=False) as head:
            head.pending_backups = pending
    return erasure


def restore(source: Path, target: Path, key: GalleryKey, now: str, *, force: bool) -> Restored:
    """Put a backup in a gallery's place, without whoever was erased since.

    Args:
        source: File of the backup; it is not changed.
        target: File of the gallery, which may be missing or damaged.
        key: Where the secret of encrypted galleries comes from.
        now: Moment of the restore.
        force: Whether people of the gallery may be lost who are not in the backup.

    Raises:
        GalleryError, StorageError: The gallery is as it was.
    """
    if not source.is_file():
        raise GalleryError(f"backup '{one_line(source)}' does not exist: give another path")
    with _partial(target) as part, contextlib.ExitStack() as opened:
        _copy_file(source, part)
        copy = opened.enter_context(
            contextlib.closing(Rows(part, create=False, key=key, reserve=False))
        )
        load(copy, now)  # nothing of it is damaged
        present, erased = _present(target, key, opened)
        if present is not None and not force:
            _refuse_losses(present, copy)
        before = copy.head().people
        known = list(present.head().backups) if present is not None else []
        erase(copy, sorted(erased - tombstones(copy, copy.head())), now)
        with copy.change() as head:
            head.backups = known or head.backups
            people = head.people
            head.revision += present.head().revision if present is not None else 1
        finish(copy)
        moved = _put(copy, part, present, target, opened)
    return Restored(people, before - people, moved)


def _open_copy(path: Path, key: GalleryKey) -> contextlib.closing[Rows]:
    return contextlib.closing(Rows(path, create=False, key=key, reserve=False))


def _forget_all_backups(part: Path, key: GalleryKey) -> None:
    """Clear the list of backups in a copy, which is no business of a backup."""
    with _open_copy(part, key) as copy, copy.change(of_people=False) as head:
        head.backups, head.pending_backups = [], []


def _erase_in_backup(rows: Rows, known: KnownBackup, gallery: str) -> str | None:
    """Erase from one backup; returns why that is not possible, None where it is done."""
    path = Path(known.path)
    if not path.is_file():
        return "is not there and still holds what was erased"
    try:
        with _open_copy(path, rows.key) as copy:
            if copy.head().gallery != gallery:
                return "is another gallery by now"
            missing = tombstones(rows, rows.head()) - tombstones(copy, copy.head())
            erase(copy, sorted(missing), known.created_utc)
            if finish(copy).unfinished:
                return "could not be rewritten and may still hold what was erased"
    except GalleryError as err:
        logger.debug("%s", err)
        return "cannot be written and still holds what was erased"
    return None


def _present(
    target: Path, key: GalleryKey, opened: contextlib.ExitStack
) -> tuple[Rows | None, frozenset[int]]:
    """Return the gallery to replace, None where it is missing or damaged, and its tombstones."""
    if not target.exists() or not target.stat().st_size:
        return None, frozenset()
    try:
        rows = opened.enter_context(contextlib.closing(Rows(target, create=False, key=key)))
        return rows, tombstones(rows, rows.head())
    except DamagedGallery as err:
        logger.warning("%s", err)
        return None, _tombstones_of_damaged(target)


def _tombstones_of_damaged(target: Path) -> frozenset[int]:
    """Return the tombstones that can still be read, which need no key."""
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(database.open_read_only(target)) as raw,
    ):
        return frozenset(row for (row,) in raw.execute("SELECT id FROM tombstones"))
    return frozenset()


def _refuse_losses(present: Rows, copy: Rows) -> None:
    """Raise GalleryError where a restore would lose people who were enrolled since."""
    if present.head().people and present.head().gallery != copy.head().gallery:
        raise GalleryError(
            f"gallery '{one_line(present.path)}' is not the one that the backup was made of:"
            " restore to another path, or replace it all the same (--force)"
        )
    names = {person.id: person.record.name for person in read_people(present, present.head())}
    for person in read_people(copy, copy.head()):
        names.pop(person.id, None)
    if names:
        who = ", ".join(sorted(one_line(name, 40) for name in names.values())[:5])
        raise GalleryError(
            f"{len(names)} people of gallery '{one_line(present.path)}' are not in the backup"
            f" ({who}): a restore would lose them; do it all the same with --force"
        )


def _put(
    copy: Rows, part: Path, present: Rows | None, target: Path, opened: contextlib.ExitStack
) -> Path | None:
    """Put a checked copy in the place of the gallery; returns where a damaged one is now."""
    if present is not None:  # as one transaction: others may have it open
        with database.explained_errors(target):
            copy.database.backup(present.database)
            database.truncate_log(present.database, target)
        return None
    opened.close()  # folds the log into the copy
    moved = None
    with storing(target):
        if target.exists() and target.stat().st_size:
            moved = target.with_name(f"{target.name}.damaged")
            for suffix in ("", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    os.replace(f"{target}{suffix}", f"{moved}{suffix}")
        os.replace(part, target)
        sync_folder(target.parent)
    return moved


def _copy_file(source: Path, part: Path) -> None:
    """Copy a SQLite file in one state, whoever writes it meanwhile."""
    with (
        database.explained_errors(source),
        contextlib.closing(database.open_read_only(source)) as original,
        contextlib.closing(sqlite3.connect(part)) as copy,
    ):
        original.backup(copy)


@contextlib.contextmanager
def _partial(path: Path) -> Iterator[Path]:
    """Give an empty file beside `path` for its content; what is left of it goes at the end."""
    part = partial_name(path)
    try:
        with storing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                raise StorageError(f"'{one_line(path)}' is a folder: name a file")
            sweep(path)
            os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE))
        yield part
    finally:
        for suffix in ("", "-wal", "-shm", "-journal"):
            with contextlib.suppress(OSError):
                os.unlink(f"{part}{suffix}")
