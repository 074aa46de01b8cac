"""Corrections: what users say about visits, remembered and honoured by the next match.

A corrected walk is enrolled as one more walk of the right person, and ruled out for the wrong one:
what is more like it than like that person is not given that name again. No made-up person takes
part, so nobody is ever recognised as one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cstl_edge.errors import GalleryError
from cstl_edge.gallery.match import RuledOut
from cstl_edge.gallery.records import WalkOrigin
from cstl_edge.gallery.sealing import BrokenSeal, place
from cstl_edge.serve.kept_walks import KeptWalk
from cstl_edge.serve.service_data import RefusedError, ServiceData

LEAST_SEEN = 1.0  # windows of a walk from which anything is learned


class Corrections:
    """What users said, and the walks that follow from it."""

    def __init__(self, data: ServiceData) -> None:
        """Read the walks that are ruled out."""
        self._data = data
        self._ruled_out: Sequence[RuledOut] = ()
        self.read()

    def ruled_out(self) -> Sequence[RuledOut]:
        """Return the walks that are not of the person they were taken for."""
        return self._ruled_out

    def read(self) -> None:
        """Read them anew: people were renamed or erased."""
        data, seal = self._data, self._data.gallery.seal
        found = []
        for person, camera, parts, dimensions, embedding, utc in data.store.all(
            "SELECT person, camera, parts, dimensions, embedding, utc FROM refusals"
            " WHERE person IS NOT NULL AND weights_sha256 = ?",
            data.info.weights_sha256,
        ):
            try:
                content = bytes(seal.open(embedding, place("refusals", camera, utc)))
                mean = np.frombuffer(content, "<f2").reshape(parts, dimensions)
            except (BrokenSeal, ValueError):  # the gallery has another key now
                continue
            found.append(RuledOut(person, mean.astype(np.float32), camera))
        self._ruled_out = found

    def add(self, visit: str, person: str | None, user: str, walks: list[KeptWalk]) -> int:
        """Remember that a visit is somebody else's; return the number of the correction.

        Args:
            visit: Id of a visit that is stored.
            person: Who it is, as the gallery writes the name; None for nobody enrolled.
            user: Who says so.
            walks: What is kept of the walk; none where it is not kept.

        Raises:
            GalleryError: The walk cannot be enrolled.
        """
        row = self._data.store.visit(visit)
        if row is None:
            raise RefusedError("not-found", f"there is no visit {visit} (any more)")
        was = row.person if row.answer == "known" and row.person != person else None
        usable = [walk for walk in walks if walk.seen >= LEAST_SEEN]
        enrolled = [
            None if person is None or row.person == person else self._enrol(person, user, walk)
            for walk in usable
        ]
        now, seal = self._data.now_text, self._data.gallery.seal
        with self._data.store.transaction() as db:
            number = int(
                db.execute(
                    "INSERT INTO corrections (utc, visit, person, was, user)"
                    " VALUES (?, ?, ?, ?, ?)",
                    (now, visit, person, row.person, user),
                ).lastrowid
                or 0
            )
            for walk, enrolment in zip(usable, enrolled, strict=True):
                if was is None and enrolment is None:
                    continue
                content = walk.mean.astype("<f2").tobytes() if was is not None else b""
                sealed = seal.close(content, place("refusals", walk.camera, now))
                values = (number, was, person, enrolment, walk.camera, *walk.mean.shape, sealed)
                db.execute(
                    "INSERT INTO refusals (correction, person, owner, enrolled, camera, parts,"
                    " dimensions, embedding, weights_sha256, utc)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (*values, self._data.info.weights_sha256, now),
                )
        self.read()
        return number

    def undo(self, visit: str) -> tuple[str | None, str | None]:
        """Take the newest correction of a visit back; return who it was before, and by whom.

        Raises:
            RefusedError: There is none.
        """
        store = self._data.store
        row = store.one(
            "SELECT id, was FROM corrections WHERE visit = ? AND undone_utc IS NULL"
            " ORDER BY id DESC LIMIT 1",
            visit,
        )
        if row is None:
            raise RefusedError("not-found", f"visit {visit} has no correction to take back")
        number, was = row
        for owner, enrolment in store.all(
            "SELECT owner, enrolled FROM refusals WHERE correction = ? AND enrolled IS NOT NULL",
            number,
        ):
            try:
                self._data.gallery.remove_walk(owner, enrolment)
            except GalleryError:  # removed since, or the only walk that is left of them
                continue
        with store.transaction() as db:
            db.execute("DELETE FROM refusals WHERE correction = ?", (number,))
            db.execute(
                "UPDATE corrections SET undone_utc = ? WHERE id = ?", (self._data.now_text, number)
            )
        before = store.one(
            "SELECT user FROM corrections WHERE visit = ? AND undone_utc IS NULL"
            " ORDER BY id DESC LIMIT 1",
            visit,
        )
        self.read()
        return was, before[0] if before else None

    def rename(self, name: str, new_name: str) -> None:
        """Follow another name of a person, or a merge into somebody."""
        with self._data.store.transaction() as db:
            for table, columns in (
                ("corrections", ("person", "was")),
                ("refusals", ("person", "owner")),
            ):
                for column in columns:
                    db.execute(
                        f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (new_name, name)
                    )
            # what was said of two people who are one now says nothing
            db.execute("UPDATE refusals SET person = NULL WHERE person = owner")
        self.read()

    def _enrol(self, person: str, user: str, walk: KeptWalk) -> int:
        """Enrol a corrected walk; return its number in the gallery."""
        gallery = self._data.gallery
        consent = gallery.show(person).consent
        note = f"correction by {user}, seen {walk.started_utc[:10]}; {consent}"[:1000]
        origin = WalkOrigin(
            camera=walk.camera, view=walk.view, frames_per_second=walk.frames_per_second
        )
        gallery.enroll(person, walk.windows, consent=note, origin=origin, force=True)
        return gallery.walks(person)[-1]
