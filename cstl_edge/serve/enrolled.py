"""Enrolled people: their list for the page, renaming, merging and unmerging, export, warnings."""

from __future__ import annotations

import json
import secrets
import zipfile
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cstl_edge.errors import GalleryError
from cstl_edge.gallery.advice import missing
from cstl_edge.gallery.people import EnrolledPerson, name_key
from cstl_edge.output import PRIVATE, storing
from cstl_edge.serve.gallery_news import (
    GalleryNews,
    news,
    read_identities,
    write_identities,
)
from cstl_edge.serve.service_data import RefusedError, ServiceData
from cstl_edge.serve.store_rows import PersonRow, VisitRow

COMMAND_LINE = "command line"  # as the user of a merge
MERGED, PARTED = "{} went into it", "{} is apart again"  # details of the audit log with a name


class Enrolled:
    """The people of the gallery, and what the store holds about them."""

    def __init__(self, data: ServiceData) -> None:
        """Prepare; `sync` writes the list of people for the page."""
        self._data = data
        self._warnings: list[dict[str, str]] | None = None
        self.revision = -1

    def sync(self) -> None:
        """Write the list of people anew: the gallery changed."""
        self._warnings = None
        self.revision = self._data.gallery.changes.revision
        merges = dict(
            self._data.store.all(
                "SELECT kept, max(id) FROM merges WHERE kind = 'people' AND undone_utc IS NULL"
                " GROUP BY kept"
            )
        )
        people = [_row(person, merges.get(person.name)) for person in self._data.gallery.people()]
        with self._data.store.transaction():
            self._data.store.set_people(people)
            write_identities(self._data.store, self._data.gallery.identities())

    def news(self) -> GalleryNews:
        """Return what somebody else did to the gallery since the last look.

        Nobody is taken for erased unless the gallery says that somebody was: not another gallery's
        people, nor those of a restored backup.
        """
        store, changes = self._data.store, self._data.gallery.changes
        self.revision = changes.revision
        gallery, erased = store.one("SELECT gallery, erased FROM head")
        store.write("UPDATE head SET gallery = ?, erased = ?", changes.gallery, changes.erased)
        if changes.gallery != gallery:
            return GalleryNews()
        held = store.all("SELECT DISTINCT person FROM visits WHERE person IS NOT NULL")
        return news(
            read_identities(store),
            self._data.gallery.identities(),
            [name for (name,) in held],
            erased=changes.erased > erased,
        )

    @property
    def is_stale(self) -> bool:
        """Whether somebody else has changed the gallery since the last look."""
        return self._data.gallery.changes.revision != self.revision

    def stored_name(self, name: str) -> str:
        """Return a name as the gallery writes it (RefusedError: nobody has it)."""
        try:
            return self._data.gallery.show(name).name
        except GalleryError as err:
            raise RefusedError("not-found", err.message) from err

    def is_enrolled(self, name: str) -> bool:
        """Return whether somebody has a name, in any case."""
        return any(name_key(p.name) == name_key(name) for p in self._data.gallery.people())

    def rename(self, name: str, new_name: str) -> str:
        """Give a person another name, here and in everything that is kept; return it.

        Args:
            name: Present name.
            new_name: Name from now on.
        """
        old = self.stored_name(name)
        try:
            stored = self._data.gallery.rename(old, new_name)
        except GalleryError as err:
            raise RefusedError("conflict", err.message) from err
        self.follow(old, stored)
        self.sync()
        return stored

    def follow(self, old: str, new: str) -> None:
        """Write a name in visits, events and merges in place of another."""
        with self._data.store.transaction() as db:
            db.execute("UPDATE merges SET kept = ? WHERE kind = 'people' AND kept = ?", (new, old))
            for column in ("person", "runner_up"):
                db.execute(f"UPDATE visits SET {column} = ? WHERE {column} = ?", (new, old))
            rewrite_events(db, old, new)
            rewrite_audit(db, old, new)

    def merge(self, name: str, other: str, user: str) -> int:
        """Give all walks and visits of a person to another; return the number that undoes it.

        Args:
            name: Who stays.
            other: Who goes.
            user: Who says so.
        """
        gallery = self._data.gallery
        kept, gone = self.stored_name(name), self.stored_name(other)
        if kept == gone:
            raise RefusedError("conflict", f"'{kept}' is merged with themselves")
        expires = gallery.show(gone).expires_utc, gallery.show(kept).expires_utc
        walks = gallery.walks(gone)
        gallery.merge(kept, gone)
        number = self._note_merge(kept, gone, walks, expires, user)
        self.sync()
        return number

    def follow_merge(self, kept: str, gone: str, walks: tuple[int, ...]) -> None:
        """Follow a merge by the command line; it can be undone here.

        Args:
            kept: Who stays.
            gone: Who is not there any more.
            walks: Numbers of their walks.
        """
        rows = self._data.store.all(
            "SELECT name, body FROM people WHERE name IN (?, ?)", gone, kept
        )
        expires = {name: json.loads(body)["expires_utc"] for name, body in rows}
        now = self._data.gallery.show(kept).expires_utc
        ends = expires.get(gone), expires.get(kept, now)
        self._note_merge(kept, gone, walks, ends, COMMAND_LINE)

    def _note_merge(
        self,
        kept: str,
        gone: str,
        walks: tuple[int, ...],
        expires: tuple[str | None, str | None],
        user: str,
    ) -> int:
        """Give the visits of somebody to another, and note what undoes it; return its number."""
        store = self._data.store
        detail = {
            "walks": list(walks),
            "expires_utc": expires[0],
            "kept_expires_utc": expires[1],
            "visits": [row.id for row in store.visits("person = ?", gone)],
        }
        with store.transaction():
            # events say what was known then; runners-up too, or the merge could not be undone
            store.write("UPDATE visits SET person = ? WHERE person = ?", kept, gone)
            number = store.write(
                "INSERT INTO merges (utc, kind, kept, other, detail, user)"
                " VALUES (?, 'people', ?, ?, ?, ?)",
                self._data.now_text,
                kept,
                gone,
                json.dumps(detail),
                user,
            ).lastrowid
        return int(number or 0)

    def unmerge(self, merge: int) -> tuple[str, str]:
        """Undo a merge of two people; return both names (RefusedError)."""
        store, gallery = self._data.store, self._data.gallery
        row = store.one(
            "SELECT kept, other, detail FROM merges WHERE id = ? AND kind = 'people'"
            " AND undone_utc IS NULL",
            merge,
        )
        if row is None:
            raise RefusedError("not-found", f"there is no merge {merge} to undo (any more)")
        kept, other, detail = row[0], row[1], json.loads(row[2])
        if not self.is_enrolled(kept):
            raise RefusedError("conflict", f"'{kept}' was merged again: undo that merge first")
        walks = set(detail["walks"]) & set(gallery.walks(kept))
        try:
            gallery.split(kept, walks, other, detail["expires_utc"])
            gallery.set_retention(kept, detail["kept_expires_utc"])
        except GalleryError as err:
            raise RefusedError("conflict", err.message) from err
        with store.transaction() as db:
            db.executemany(
                "UPDATE visits SET person = ? WHERE id = ? AND person = ?",
                [(other, visit, kept) for visit in detail["visits"]],
            )
            db.execute(
                "UPDATE merges SET undone_utc = ? WHERE id = ?", (self._data.now_text, merge)
            )
        self.sync()
        return kept, other

    def warnings(self) -> list[dict[str, str]]:
        """Return the pairs of people who are as near each other as one person's walks."""
        if self._warnings is None:
            self._warnings = [
                {
                    "person": name,
                    "other": other,
                    "message": f"{name} walks like {other} (distance {distance:.2f}, below the"
                    f" threshold {limit:.2f}): one person under two names? Merge them, or enrol"
                    " more walks of both",
                }
                for name, other, distance, limit in self._data.gallery.look_alikes(
                    self._data.site.fpir
                )
            ]
        return self._warnings

    def export(self, name: str, folder: Path) -> dict[str, str]:
        """Write everything that is kept about a person to a zip.

        Args:
            name: Of the person.
            folder: Where the file is written, under a random name.

        Returns:
            Its path, a name for people, and its type.
        """
        person = self.stored_name(name)
        path = folder / f"export-{secrets.token_hex(8)}.zip"
        self._data.gallery.export(person, path)
        visits = self._data.store.visits("person = ?", person)
        with storing(path):
            with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as pack:
                self._export_visits(pack, person, visits)
            path.chmod(PRIVATE)
        return {"path": str(path), "name": f"{person}.zip", "media_type": "application/zip"}

    def _export_visits(self, pack: zipfile.ZipFile, person: str, visits: list[VisitRow]) -> None:
        """Add what the service keeps of somebody's visits to their zip."""
        store = self._data.store
        pack.writestr("visits.json", _json([asdict(row) for row in visits]))
        bodies = store.all(
            "SELECT body FROM events WHERE person = ? OR visit IN"
            " (SELECT id FROM visits WHERE person = ?) ORDER BY id",
            person,
            person,
        )
        pack.writestr("events.jsonl", "".join(f"{body}\n" for (body,) in bodies))
        said = store.all("SELECT utc, visit, was, user FROM corrections WHERE person = ?", person)
        pack.writestr("corrections.json", _json(said))
        for row in self._data.media.rows(
            "visit IN (SELECT id FROM visits WHERE person = ?)", person
        ):
            file = self._data.media.folder / row.path
            if file.is_file():
                pack.write(file, f"media/{row.visit}-{row.kind}{file.suffix}")


def rewrite_events(db: Any, old: str, new: str | None) -> None:
    """Write another name, or none, wherever events hold a name; inside of a transaction.

    Args:
        db: Connection to the store.
        old: The name.
        new: What stands there from now on.
    """
    like = (
        "%"
        + json.dumps(old, ensure_ascii=False)
        .replace("\\", "\\\\")
        .replace("%", "\\%")
        .replace("_", "\\_")
        + "%"
    )
    changed = []
    for number, body in db.execute(
        "SELECT id, body FROM events WHERE body LIKE ? ESCAPE '\\'", (like,)
    ):
        event = json.loads(body)
        for key in ("person", "runner_up"):
            if event.get(key) == old:
                event[key] = new
        changed.append((json.dumps(event, ensure_ascii=False), event.get("person"), number))
    db.executemany("UPDATE events SET body = ?, person = ? WHERE id = ?", changed)


def rewrite_audit(db: Any, old: str, new: str) -> None:
    """Write another name wherever the audit log holds a name; inside of a transaction.

    Args:
        db: Connection to the store.
        old: The name.
        new: What stands there from now on.
    """
    db.execute("UPDATE audit SET subject = ? WHERE subject = ?", (new, old))
    for detail in (MERGED, PARTED):
        change = detail.format(new), detail.format(old)
        db.execute("UPDATE audit SET detail = ? WHERE detail = ?", change)


def _row(person: EnrolledPerson, merged: int | None) -> PersonRow:
    views = Counter(walk.origin.view or "unknown" for walk in person.enrolments)
    cameras = {walk.origin.camera for walk in person.enrolments if walk.origin.camera}
    return PersonRow(
        name=person.name,
        created_utc=person.created_utc,
        expires_utc=person.expires_utc,
        expired=person.expired,
        consent=person.consent,
        walks=len(person.enrolments),
        templates=person.templates,
        views=tuple(sorted(views.items())),
        cameras=tuple(sorted(cameras)),
        advice=tuple(missing(person)),
        merged=merged,
    )


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1)
