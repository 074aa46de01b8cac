"""Read and write a gallery file: people, their enrolments, and the templates of these.

A template belongs to an enrolment, which records the model that made it and the consent given.
Letters: k templates at once, n templates in all, p parts, d embedding dimensions.
"""

from __future__ import annotations

import contextlib
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cstl_edge.errors import GalleryError
from cstl_edge.gallery import database
from cstl_edge.gallery.match import TemplateIndex
from cstl_edge.gallery.people import (
    EnrolledPerson,
    Enrolment,
    clean_consent,
    clean_name,
    expiry,
    name_key,
    utc_timestamp,
)
from cstl_edge.gallery.templates import ModelId, check_same_model, read_vectors

SECOND_LOOK = timedelta(hours=24)  # between the two purges that must both find a person expired

_TEMPLATES = (  # CROSS JOIN keeps this order, so that SQLite need not sort 160 MB of vectors
    "FROM people CROSS JOIN enrolments ON person_id = people.id"
    " CROSS JOIN templates ON enrolment_id = enrolments.id"
    " WHERE expires_utc IS NULL OR expires_utc > ?"
)


@dataclass(frozen=True)
class Snapshot:
    """All templates of people whose retention has not ended."""

    index: TemplateIndex
    model_id: ModelId | None  # None when nobody is enrolled
    version: int
    read_utc: str
    valid_until: str | None  # UTC, when the next retention ends

    def is_current(self, version: int, now: str) -> bool:
        """Return whether neither the file's version nor somebody's retention has changed since."""
        in_time = self.valid_until is None or now < self.valid_until
        return self.version == version and self.read_utc <= now and in_time


class GalleryStore:
    """One open gallery file. Not thread-safe: the owner holds a lock."""

    def __init__(self, path: Path, *, create: bool, clock: Callable[[], datetime]) -> None:
        """Open the file as `database.connect` does; `clock` gives the time in UTC."""
        self.path, self.clock = path, clock
        self._database = database.connect(path, create=create)

    def close(self) -> None:
        """Close the file; the last process to do so folds the log into it."""
        with database.explained_errors(self.path):
            self._database.close()

    def version(self) -> int:
        """Return a number that changes when another connection has changed the gallery."""
        return int(self._fetch_one("PRAGMA data_version")[0])

    def model_id(self) -> ModelId | None:
        """Return the model that made the templates, None when there are none."""
        row = self._fetch_one("SELECT weights_sha256, parts, dimensions FROM enrolments LIMIT 1")
        return ModelId(*row) if row else None

    def count(self) -> int:
        """Return the number of templates, those of expired people included."""
        return int(self._fetch_one("SELECT count(*) FROM templates")[0])

    def add(
        self,
        name: str,
        vectors: npt.NDArray[np.float16],
        weights_sha256: str,
        *,
        consent: str,
        retention_days: float | None,
    ) -> None:
        """Store templates, all or nothing: the second half of `Gallery.enroll`.

        Args:
            name: Name of the person; a name in use adds to that person.
            vectors: [k, p, d] templates.
            weights_sha256: Hash of the weights of the model that made them.
            consent: Note of what the person agreed to.
            retention_days: Days from now to the end of the retention, None to keep the earlier.
        """
        name, consent, now = clean_name(name), clean_consent(consent), self.clock()
        expires = expiry(retention_days, now)
        model_id = ModelId(weights_sha256, *vectors.shape[1:])
        blobs = [vector.astype("<f2").tobytes() for vector in vectors]
        with self._transaction() as db:
            check_same_model(model_id, self.model_id(), self.path)
            person = self._person_row(name, expires, utc_timestamp(now))
            enrolment = db.execute(
                "INSERT INTO enrolments"
                " (person_id, created_utc, consent, weights_sha256, parts, dimensions)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (person, utc_timestamp(now), consent, *model_id),
            ).lastrowid
            db.executemany(
                "INSERT INTO templates (enrolment_id, crc32, vector) VALUES (?, ?, ?)",
                [(enrolment, zlib.crc32(blob), blob) for blob in blobs],
            )

    def people(self, name: str | None = None) -> tuple[EnrolledPerson, ...]:
        """Return everybody in order of name, or only who has this name (in any case)."""
        with database.explained_errors(self.path):
            rows = self._database.execute(
                "SELECT name, people.created_utc, expires_utc, weights_sha256,"
                " enrolments.created_utc, consent, count(templates.id) FROM people"
                " JOIN enrolments ON person_id = people.id"
                " JOIN templates ON enrolment_id = enrolments.id"
                " WHERE :key IS NULL OR name_key = :key"
                " GROUP BY enrolments.id ORDER BY name_key, enrolments.id",
                {"key": None if name is None else name_key(clean_name(name))},
            ).fetchall()
        now = utc_timestamp(self.clock())
        people = groupby(rows, key=itemgetter(0))  # one row for each enrolment
        return tuple(_enrolled_person([*visits], now) for _, visits in people)

    def remove(self, name: str) -> None:
        """Erase the person of this name (in any case) without residue."""
        with self._transaction() as db:
            db.execute("DELETE FROM people WHERE name_key = ?", (name_key(clean_name(name)),))
        database.truncate_log(self._database, self.path)

    def purge(self) -> tuple[str, ...]:
        """Erase people found expired by two purges at least SECOND_LOOK apart; return their names.

        The first notes when it found somebody expired. One that finds the retention running again,
        or the note in the future, removes the note: the clock had jumped ahead and was set right.
        """
        now = self.clock()
        with self._transaction() as db:
            db.execute(
                "UPDATE people SET seen_expired_utc = NULL"
                " WHERE expires_utc IS NULL OR expires_utc > :now OR seen_expired_utc > :now",
                {"now": utc_timestamp(now)},
            )
            names = db.execute(
                "SELECT name FROM people WHERE seen_expired_utc <= ? ORDER BY name_key",
                (utc_timestamp(now - SECOND_LOOK),),
            ).fetchall()
            db.executemany("DELETE FROM people WHERE name = ?", names)
            db.execute(
                "UPDATE people SET seen_expired_utc = :now"
                " WHERE expires_utc <= :now AND seen_expired_utc IS NULL",
                {"now": utc_timestamp(now)},
            )
        database.truncate_log(self._database, self.path)
        return tuple(name for (name,) in names)

    def load(self) -> Snapshot:
        """Read all templates of people whose retention has not ended, in one snapshot."""
        version = self.version()  # a change after this is read twice
        now = utc_timestamp(self.clock())
        with self._transaction("DEFERRED") as db:
            model_id = self.model_id()
            people = db.execute(
                f"SELECT name, expires_utc, count(*) {_TEMPLATES}"
                " GROUP BY people.id ORDER BY people.id",
                (now,),
            ).fetchall()
            counts = np.array([count for _, _, count in people], dtype=np.intp)
            rows = db.execute(
                f"SELECT name, crc32, vector {_TEMPLATES}"
                " ORDER BY people.id, enrolments.id, templates.id",
                (now,),
            )
            vectors = read_vectors(rows, int(counts.sum()), model_id)
        names = tuple(name for name, _, _ in people)
        index = TemplateIndex(names, np.cumsum(counts) - counts, vectors)
        ends = min((expires for _, expires, _ in people if expires), default=None)
        return Snapshot(index, model_id, version, read_utc=now, valid_until=ends)

    def _person_row(self, name: str, expires: str | None, now: str) -> int:
        """Return the row id of the person to add to, inserted when the name is new."""
        key = name_key(name)
        row = self._fetch_one("SELECT id, name, expires_utc FROM people WHERE name_key = ?", key)
        if row is None:
            new = self._database.execute(
                "INSERT INTO people (name, name_key, created_utc, expires_utc) VALUES (?, ?, ?, ?)",
                (name, key, now, expires),
            )
            return int(new.lastrowid or 0)
        if row[1] != name:
            raise GalleryError(
                f"'{row[1]}' is enrolled already: write the name so to add to that person,"
                f" or choose one that differs from '{name}' by more than case"
            )
        if expires is not None:
            self._database.execute(
                "UPDATE people SET expires_utc = ?, seen_expired_utc = NULL WHERE id = ?",
                (expires, row[0]),
            )
        elif row[2] is not None and row[2] <= now:
            raise GalleryError(
                f"the retention of '{name}' ended at {row[2]}: give a new one (days), or remove"
                " the person"
            )
        return int(row[0])

    def _fetch_one(self, query: str, *values: str) -> Any:
        with database.explained_errors(self.path):
            return self._database.execute(query, values).fetchone()

    @contextlib.contextmanager
    def _transaction(self, mode: str = "IMMEDIATE") -> Iterator[sqlite3.Connection]:
        with database.explained_errors(self.path), database.transaction(self._database, mode) as db:
            yield db


def _enrolled_person(visits: list[tuple[Any, ...]], now: str) -> EnrolledPerson:
    name, created, expires, weights_sha256 = visits[0][:4]
    enrolments = tuple(Enrolment(*visit[4:7]) for visit in visits)
    return EnrolledPerson(
        name=name,
        consent=enrolments[-1].consent,
        created_utc=created,
        expires_utc=expires,
        expired=expires is not None and expires <= now,
        templates=sum(enrolment.templates for enrolment in enrolments),
        weights_sha256=weights_sha256,
        enrolments=enrolments,
    )
