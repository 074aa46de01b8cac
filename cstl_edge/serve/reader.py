"""Read-only view of the service's store, for page and outputs.

A connection is opened for each call and closed with it, so that no reader keeps an erasure from
emptying the log; every method may be called from any thread.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cstl_edge.errors import StorageError, one_line
from cstl_edge.serve.habits import usual_time
from cstl_edge.serve.store import (
    MEDIA_NAME,
    STORE_NAME,
    columns,
    explained_store_errors,
    record_of,
)
from cstl_edge.serve.store_rows import (
    AuditRow,
    CorrectionRow,
    EventRow,
    LastSeenRow,
    MediaRow,
    PersonRow,
    PresenceRow,
    UnknownRow,
    VisitFilter,
    VisitPage,
    VisitRow,
)
from cstl_edge.serve.store_schema import refuse_other

BUSY_TIMEOUT_S = 5.0
MAX_PAGE = 500  # rows of one call
ANY = VisitFilter()
_HABIT_VISITS = 50  # the newest of a cluster, from which its usual time is read


class Reader:
    """The store of a data folder, to read."""

    def __init__(self, folder: Path) -> None:
        """Name the data folder; nothing is opened yet, so the store may be made later."""
        self.path, self.media_folder = folder / STORE_NAME, folder / MEDIA_NAME

    @property
    def installation(self) -> str:
        """Random digits that name this installation for ever (StorageError: no store yet)."""
        return str(self._all("SELECT installation FROM head")[0][0])

    def events(
        self, after_id: int = 0, limit: int = 100, filters: VisitFilter = ANY
    ) -> tuple[EventRow, ...]:
        """Return events in the order they were written.

        Args:
            after_id: Number of the last event that is known; 0 for all.
            limit: At most so many, up to 500.
            filters: Which ones; `since_utc` and `until_utc` are times of the events.
        """
        where, values = _conditions(filters, "utc", journal=True)
        query = f"SELECT id, utc, body FROM events WHERE id > ? {where} ORDER BY id LIMIT ?"
        rows = self._all(query, after_id, *values, min(limit, MAX_PAGE))
        return tuple(EventRow(id=n, utc=utc, event=json.loads(body)) for n, utc, body in rows)

    def newest_events(self, limit: int = 100, filters: VisitFilter = ANY) -> tuple[EventRow, ...]:
        """Return the newest events, the newest first.

        Args:
            limit: At most so many, up to 500.
            filters: Which ones.
        """
        where, values = _conditions(filters, "utc", journal=True)
        query = f"SELECT id, utc, body FROM events WHERE id > 0 {where} ORDER BY id DESC LIMIT ?"
        rows = self._all(query, *values, min(limit, MAX_PAGE))
        return tuple(EventRow(id=n, utc=utc, event=json.loads(body)) for n, utc, body in rows)

    @property
    def last_event_id(self) -> int:
        """Number of the newest event, 0 without one."""
        return int(self._all("SELECT coalesce(max(id), 0) FROM events")[0][0])

    def visits(
        self, filters: VisitFilter = ANY, page: str | None = None, limit: int = 50
    ) -> VisitPage:
        """Return visits, the newest first.

        Args:
            filters: Which ones.
            page: `next` of the page before, None for the first.
            limit: At most so many, up to 500.
        """
        where, values = _conditions(filters, "started_utc")
        if page is not None:
            started, _, number = page.partition("~")
            where += " AND (started_utc, id) < (?, ?)"
            values += [started, number]
        limit = min(limit, MAX_PAGE)
        query = (
            f"SELECT {columns(VisitRow)} FROM visits WHERE 1 {where}"
            " ORDER BY started_utc DESC, id DESC LIMIT ?"
        )
        found = [record_of(VisitRow, row) for row in self._all(query, *values, limit + 1)]
        more, last = len(found) > limit, found[:limit][-1:]
        following = f"{last[0].started_utc}~{last[0].id}" if more else None
        return VisitPage(visits=tuple(found[:limit]), next=following)

    def visit(self, visit: str) -> VisitRow | None:
        """Return a visit by its id, None where there is none (any more)."""
        rows = self._all(f"SELECT {columns(VisitRow)} FROM visits WHERE id = ?", visit)
        return record_of(VisitRow, rows[0]) if rows else None

    def journey(self, journey: str) -> tuple[VisitRow, ...]:
        """Return the visits of a way across cameras, in order of time."""
        rows = self._all(
            f"SELECT {columns(VisitRow)} FROM visits WHERE journey = ? ORDER BY started_utc, id",
            journey,
        )
        return tuple(record_of(VisitRow, row) for row in rows)

    def corrections(self, visit: str) -> tuple[CorrectionRow, ...]:
        """Return what users said about a visit, in order."""
        query = f"SELECT {columns(CorrectionRow)} FROM corrections WHERE visit = ? ORDER BY id"
        return tuple(record_of(CorrectionRow, row) for row in self._all(query, visit))

    def people(self) -> tuple[PersonRow, ...]:
        """Return everybody who is enrolled, by name."""
        bodies = [json.loads(body) for (body,) in self._all("SELECT body FROM people")]
        people = [_person(body) for body in bodies]
        return tuple(sorted(people, key=lambda person: person.name.casefold()))

    def unknowns(self, *, ignored: bool = False) -> tuple[UnknownRow, ...]:
        """Return the clusters of unknown visitors, the latest seen first.

        ignored: whether those that are to be ignored are among them
        """
        with self._opened() as db:
            rows = db.execute(
                "SELECT clusters.id, label, ignored, count(*), min(started_utc), max(seen_utc)"
                " FROM clusters JOIN visits ON visits.cluster = clusters.id WHERE ignored <= ?"
                " GROUP BY clusters.id ORDER BY max(seen_utc) DESC",
                (ignored,),
            ).fetchall()
            return tuple(_unknown(db, row) for row in rows)

    def media(self, media: str) -> tuple[MediaRow, Path] | None:
        """Return a picture or clip with the path of its file, None where it is gone."""
        rows = self._all(f"SELECT {columns(MediaRow)} FROM media WHERE id = ?", media)
        if not rows:
            return None
        row = record_of(MediaRow, rows[0])
        return row, self.media_folder / row.path

    def presence(self) -> tuple[PresenceRow, ...]:
        """Return who is here now: visits that go on, the longest first."""
        rows = self._all(
            "SELECT id, camera, answer, person, cluster, (SELECT min(started_utc) FROM visits AS"
            " way WHERE way.journey = visits.journey) AS since, seen_utc, journey, snapshot"
            " FROM visits WHERE ended_utc IS NULL ORDER BY since"
        )
        return tuple(record_of(PresenceRow, row) for row in rows)

    def last_seen(self) -> tuple[LastSeenRow, ...]:
        """Return when and where everybody was seen last, the latest first."""
        rows = self._all(
            "SELECT person, max(seen_utc) AS utc, camera, zone, id, snapshot,"
            " (SELECT max(events.id) FROM events WHERE visit = visits.id) FROM visits"
            " WHERE person IS NOT NULL GROUP BY person ORDER BY utc DESC"
        )
        return tuple(record_of(LastSeenRow, row) for row in rows)

    def audit(self, before_id: int | None = None, limit: int = 100) -> tuple[AuditRow, ...]:
        """Return who did what, the newest first.

        Args:
            before_id: Number of the last row of the page before.
            limit: At most so many, up to 500.
        """
        rows = self._all(
            f"SELECT {columns(AuditRow)} FROM audit WHERE id < ? ORDER BY id DESC LIMIT ?",
            before_id if before_id is not None else 2**62,
            min(limit, MAX_PAGE),
        )
        return tuple(record_of(AuditRow, row) for row in rows)

    def counters(self) -> dict[str, int]:
        """Return the counters that survive restarts."""
        return dict(self._all("SELECT name, value FROM counters"))

    @contextlib.contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        if not self.path.exists():
            raise StorageError(
                f"there is no store at {one_line(self.path)} yet",
                remedy="it is made when the recogniser of the service starts",
            )
        with explained_store_errors(self.path), contextlib.closing(self._connect()) as db:
            fault = refuse_other(db)
            if fault:
                raise StorageError(f"{one_line(self.path)} {fault}")
            yield db

    def _connect(self) -> sqlite3.Connection:
        address = self.path.absolute().as_uri() + "?mode=ro"
        return sqlite3.connect(address, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)

    def _all(self, query: str, *values: Any) -> list[Any]:
        with self._opened() as db:
            return db.execute(query, values).fetchall()


def _conditions(filters: VisitFilter, time: str, *, journal: bool = False) -> tuple[str, list[Any]]:
    """Return the conditions of a filter, each with its AND, and their values."""
    where, values = "", list[Any]()
    for condition, value in (
        ("person = ?", filters.person),
        ("answer = ?", filters.answer),
        (f"{time} >= ?", filters.since_utc),
        (f"{time} < ?", filters.until_utc),
    ):
        if value is not None:
            where, values = f"{where} AND {condition}", [*values, value]
    for column, key in (("cluster", filters.cluster), ("journey", filters.journey)):
        if key is not None:
            of_visit = f"visit IN (SELECT id FROM visits WHERE {column} = ?)"
            where = f"{where} AND {of_visit if journal else f'{column} = ?'}"
            values.append(key)
    if filters.cameras is not None:
        marks = ", ".join("?" * len(filters.cameras))
        where, values = f"{where} AND camera IN ({marks})", [*values, *filters.cameras]
    if filters.open_only and not journal:
        where += " AND ended_utc IS NULL"
    return where, values


def _person(body: dict[str, Any]) -> PersonRow:
    views = tuple((str(view), int(count)) for view, count in body.pop("views"))
    cameras, advice = tuple(body.pop("cameras")), tuple(body.pop("advice"))
    return PersonRow(**body, views=views, cameras=cameras, advice=advice)


def _unknown(db: sqlite3.Connection, row: Any) -> UnknownRow:
    number, label, ignored, visits, first, last = row
    cameras = db.execute("SELECT DISTINCT camera FROM visits WHERE cluster = ?", (number,))
    newest = db.execute(
        "SELECT started_utc, snapshot, strip FROM visits WHERE cluster = ?"
        " ORDER BY started_utc DESC LIMIT ?",
        (number, _HABIT_VISITS),
    ).fetchall()
    joined = db.execute(
        "SELECT max(id) FROM merges WHERE kind = 'unknowns' AND kept = ? AND undone_utc IS NULL",
        (str(number),),
    ).fetchone()[0]
    return UnknownRow(
        id=number,
        label=label,
        ignored=bool(ignored),
        visits=visits,
        cameras=tuple(sorted(camera for (camera,) in cameras)),
        first_utc=first,
        last_utc=last,
        usual=usual_time([started for started, _, _ in newest]),
        snapshot=next((snapshot for _, snapshot, _ in newest if snapshot), None),
        strip=next((strip for _, _, strip in newest if strip), None),
        joined=joined,
    )
