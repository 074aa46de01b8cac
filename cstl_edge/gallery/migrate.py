"""Bring the file of an earlier version to the present one, whole or not at all.

A step runs in one transaction of SQLite, `user_version` included: a process that is killed at any
moment leaves the file as it was or as it is to be.
"""

from __future__ import annotations

import secrets
import sqlite3
import zlib
from collections.abc import Callable

from cstl_edge.gallery import schema
from cstl_edge.gallery.looks import look_key
from cstl_edge.gallery.people import name_key
from cstl_edge.gallery.records import EnrolmentRecord, GalleryHead, PersonRecord, to_bytes
from cstl_edge.gallery.sealing import DIGEST_BYTES, PlainSeal, place

_SEAL = PlainSeal()  # earlier versions knew no encryption
_OLD_TABLES = ("templates", "enrolments", "people")
_NEVER_VALID = bytes(DIGEST_BYTES)  # in place of a checksum: the row was damaged before


def migrate(database: sqlite3.Connection) -> None:
    """Take every step from the file's version to the present one; raises sqlite3.Error."""
    database.execute("PRAGMA foreign_keys = OFF")  # renamed tables keep their references
    database.execute("BEGIN IMMEDIATE")
    try:
        for version in range(_version(database), schema.VERSION):
            STEPS[version](database)
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise
    finally:
        database.execute("PRAGMA foreign_keys = ON")


def _from_1_to_2(database: sqlite3.Connection) -> None:
    """Seal all rows; names that do not fit their keys are damage that version 1 did not see."""
    for index in ("enrolments_of_person", "templates_of_enrolment"):
        database.execute(f"DROP INDEX {index}")
    for table in _OLD_TABLES:
        database.execute(f"ALTER TABLE {table} RENAME TO old_{table}")
    schema.create_tables(database)
    people = database.execute(
        "SELECT id, name, name_key, created_utc, expires_utc, seen_expired_utc"
        " FROM old_people ORDER BY id"
    ).fetchall()
    for old_id, name, key, created, expires, seen in people:
        if name_key(name) != key:
            raise sqlite3.DatabaseError(f"malformed (a name is {name!r}, its key {key!r})")
        person = secrets.randbits(62) + 1
        record = PersonRecord(
            name=name, created_utc=created, expires_utc=expires, seen_expired_utc=seen
        )
        database.execute(
            "INSERT INTO people VALUES (?, ?, ?, x'')",
            (person, _SEAL.digest(key), _SEAL.digest(look_key(name))),
        )
        record.enrolments = _seal_enrolments(database, old_id, person)
        body = _SEAL.close(to_bytes(record), place("people", person))
        database.execute("UPDATE people SET body = ? WHERE id = ?", (body, person))
    head = GalleryHead(
        gallery=secrets.token_hex(8),
        people=len(people),
        revision=1,
        next_expiry=min((person[4] for person in people if person[4]), default=None),
    )
    body = _SEAL.close(to_bytes(head), place("head", 1))
    database.execute("INSERT INTO head VALUES (1, ?)", (body,))
    for table in _OLD_TABLES:
        database.execute(f"DROP TABLE old_{table}")


def _seal_enrolments(database: sqlite3.Connection, old_person: int, person: int) -> list[int]:
    """Carry the enrolments of a person over; returns their ids."""
    rows = database.execute(
        "SELECT id, created_utc, consent, weights_sha256, parts, dimensions"
        " FROM old_enrolments WHERE person_id = ? ORDER BY id",
        (old_person,),
    ).fetchall()
    for enrolment, created, consent, weights_sha256, parts, dimensions in rows:
        record = EnrolmentRecord(
            created_utc=created,
            consent=consent,
            weights_sha256=weights_sha256,
            parts=parts,
            dimensions=dimensions,
        )
        templates = database.execute(
            "SELECT id, crc32, vector FROM old_templates WHERE enrolment_id = ? ORDER BY id",
            (enrolment,),
        ).fetchall()
        record.templates = [template for template, _, _ in templates]
        body = _SEAL.close(to_bytes(record), place("enrolments", enrolment, person))
        database.execute("INSERT INTO enrolments VALUES (?, ?, ?)", (enrolment, person, body))
        database.executemany(
            "INSERT INTO templates VALUES (?, ?, ?)",
            (
                (template, enrolment, _sealed_vector(template, enrolment, person, record, *stored))
                for template, *stored in templates
            ),
        )
    return [row[0] for row in rows]


def _sealed_vector(
    template: int, enrolment: int, person: int, record: EnrolmentRecord, crc32: int, vector: bytes
) -> bytes:
    if zlib.crc32(vector) != crc32:
        return vector + _NEVER_VALID
    where = place("templates", template, enrolment, person, record.weights_sha256)
    return _SEAL.close(vector, where)


def _version(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])


STEPS: dict[int, Callable[[sqlite3.Connection], None]] = {1: _from_1_to_2}
"""By the version that a step begins with."""
