"""Erase people without residue, also on a full disk, and say what is not finished.

A tombstone (the person's number alone) makes an erasure final in one small step; rows then go in
batches that a full disk has room for, the file is written anew, since pages keep stale copies of
rows that moved, and the log is emptied. What cannot be finished now, because another process reads
or the disk is full, is noted in the file and finished at the next opening.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from cstl_edge.errors import GalleryError, one_line
from cstl_edge.gallery import database
from cstl_edge.gallery.rows import Rows
from cstl_edge.gallery.sealing import place

_BATCH = 8  # templates deleted in one transaction: 200 KB of log

logger = logging.getLogger(__name__)


@dataclass
class Erasure:
    """What an erasure could not finish; empty when not a byte is left."""

    unfinished: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return "; ".join(self.unfinished)


def erase(rows: Rows, people: list[int], now: str) -> None:
    """Make people be gone for good: their tombstones; `finish` erases their rows.

    Args:
        rows: Open file.
        people: Numbers of the people.
        now: Moment of the tombstones.
    """
    if people:
        rows.with_room(lambda: _bury(rows, people, now))


def _bury(rows: Rows, people: list[int], now: str) -> None:
    with rows.change() as head:
        for person in people:
            head.people -= rows.one("SELECT 1 FROM people WHERE id = ?", person) is not None
            body = rows.seal.close(now.encode(), place("tombstones", person))
            rows.database.execute("INSERT INTO tombstones VALUES (?, ?)", (person, body))
        head.tombstones += len(people)
        head.unfinished = True
        head.pending_backups = [known.path for known in head.backups]


def finish(rows: Rows) -> Erasure:
    """Erase all that is left of erased people; returns what must wait."""
    erasure = Erasure()
    if not rows.head().unfinished:
        return erasure
    rows.with_room(lambda: _delete_rows(rows))
    try:
        rows.with_room(lambda: _rewrite(rows))
    except GalleryError as err:
        logger.debug("%s", err)
        erasure.unfinished.append(
            "there is no room to write the file anew, so parts of what was erased may remain in it"
        )
    if not database.truncate_log(rows.database, rows.path):
        erasure.unfinished.append("another process reads the file, so the log still holds it")
    if not erasure.unfinished:
        with rows.change(of_people=False) as head:
            head.unfinished = False
        database.truncate_log(rows.database, rows.path)
    rows.take_reserve()
    return erasure


def _delete_rows(rows: Rows) -> None:
    """Delete what tombstones mark, in batches, and rows that belong to nobody."""
    erased = "SELECT id FROM tombstones"
    walks = f"SELECT id FROM enrolments WHERE person_id IN ({erased})"
    nobody = "SELECT id FROM enrolments WHERE person_id NOT IN (SELECT id FROM people)"
    with database.explained_errors(rows.path):
        for table in ("templates", "silhouettes"):
            query = (
                f"DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE enrolment_id IN"
                f" ({walks} UNION {nobody}) OR enrolment_id NOT IN (SELECT id FROM enrolments)"
                f" LIMIT {_BATCH})"
            )
            while rows.database.execute(query).rowcount:
                database.truncate_log(rows.database, rows.path)
        rows.database.execute(f"DELETE FROM enrolments WHERE id IN ({walks} UNION {nobody})")
        rows.database.execute(f"DELETE FROM people WHERE id IN ({erased})")
        database.truncate_log(rows.database, rows.path)


def _rewrite(rows: Rows) -> None:
    """Write the whole file anew: pages keep stale copies of rows that moved within them."""
    with database.explained_errors(rows.path):
        rows.database.execute("VACUUM")


def note_of(erasure: Erasure, path: object) -> str:
    """Return the warning for an erasure that is not finished."""
    return (
        f"gallery '{one_line(path)}': erased, but not without residue yet: {erasure}; it is"
        " finished at the next opening (gallery purge)"
    )
