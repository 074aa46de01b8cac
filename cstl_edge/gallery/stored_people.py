"""Read people and their enrolments, and notice when one of them is damaged or missing."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from cstl_edge.gallery.looks import look_key
from cstl_edge.gallery.people import clean_name, name_key
from cstl_edge.gallery.records import EnrolmentRecord, GalleryHead, PersonRecord
from cstl_edge.gallery.sealed_rows import SealedRows
from cstl_edge.gallery.sealing import place
from cstl_edge.gallery.templates import ModelId

PERSON_ROWS = "SELECT id, name_digest, look_digest, body FROM people"
_ENROLMENT = "SELECT id, person_id, body FROM enrolments"


@dataclass(frozen=True)
class StoredEnrolment:
    """An enrolment as it lies in the file."""

    id: int
    person: int
    record: EnrolmentRecord

    @property
    def model_id(self) -> ModelId:
        """The model that made its templates."""
        return ModelId(self.record.weights_sha256, self.record.parts, self.record.dimensions)

    @property
    def place(self) -> bytes:
        """Place of its row."""
        return place("enrolments", self.id, self.person)

    def place_of(self, table: str, row: int) -> bytes:
        """Return the place of one of its templates or silhouettes."""
        return place(table, row, self.id, self.person, self.record.weights_sha256)


@dataclass(frozen=True)
class StoredPerson:
    """A person as they lie in the file."""

    id: int
    record: PersonRecord
    enrolments: tuple[StoredEnrolment, ...]

    @property
    def templates(self) -> int:
        """How many there are."""
        return sum(len(enrolment.record.templates) for enrolment in self.enrolments)


def read_people(rows: SealedRows, head: GalleryHead) -> list[StoredPerson]:
    """Return everybody in the order of their first enrolment; call it inside a transaction.

    Raises GalleryError where a row is damaged, belongs to somebody else, or is missing.
    """
    erased = tombstones(rows, head) if head.unfinished else frozenset()
    people = [row for row in rows.all(PERSON_ROWS) if row[0] not in erased]
    if len(people) != head.people:
        raise rows.damaged(f"the list of people ({len(people)} of {head.people})")
    enrolments: dict[int, list[Any]] = defaultdict(list)
    for row in rows.all(f"{_ENROLMENT} ORDER BY id"):
        enrolments[row[1]].append(row)
    read = [_person(rows, row, enrolments[row[0]]) for row in people]
    return sorted(read, key=lambda person: min(person.record.enrolments))


def find_person(rows: SealedRows, name: str) -> StoredPerson | None:
    """Return the person of this name (in any case), None without one (GalleryError)."""
    row = find_row(rows, name)
    return None if row is None else read_person(rows, row)


def find_row(rows: SealedRows, name: str) -> Any:
    """Return the row of the person of this name, damaged or not, None without one."""
    digest = rows.seal.digest(name_key(clean_name(name)))
    row = rows.one(f"{PERSON_ROWS} WHERE name_digest = ?", digest)
    return None if row is None or is_tombstone(rows, row[0]) else row


def read_person(rows: SealedRows, row: Any) -> StoredPerson:
    """Return the person of a row of `people` with their enrolments (GalleryError)."""
    return _person(rows, row, rows.all(f"{_ENROLMENT} WHERE person_id = ? ORDER BY id", row[0]))


def names_that_look_like(rows: SealedRows, name: str) -> list[str]:
    """Return the names of other people that are easily taken for this one."""
    digest, key = rows.seal.digest(look_key(name)), name_key(name)
    like = rows.all(f"{PERSON_ROWS} WHERE look_digest = ?", digest)
    records = [read_record(rows, row) for row in like if not is_tombstone(rows, row[0])]
    return [record.name for record in records if name_key(record.name) != key]


def read_record(rows: SealedRows, row: Any) -> PersonRecord:
    """Return the record of a row of `people`, compared with the digests it is found by."""
    what = f"the record of a person (number {row[0]})"
    record = rows.record(PersonRecord, row, what, place("people", row[0]))
    digests = rows.seal.digest(name_key(record.name)), rows.seal.digest(look_key(record.name))
    if digests != (row[1], row[2]):
        raise rows.damaged(f"the index of '{record.name}'")
    return record


def tombstones(rows: SealedRows, head: GalleryHead) -> frozenset[int]:
    """Return the numbers of people who were erased (GalleryError where one is missing)."""
    erased = frozenset(row for (row,) in rows.all("SELECT id FROM tombstones"))
    if len(erased) != head.tombstones:
        raise rows.damaged(f"the list of erased people ({len(erased)} of {head.tombstones})")
    return erased


def is_tombstone(rows: SealedRows, person: int) -> bool:
    """Return whether a person was erased, and only rows of theirs are left."""
    return rows.one("SELECT 1 FROM tombstones WHERE id = ?", person) is not None


def _person(rows: SealedRows, row: Any, enrolment_rows: list[Any]) -> StoredPerson:
    record = read_record(rows, row)
    what = f"an enrolment of '{record.name}'"
    enrolments = []
    for enrolment in enrolment_rows:
        where = place("enrolments", enrolment[0], row[0])
        body = rows.record(EnrolmentRecord, enrolment, what, where)
        enrolments.append(StoredEnrolment(enrolment[0], row[0], body))
    if [enrolment.id for enrolment in enrolments] != sorted(record.enrolments):
        raise rows.damaged(what)
    return StoredPerson(row[0], record, tuple(enrolments))
