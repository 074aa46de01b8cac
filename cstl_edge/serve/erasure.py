"""Erase people and unknowns from everything the service keeps, and finish what must wait.

Visits with their events, walks, pictures and corrections go; a name in other rows (a runner-up, the
audit log, a merge) is taken out. Then the file is written anew and its log emptied. What cannot be
finished now, because somebody reads or the disk is full, is noted in the store and tried again.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from cstl_edge.errors import CstlEdgeError, GalleryError
from cstl_edge.gallery.people import name_key
from cstl_edge.serve.enrolled import rewrite_audit, rewrite_events
from cstl_edge.serve.service_data import ServiceData

ERASED = "(erased)"  # in the audit log, in place of a name

log = logging.getLogger(__name__)


class Erasures:
    """Erases, and remembers what is left to do."""

    def __init__(self, data: ServiceData) -> None:
        """Finish what the last run left."""
        self._data = data
        if self.unfinished:
            self.finish()

    @property
    def unfinished(self) -> list[str]:
        """What of an erasure is left to do, in sentences; empty when not a byte is left."""
        (left,) = self._data.store.one("SELECT unfinished FROM head")
        return [*(json.loads(left) if left else []), *self._data.gallery.unfinished]

    def person(self, name: str) -> dict[str, int]:
        """Erase a person from gallery and store; return what was erased.

        name: as the gallery writes it
        """
        templates = self._data.gallery.remove(name)
        erased = self._data.gallery.changes.erased
        self._data.store.write("UPDATE head SET erased = ?", erased)
        return {"templates": templates, **self.traces_of([name])}

    def traces_of(self, names: Sequence[str]) -> dict[str, int]:
        """Erase what the store holds about people who are gone from the gallery."""
        names = self._with_merged(names)
        counts = {"visits": 0, "events": 0, "pictures": 0}
        for name in names:
            visits = [row.id for row in self._data.store.visits("person = ?", name)]
            for key, count in self.visits(visits, finish=False).items():
                counts[key] += count
            with self._data.store.transaction() as db:
                counts["events"] += db.execute(
                    "DELETE FROM events WHERE person = ?", (name,)
                ).rowcount
                self._take_out(db, name)
        self.finish()
        return counts

    def visits(self, visits: Iterable[str], *, finish: bool = True) -> dict[str, int]:
        """Erase visits with all that hangs on them; return what was erased.

        Args:
            visits: Their ids.
            finish: Whether the file is written anew at once.
        """
        counts = {"visits": 0, "events": 0, "pictures": 0}
        for visit in list(visits):
            rows = self._data.media.rows("visit = ?", visit)
            self._data.media.remove(rows)
            with self._data.store.transaction() as db:
                counts["events"] += db.execute(
                    "DELETE FROM events WHERE visit = ?", (visit,)
                ).rowcount
                db.execute(
                    "DELETE FROM refusals WHERE correction IN"
                    " (SELECT id FROM corrections WHERE visit = ?)",
                    (visit,),
                )
                db.execute("DELETE FROM visits WHERE id = ?", (visit,))
                self._note(db, ["the file still has to be written anew"])
            self._data.recent.pop(visit, None)
            counts["visits"] += 1
            counts["pictures"] += len(rows)
        if finish:
            self.finish()
        return counts

    def finish(self) -> list[str]:
        """Write the file anew and empty its log; return what is left to do."""
        left = []
        store = self._data.store
        try:
            left += [f"{name} cannot be deleted" for name in self._data.media.sweep()]
        except CstlEdgeError as err:
            left.append(str(err))
        try:
            store.rewrite()
        except CstlEdgeError as err:
            left.append(f"there is no room to write the file anew ({err.message})")
        if not store.empty_log():
            left.append("somebody reads the store, so its log still holds it")
        with store.transaction() as db:
            self._note(db, left)
        if left:
            log.warning("erased, but not without residue yet: %s; tried again", "; ".join(left))
        else:
            store.empty_log()  # what noted the end holds nothing, but the log held what was before
        return left

    def retry(self) -> list[str]:
        """Try again what is left, in gallery and store; return what is left then."""
        if self._data.gallery.unfinished:
            try:
                self._data.gallery.purge()
            except GalleryError as err:
                log.warning("%s", err)
        if self._data.store.one("SELECT unfinished FROM head")[0]:
            self.finish()
        return self.unfinished

    def _with_merged(self, names: Sequence[str]) -> list[str]:
        """Return names with those of people who were merged into them."""
        found = list(names)
        rows = self._data.store.all("SELECT kept, other FROM merges WHERE kind = 'people'")
        enrolled = {name_key(person.name) for person in self._data.gallery.people()}
        for name in found:
            found += [
                other
                for kept, other in rows
                if kept == name and other not in found and name_key(other) not in enrolled
            ]
        return found

    def _take_out(self, db: sqlite3.Connection, name: str) -> None:
        """Take a name out of rows that are about others."""
        rewrite_events(db, name, None)
        db.execute("UPDATE visits SET runner_up = NULL WHERE runner_up = ?", (name,))
        db.execute("DELETE FROM corrections WHERE ? IN (person, was)", (name,))
        db.execute("DELETE FROM refusals WHERE ? IN (person, owner)", (name,))
        db.execute("DELETE FROM merges WHERE kind = 'people' AND ? IN (kept, other)", (name,))
        db.execute("DELETE FROM people WHERE name = ?", (name,))
        db.execute("DELETE FROM identities WHERE name = ?", (name,))
        rewrite_audit(db, name, ERASED)
        self._note(db, ["the file still has to be written anew"])

    def note(self, what: str) -> None:
        """Remember that something still lies in the file, until it is written anew."""
        with self._data.store.transaction() as db:
            self._note(db, [f"{what} may still be in the file"])

    @staticmethod
    def _note(db: Any, left: list[str]) -> None:
        db.execute("UPDATE head SET unfinished = ?", (json.dumps(left) if left else "",))
