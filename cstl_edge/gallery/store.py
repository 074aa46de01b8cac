"""Write and list people: enrolment, listing, renaming, merging.

A template belongs to an enrolment, which records the model that made it, the consent given and
where the walk was seen. Letters: k templates at once, p parts, d embedding dimensions.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cstl_edge.arrays import Silhouettes
from cstl_edge.errors import GalleryError, one_line
from cstl_edge.gallery import pictures
from cstl_edge.gallery.loading import Snapshot, load
from cstl_edge.gallery.looks import look_key
from cstl_edge.gallery.people import (
    EnrolledPerson,
    Enrolment,
    clean_consent,
    clean_name,
    earlier,
    expiry,
    name_key,
    utc_timestamp,
)
from cstl_edge.gallery.records import EnrolmentRecord, PersonRecord, WalkOrigin, to_bytes
from cstl_edge.gallery.sealed_rows import SealedRows
from cstl_edge.gallery.sealing import place
from cstl_edge.gallery.stored_people import (
    StoredEnrolment,
    StoredPerson,
    find_person,
    find_row,
    names_that_look_like,
    read_people,
)
from cstl_edge.gallery.templates import ModelId, check_same_model

GAP = 2**20  # between numbers of walks: that of an erased one is not given again, as far as chance
_ANY_ENROLMENT = "SELECT id, person_id, body FROM enrolments LIMIT 1"


@dataclass(frozen=True, kw_only=True)
class NewWalk:
    """A walk to enroll."""

    vectors: npt.NDArray[np.float16]  # [k, p, d]
    weights_sha256: str  # of the model
    consent: str
    retention_days: float | None  # from now; None: as before
    origin: WalkOrigin
    silhouettes: Silhouettes | None = None  # [s, h, w], to keep

    @property
    def model_id(self) -> ModelId:
        """The model of the templates."""
        return ModelId(self.weights_sha256, *self.vectors.shape[1:])

    def record(self, now: str) -> EnrolmentRecord:
        """Return the record to store (ConfigError: a consent note that is not valid)."""
        return EnrolmentRecord(
            created_utc=now,
            consent=clean_consent(self.consent),
            **self.model_id._asdict(),
            **asdict(self.origin),
        )


class GalleryStore:
    """The people of one open gallery file. Not thread-safe: the owner holds a lock."""

    def __init__(self, rows: SealedRows, clock: Callable[[], datetime]) -> None:
        """Use an open file; `clock` gives the time in UTC."""
        self.rows, self.clock = rows, clock

    @property
    def path(self) -> Path | str:
        """Path of the file."""
        return self.rows.path

    def now(self) -> str:
        """Return the present moment as the file writes it."""
        return utc_timestamp(self.clock())

    def load(self) -> Snapshot:
        """Read all templates of people whose retention has not ended, in one state."""
        return load(self.rows, self.now())

    def model_id(self) -> ModelId | None:
        """Return the model that made the templates, None when there are none."""
        row = self.rows.one(_ANY_ENROLMENT)
        if row is None:
            return None
        where = place("enrolments", row[0], row[1])
        record = self.rows.record(EnrolmentRecord, row, "an enrolment", where)
        return StoredEnrolment(row[0], row[1], record).model_id

    def count(self) -> int:
        """Return the number of templates, those of expired people included."""
        return int(self.rows.one("SELECT count(*) FROM templates")[0])

    def add(self, name: str, walk: NewWalk, *, force: bool) -> None:
        """Store the templates of a walk, all or nothing: the second half of `Gallery.enroll`.

        Args:
            name: Name of the person; a name in use adds to that person.
            walk: What is stored.
            force: Whether a name that looks like another one is taken.
        """
        name, now = clean_name(name), self.clock()
        expires = expiry(walk.retention_days, now)
        record = walk.record(utc_timestamp(now))
        with self.rows.change() as head:
            check_same_model(walk.model_id, self.model_id(), self.path)
            stored = find_person(self.rows, name)
            if stored is None:
                if not force:
                    self._refuse_twin(name)
                person = secrets.randbits(62) + 1
                of_person = PersonRecord(name=name, created_utc=utc_timestamp(now))
                head.people += 1
            else:
                person, of_person = stored.id, stored.record
            _renew(of_person, name, expires, utc_timestamp(now))
            head.next_expiry = earlier(head.next_expiry, of_person.expires_utc)
            enrolment = StoredEnrolment(self._next_id("enrolments", GAP), person, record)
            first = self._next_id("templates")
            record.templates = [*range(first, first + len(walk.vectors))]
            if walk.silhouettes is not None:
                record.silhouettes = [self._next_id("silhouettes")]
            of_person.enrolments.append(enrolment.id)
            self.write_person(person, of_person)
            self._insert_walk(enrolment, walk)

    def people(self, name: str | None = None) -> tuple[EnrolledPerson, ...]:
        """Return everybody in order of name, or only who has this name (in any case)."""
        with self.rows.transaction():
            if name is None:
                people = read_people(self.rows, self.rows.head())
            else:
                person = find_person(self.rows, name)
                people = [person] if person else []
        people.sort(key=lambda person: name_key(person.record.name))
        now = self.now()
        return tuple(_enrolled_person(person, now) for person in people)

    def rename(self, name: str, new_name: str, *, force: bool = False) -> str:
        """Give a person another name; returns it as it is stored.

        Args:
            name: Present name, in any case.
            new_name: Name from now on.
            force: Whether a name that looks like another one is taken.
        """
        new_name = clean_name(new_name)
        with self.rows.change() as head:
            person = self.existing(name)
            head.unfinished = True  # the former name is to leave no trace
            if name_key(new_name) != name_key(person.record.name):
                if find_row(self.rows, new_name) is not None:
                    raise GalleryError(
                        f"'{one_line(new_name)}' is enrolled already: choose another name, or merge"
                        f" the two (gallery merge)"
                    )
                if not force:
                    self._refuse_twin(new_name, except_for=person.record.name)
            person.record.name = new_name
            self.write_person(person.id, person.record)
        return new_name

    def merge(self, into: str, other: str) -> int:
        """Give the enrolments of `other` to `into`; returns how many templates moved.

        The earlier end of both retentions holds from then on.
        """
        with self.rows.change() as head:
            keeper, giver = self.existing(into), self.existing(other)
            if keeper.id == giver.id:
                raise GalleryError(f"'{one_line(into)}' and '{one_line(other)}' are one person")
            keeper.record.enrolments += giver.record.enrolments
            keeper.record.expires_utc = earlier(keeper.record.expires_utc, giver.record.expires_utc)
            keeper.record.created_utc = min(keeper.record.created_utc, giver.record.created_utc)
            for walk in giver.enrolments:
                self.move_walk(walk, keeper.id)
            self.write_person(keeper.id, keeper.record)
            self.rows.database.execute("DELETE FROM people WHERE id = ?", (giver.id,))
            head.people -= 1
            head.unfinished = True  # the name of the other is to leave no trace
        return giver.templates

    def existing(self, name: str) -> StoredPerson:
        """Return a person; raises GalleryError when nobody has this name."""
        person = find_person(self.rows, name)
        if person is None:
            raise nobody(name)
        return person

    def write_person(self, person: int, record: PersonRecord) -> None:
        """Insert or replace the row of a person."""
        body = self.rows.seal.close(to_bytes(record), place("people", person))
        digest = self.rows.seal.digest
        self.rows.database.execute(
            "INSERT INTO people VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
            " name_digest = excluded.name_digest, look_digest = excluded.look_digest,"
            " body = excluded.body",
            (person, digest(name_key(record.name)), digest(look_key(record.name)), body),
        )

    def _insert_walk(self, walk: StoredEnrolment, new: NewWalk) -> None:
        execute = self.rows.database.execute
        body = self.rows.seal.close(to_bytes(walk.record), walk.place)
        execute("INSERT INTO enrolments VALUES (?, ?, ?)", (walk.id, walk.person, body))

        def insert(table: str, row: int, content: bytes) -> None:
            sealed = self.rows.seal.close(content, walk.place_of(table, row))
            execute(f"INSERT INTO {table} VALUES (?, ?, ?)", (row, walk.id, sealed))

        for row, vector in zip(walk.record.templates, new.vectors, strict=True):
            insert("templates", row, vector.astype("<f2").tobytes())
        for row in walk.record.silhouettes:
            assert new.silhouettes is not None
            insert("silhouettes", row, pictures.pack(new.silhouettes))

    def move_walk(self, walk: StoredEnrolment, person: int) -> None:
        """Seal an enrolment and all that hangs on it for another person."""
        moved = StoredEnrolment(walk.id, person, walk.record)
        for table in ("templates", "silhouettes"):
            query = f"SELECT id, body FROM {table} WHERE enrolment_id = ? ORDER BY id"
            for row, body in self.rows.all(query, walk.id):
                content = self.rows.content(body, walk.place_of(table, row), "a template to move")
                self.rows.update(table, row, bytes(content), moved.place_of(table, row))
        body = self.rows.seal.close(to_bytes(walk.record), moved.place)
        self.rows.database.execute(
            "UPDATE enrolments SET person_id = ?, body = ? WHERE id = ?", (person, body, walk.id)
        )

    def _refuse_twin(self, name: str, except_for: str | None = None) -> None:
        """Raise GalleryError where another person's name is easily taken for this one."""
        like = [other for other in names_that_look_like(self.rows, name) if other != except_for]
        if like:
            raise GalleryError(
                f"'{one_line(name)}' looks like '{one_line(like[0])}', who is enrolled: choose"
                " another name, or take it all the same (--force)"
            )

    def _next_id(self, table: str, gap: int = 1) -> int:
        """Return a number above all others of a table, up to `gap` above."""
        (last,) = self.rows.one(f"SELECT coalesce(max(id), 0) FROM {table}")
        return int(last) + 1 + secrets.randbelow(gap)


def nobody(name: str) -> GalleryError:
    """Return the error for a name that is not enrolled."""
    shown = one_line(name)
    return GalleryError(f"nobody is enrolled as '{shown}': gallery list shows who is")


def _renew(record: PersonRecord, name: str, expires: str | None, now: str) -> None:
    """Check the spelling of a name in use and set the retention anew (GalleryError)."""
    if record.name != name:
        raise GalleryError(
            f"'{record.name}' is enrolled already: write the name so to add to that person,"
            f" or choose one that differs from '{name}' by more than case"
        )
    if expires is not None:
        record.expires_utc, record.seen_expired_utc = expires, None
    elif record.expires_utc is not None and record.expires_utc <= now:
        raise GalleryError(
            f"the retention of '{name}' ended at {record.expires_utc}: give a new one (days), or"
            " remove the person"
        )


def _enrolled_person(person: StoredPerson, now: str) -> EnrolledPerson:
    record: Any = person.record
    enrolments = tuple(
        Enrolment(
            created_utc=walk.record.created_utc,
            consent=walk.record.consent,
            templates=len(walk.record.templates),
            origin=walk.record.origin,
        )
        for walk in person.enrolments
    )
    return EnrolledPerson(
        name=record.name,
        consent=enrolments[-1].consent,
        created_utc=record.created_utc,
        expires_utc=record.expires_utc,
        expired=record.expires_utc is not None and record.expires_utc <= now,
        templates=person.templates,
        weights_sha256=person.enrolments[-1].record.weights_sha256,
        enrolments=enrolments,
    )
