"""Take what is damaged out of a gallery, so that the rest can be used: the last resort."""

from __future__ import annotations

import secrets
from typing import Any

from cstl_edge.errors import GalleryError, one_line
from cstl_edge.gallery.camera_means import CameraMeans
from cstl_edge.gallery.pictures import read_silhouettes
from cstl_edge.gallery.records import GalleryHead, to_bytes
from cstl_edge.gallery.sealed_rows import SealedRows
from cstl_edge.gallery.sealing import place
from cstl_edge.gallery.stored_people import PERSON_ROWS, is_tombstone, read_person


def repair(rows: SealedRows, means: CameraMeans) -> list[str]:
    """Delete people and sums of cameras with damaged rows, and count the rest anew.

    A person who is deleted here may come back by a restore. `erasure.finish` is to follow.

    Args:
        rows: Open file whose pages are whole.
        means: Sums of its cameras.

    Returns:
        What was done, in sentences.
    """
    done = []
    with rows.transaction("IMMEDIATE"):
        try:
            head = rows.head()
        except GalleryError:
            head = GalleryHead(gallery=secrets.token_hex(8))
            done.append("the head was made anew: backups that were made before are not known")
        people = [row for row in rows.all(PERSON_ROWS) if not is_tombstone(rows, row[0])]
        lost = head.people - len(people)
        for row in people:
            fault = _fault_of_person(rows, row)
            if fault:
                rows.database.execute("DELETE FROM people WHERE id = ?", (row[0],))
                done.append(f"deleted a person: {fault}")
        for row in rows.all("SELECT id, camera_digest, body FROM camera_means"):
            if means.is_damaged(row):
                rows.database.execute("DELETE FROM camera_means WHERE id = ?", (row[0],))
                done.append("deleted the sums of a camera, which learns them anew")
        if lost > 0 and not done:
            done.append(f"{lost} people are missing")
        for name, table in (("people", "people"), ("cameras", "camera_means")):
            setattr(head, name, int(rows.one(f"SELECT count(*) FROM {table}")[0]))
        head.tombstones = int(rows.one("SELECT count(*) FROM tombstones")[0])
        head.people -= sum(is_tombstone(rows, row) for (row,) in rows.all("SELECT id FROM people"))
        head.revision += 1
        head.unfinished = True
        body = rows.seal.close(to_bytes(head), place("head", 1))
        rows.database.execute("DELETE FROM head")
        rows.database.execute("INSERT INTO head VALUES (1, ?)", (body,))
    return done


def _fault_of_person(rows: SealedRows, row: Any) -> str | None:
    """Return what of a person is damaged, None where nothing is."""
    try:
        person = read_person(rows, row)
        for walk in person.enrolments:
            stored = dict(
                rows.all("SELECT id, body FROM templates WHERE enrolment_id = ?", walk.id)
            )
            what = f"a template of '{person.record.name}'"
            if sorted(stored) != sorted(walk.record.templates):
                raise rows.damaged(what)
            for template, body in stored.items():
                rows.content(body, walk.place_of("templates", template), what)
            read_silhouettes(rows, walk)
    except GalleryError as err:
        return one_line(err)
    return None
