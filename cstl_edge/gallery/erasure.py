"""Erase people without residue, also on a full disk, and say what is not finished.

A tombstone (the person's number alone) makes an erasure final, with the rows or, on a full disk,
before these go in batches that it has room for. Then the file is written anew, since pages keep
stale copies of rows that moved, and the log is emptied. What cannot be finished now, because
another process reads or the disk is full, is noted in the file and finished at the next opening.
"""

from __future__ import annotations

import logging
import sqlite3
from dataclasses import dataclass, field

from cstl_edge.errors import GalleryError, one_line
from cstl_edge.gallery.sealed_rows import SealedRows
from cstl_edge.gallery.sealing import place

_BATCH = 8  # templates deleted in one transaction: 200 KB of log

_ERASED = "SELECT id FROM tombstones"
_WALKS = (  # of erased people, and of nobody: rows that a flipped bit has cut off
    f"SELECT id FROM enrolments WHERE person_id IN ({_ERASED})"
    " UNION SELECT id FROM enrolments WHERE person_id NOT IN (SELECT id FROM people)"
)
_LEFT = (
    f"SELECT 1 FROM people WHERE id IN ({_ERASED})"
    f" UNION ALL SELECT 1 FROM enrolments WHERE id IN ({_WALKS})"
    " UNION ALL SELECT 1 FROM templates WHERE enrolment_id NOT IN (SELECT id FROM enrolments)"
    " LIMIT 1"
)

logger = logging.getLogger(__name__)


@dataclass
class Erasure:
    """What an erasure could not finish; empty when not a byte is left."""

    unfinished: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return "; ".join(self.unfinished)


def erase(rows: SealedRows, people: list[int], now: str) -> None:
    """Make people be gone for good; `finish` then erases what their rows leave in the files.

    On a full disk their tombstones alone are written, and `finish` deletes the rows in batches.

    Args:
        rows: Open file.
        people: Numbers of the people.
        now: Moment of the tombstones.
    """
    if not people:
        return
    try:
        _bury(rows, people, now, delete=True)
    except GalleryError as err:
        if not isinstance(err.__cause__, sqlite3.OperationalError):
            raise
        rows.with_room(lambda: _bury(rows, people, now, delete=False))


def _bury(rows: SealedRows, people: list[int], now: str, *, delete: bool) -> None:
    with rows.change() as head:
        for person in people:
            if rows.one("SELECT 1 FROM tombstones WHERE id = ?", person) is not None:
                continue  # another process was faster
            head.people -= rows.one("SELECT 1 FROM people WHERE id = ?", person) is not None
            body = rows.seal.close(now.encode(), place("tombstones", person))
            rows.database.execute("INSERT INTO tombstones VALUES (?, ?)", (person, body))
            head.tombstones += 1
        if delete:
            rows.database.execute(f"DELETE FROM people WHERE id IN ({_ERASED})")
        head.unfinished = True
        head.pending_backups = [known.path for known in head.backups]


def finish(rows: SealedRows) -> Erasure:
    """Erase all that is left of erased people; returns what must wait."""
    erasure = Erasure()
    if not rows.head().unfinished:
        return erasure
    rows.forget_copies()
    if rows.one(_LEFT) is not None:
        rows.with_room(lambda: _delete_rows(rows))
    try:
        rows.with_room(rows.rewrite)
    except GalleryError as err:
        logger.debug("%s", err)
        erasure.unfinished.append(rows.not_rewritten(err))
    if not rows.empty_log():
        erasure.unfinished.append("another process reads the file, so the log still holds it")
    if not erasure.unfinished:
        with rows.change(of_people=False) as head:
            head.unfinished = False
    rows.take_reserve()
    return erasure


def _delete_rows(rows: SealedRows) -> None:
    """Delete what tombstones mark, in batches that a full disk has room for."""
    with rows.explained():
        for table in ("templates", "silhouettes"):
            query = (
                f"DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE enrolment_id IN"
                f" ({_WALKS}) OR enrolment_id NOT IN (SELECT id FROM enrolments) LIMIT {_BATCH})"
            )
            while rows.database.execute(query).rowcount:
                rows.empty_log()
        rows.database.execute(f"DELETE FROM enrolments WHERE id IN ({_WALKS})")
        rows.database.execute(f"DELETE FROM people WHERE id IN ({_ERASED})")
        rows.empty_log()


def note_of(erasure: Erasure, path: object) -> str:
    """Return the warning for an erasure that is not finished."""
    return (
        f"gallery '{one_line(path)}': erased, but not without residue yet: {erasure}; it is"
        " finished at the next opening (gallery purge)"
    )
