"""Copy a gallery's rows to another store as they are, sealed: all of them, or what has changed.

A row's last 16 bytes, its checksum or its tag, change with its content, so that two stores differ
where these do. A person's record lists their walks, and a walk's lists its templates: whoever's
record is equal is equal in whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from cstl_edge.errors import GalleryError, one_line
from cstl_edge.gallery.records import GalleryHead, to_bytes
from cstl_edge.gallery.sealed_rows import SealedRows
from cstl_edge.gallery.sealing import place

BATCH = 200  # people copied at once
_OF_WALKS = ("templates", "silhouettes")
_CAMERAS = ("camera_means", "camera_scatters")
_COLUMNS = {
    "people": "id, name_digest, look_digest, body",
    "enrolments": "id, person_id, body",
    "templates": "id, enrolment_id, body",
    "silhouettes": "id, enrolment_id, body",
    "camera_means": "id, camera_digest, body",
}


@dataclass
class RowDifference:
    """What one store has and another has not."""

    head: GalleryHead
    key: bytes | None  # body of the row of `keys`
    gone: list[int]  # numbers of people who are not there any more
    people: list[int]  # numbers of people to copy
    tombstones: list[tuple[int, bytes]]
    rows: dict[str, list[Any]] = field(default_factory=dict)  # by table, of `people`


def copy_all(
    source: SealedRows, target: SealedRows, progress: Callable[[int, int], None] = lambda *_: None
) -> GalleryHead:
    """Copy everything to a store without a head; one that was interrupted goes on where it was.

    The head comes last: until then the target is no gallery.

    Args:
        source: Open gallery; others may go on changing it.
        target: Open store, empty or left by an interrupted copy of the same gallery.
        progress: Called with the people copied, and those in all.

    Returns:
        The head of the copy.
    """
    with source.transaction():
        difference = _difference(source, target)
        with target.transaction("IMMEDIATE"):
            _take_key(target, difference.key)
            _delete(target, difference.gone)
        done = source.head().people - len(difference.people)
        progress(done, source.head().people)
        for batch in _batches(difference.people):
            rows = _rows_of(source, batch)
            with target.transaction("IMMEDIATE"):
                _delete(target, batch)
                _insert(target, rows)
            done += len(batch)
            progress(done, source.head().people)
        cameras = {table: source.all(f"SELECT * FROM {table}") for table in _CAMERAS}
        with target.transaction("IMMEDIATE"):
            _take_tombstones(target, difference.tombstones)
            _take_cameras(target, cameras)
            head = replace(difference.head, backups=[], pending_backups=[], unfinished=False)
            _write_head(target, head)
    return head


def pull(source: SealedRows, target: SealedRows) -> bool:
    """Bring a copy to the present state of a gallery in one transaction; sums of cameras stay.

    The copy keeps its own list of backups.

    Args:
        source: Open gallery.
        target: Open copy; other processes may bring it up to date as well.

    Returns:
        Whether rows were deleted, whose bytes `erasure.finish` is to erase.
    """
    while True:
        before = target.one("SELECT body FROM head")
        with source.transaction():
            difference = _difference(source, target)
            difference.rows = _rows_of(source, difference.people)
        with target.transaction("IMMEDIATE"):
            if target.one("SELECT body FROM head") != before:
                continue  # another process was faster
            return _apply(target, difference)


def undone_erasures(source: SealedRows, target: SealedRows) -> list[int]:
    """Return the numbers of people whose erasure a copy knows and the gallery has forgotten.

    A gallery forgets them where it is set back to an earlier state.
    """
    with source.transaction():
        theirs = {row for (row,) in source.all("SELECT id FROM tombstones")}
        gallery = source.head().gallery
    with target.transaction():
        ours = {row for (row,) in target.all("SELECT id FROM tombstones")}
        return sorted(ours - theirs) if target.head().gallery == gallery else []


def _apply(target: SealedRows, difference: RowDifference) -> bool:
    ours = target.head()
    lost = bool(difference.gone) or _loses(target, difference)
    _take_key(target, difference.key)
    _delete(target, [*difference.gone, *difference.people])
    _insert(target, difference.rows)
    erased = _take_tombstones(target, difference.tombstones)
    (cameras,) = target.one("SELECT count(*) FROM camera_means")
    head = replace(
        difference.head,
        cameras=cameras,
        unfinished=ours.unfinished or lost or erased,
        backups=ours.backups,
        pending_backups=[x.path for x in ours.backups] if erased else ours.pending_backups,
    )
    changed = lost or erased or bool(difference.people)
    if (head.revision, head.gallery) == (ours.revision, ours.gallery) and changed:
        head.revision += 1  # whoever holds templates in memory reads them again
    _write_head(target, head)
    return lost or erased


def _loses(target: SealedRows, difference: RowDifference) -> bool:
    """Return whether a name or a walk of somebody who stays is not there any more."""
    new = {tuple(row[:2]) for row in difference.rows["people"]}
    walks = {row[0] for row in difference.rows["enrolments"]}
    for batch in _batches(difference.people):
        chosen = ", ".join("?" * len(batch))
        names = f"SELECT id, name_digest FROM people WHERE id IN ({chosen})"
        held = f"SELECT id FROM enrolments WHERE person_id IN ({chosen})"
        if not {(row, bytes(name)) for row, name in target.all(names, *batch)} <= new:
            return True
        if not {row for (row,) in target.all(held, *batch)} <= walks:
            return True
    return False


CameraTails = tuple[dict[int, bytes], ...]  # `tails` of the tables of cameras


def camera_tails(rows: SealedRows) -> CameraTails:
    """Return the last bytes of the bodies of all sums of cameras, by table and id."""
    return tuple(tails(rows, table) for table in _CAMERAS)


def take_cameras(
    source: SealedRows, target: SealedRows, unchanged: CameraTails
) -> CameraTails | None:
    """Replace all sums of cameras in a copy by those of a gallery; return what the copy has then.

    Args:
        source: The gallery.
        target: The copy.
        unchanged: What the copy had when it was last looked at; where it has something else by now,
            nothing is replaced, and None is returned.
    """
    with source.transaction():
        theirs = camera_tails(source)
        cameras = {table: source.all(f"SELECT * FROM {table}") for table in _CAMERAS}
    with target.transaction("IMMEDIATE"):
        if camera_tails(target) != unchanged:
            return None
        if theirs == unchanged:
            return theirs
        _take_cameras(target, cameras)
        head = target.head()
        head.cameras = len(cameras["camera_means"])
        _write_head(target, head)
    return theirs


def _difference(source: SealedRows, target: SealedRows) -> RowDifference:
    key = source.one("SELECT body FROM keys")
    theirs, ours = tails(source), tails(target)
    return RowDifference(
        head=source.head(),
        key=None if key is None else bytes(key[0]),
        gone=sorted(ours.keys() - theirs.keys()),
        people=sorted(person for person, tail in theirs.items() if ours.get(person) != tail),
        tombstones=[(row, bytes(body)) for row, body in source.all("SELECT * FROM tombstones")],
    )


def tails(rows: SealedRows, table: str = "people") -> dict[int, bytes]:
    """Return the last bytes of a table's bodies by id."""
    query = f"SELECT id, substr(body, length(body) - 15) FROM {table}"
    return {row: bytes(tail or b"") for row, tail in rows.all(query)}


def _batches(people: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(people), BATCH):
        yield people[start : start + BATCH]


def _rows_of(source: SealedRows, people: list[int]) -> dict[str, list[Any]]:
    """Return all rows of some people by table."""
    rows: dict[str, list[Any]] = {table: [] for table in ("people", "enrolments", *_OF_WALKS)}
    for batch in _batches(people):
        chosen = ", ".join("?" * len(batch))
        walks = f"SELECT id FROM enrolments WHERE person_id IN ({chosen})"
        for table, condition in (
            ("people", f"id IN ({chosen})"),
            ("enrolments", f"person_id IN ({chosen})"),
            *((table, f"enrolment_id IN ({walks})") for table in _OF_WALKS),
        ):
            query = f"SELECT {_COLUMNS[table]} FROM {table} WHERE {condition}"
            rows[table] += source.all(query, *batch)
    return rows


def _delete(target: SealedRows, people: list[int]) -> None:
    """Delete people; their walks and templates go with them."""
    with target.explained():
        target.database.executemany("DELETE FROM people WHERE id = ?", [(x,) for x in people])


def _insert(target: SealedRows, rows: dict[str, list[Any]]) -> None:
    for table in ("people", "enrolments", *_OF_WALKS, *_CAMERAS):
        if rows.get(table):
            marks = ", ".join("?" * len(rows[table][0]))
            with target.explained():
                target.database.executemany(f"INSERT INTO {table} VALUES ({marks})", rows[table])


def _take_key(target: SealedRows, key: bytes | None) -> None:
    """Put the wrapped key of the gallery in the place of the copy's, where it is another."""
    row = target.one("SELECT body FROM keys")
    if (None if row is None else bytes(row[0])) == key:
        return
    with target.explained():
        target.database.execute("DELETE FROM keys")
        if key is not None:
            target.database.execute("INSERT INTO keys VALUES (1, ?)", (key,))
    target.open_seal()


def _take_tombstones(target: SealedRows, tombstones: list[tuple[int, bytes]]) -> bool:
    """Make the copy's tombstones those of the gallery; returns whether there are new ones."""
    present = {row for (row,) in target.all("SELECT id FROM tombstones")}
    with target.explained():
        target.database.execute("DELETE FROM tombstones")
        target.database.executemany("INSERT INTO tombstones VALUES (?, ?)", tombstones)
    return not {row for row, _ in tombstones} <= present


def _take_cameras(target: SealedRows, cameras: dict[str, list[Any]]) -> None:
    with target.explained():
        for table in reversed(_CAMERAS):
            target.database.execute(f"DELETE FROM {table}")
    _insert(target, cameras)


def _write_head(target: SealedRows, head: GalleryHead) -> None:
    body = target.seal.close(to_bytes(head), place("head", 1))
    with target.explained():
        target.database.execute("DELETE FROM head")
        target.database.execute("INSERT INTO head VALUES (1, ?)", (body,))


def clear_head(target: SealedRows) -> None:
    """Make an empty gallery the target of a copy; raises GalleryError where it is not empty."""
    with target.transaction("IMMEDIATE"):
        if target.one("SELECT 1 FROM head") is None:
            return  # left by an interrupted copy
        head = target.head()
        if head.people or head.tombstones or head.cameras:
            raise GalleryError(
                f"'{one_line(target.path)}' is a gallery of {head.people} people already: give an"
                " empty place"
            )
        with target.explained():
            target.database.execute("DELETE FROM head")
