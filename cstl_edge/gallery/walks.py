"""Single walks of an enrolled person: take one out, or give some back to whom they were of."""

from __future__ import annotations

import secrets
from collections.abc import Collection

from cstl_edge.errors import GalleryError, one_line
from cstl_edge.gallery.people import clean_name, earlier
from cstl_edge.gallery.records import PersonRecord
from cstl_edge.gallery.store import GalleryStore
from cstl_edge.gallery.stored_people import StoredEnrolment, StoredPerson, find_row


def remove_walk(store: GalleryStore, name: str, walk: int) -> int:
    """Delete one walk of a person; returns how many templates it had.

    Args:
        store: Open gallery; `erasure.finish` is to follow.
        name: Name of the person, in any case.
        walk: Number of the walk.

    Raises:
        GalleryError: Nobody has the name, the walk is not theirs, or it is their only one.
    """
    with store.rows.change() as head:
        person = store.existing(name)
        (gone,) = _chosen(person, [walk])
        if len(person.enrolments) == 1:
            raise GalleryError(
                f"this is the only walk of '{one_line(name)}': remove the person, or enroll another"
                " walk first"
            )
        store.rows.database.execute("DELETE FROM enrolments WHERE id = ?", (walk,))
        person.record.enrolments.remove(walk)
        store.write_person(person.id, person.record)
        head.unfinished = True
    return len(gone.record.templates)


def split_walks(
    store: GalleryStore, name: str, walks: Collection[int], new_name: str, expires_utc: str | None
) -> int:
    """Give some walks of a person to a new one: what undoes a merge; returns their templates.

    Args:
        store: Open gallery.
        name: Name of the person who has them, in any case.
        walks: Numbers of the walks; not all of the person's.
        new_name: Name of the new person.
        expires_utc: End of the new person's retention, None without one.

    Raises:
        GalleryError: Nobody has the name, somebody has the new one, walks that are not theirs.
        ConfigError: The new name is not valid.
    """
    new_name = clean_name(new_name)
    with store.rows.change() as head:
        person = store.existing(name)
        given = _chosen(person, walks)
        if len(given) == len(person.enrolments):
            raise GalleryError(f"'{one_line(name)}' has no other walks: rename the person")
        if find_row(store.rows, new_name) is not None:
            raise GalleryError(f"'{one_line(new_name)}' is enrolled already: choose another name")
        number = secrets.randbits(62) + 1
        record = PersonRecord(
            name=new_name,
            created_utc=min(walk.record.created_utc for walk in given),
            expires_utc=expires_utc,
            enrolments=[walk.id for walk in given],
        )
        person.record.enrolments = [n for n in person.record.enrolments if n not in walks]
        store.write_person(number, record)
        store.write_person(person.id, person.record)
        for walk in given:
            store.move_walk(walk, number)
        head.people += 1
        head.next_expiry = earlier(head.next_expiry, expires_utc)
    return sum(len(walk.record.templates) for walk in given)


def set_retention(store: GalleryStore, name: str, expires_utc: str | None) -> None:
    """Set the end of a person's retention.

    Args:
        store: Open gallery.
        name: Name of the person, in any case.
        expires_utc: ISO 8601, None for no end.
    """
    with store.rows.change() as head:
        person = store.existing(name)
        person.record.expires_utc, person.record.seen_expired_utc = expires_utc, None
        store.write_person(person.id, person.record)
        head.next_expiry = earlier(head.next_expiry, expires_utc)


def _chosen(person: StoredPerson, walks: Collection[int]) -> list[StoredEnrolment]:
    given = [walk for walk in person.enrolments if walk.id in walks]
    if not given or len(given) != len(set(walks)):
        raise GalleryError(f"'{one_line(person.record.name)}' has no such walk any more")
    return given
