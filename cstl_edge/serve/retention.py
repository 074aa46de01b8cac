"""How long the service keeps what: by days, by size, and by the free space of the disk.

What is old goes first; where the disk is nearly full or the limit of size is passed, the oldest
clips and pictures go before their time, then the oldest visits with their events. Pictures of the
visits that go on are left.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

from cstl_edge.live.events import utc_text
from cstl_edge.serve.enrolled import Enrolled
from cstl_edge.serve.erasure import Erasures
from cstl_edge.serve.service_data import ServiceData
from cstl_edge.serve.unknowns import Unknowns

AUDIT_DAYS = 365.0  # that rows of the audit log are kept
GB = 10**9
BATCH = 50  # visits or files that go at once, where room is needed


@dataclass
class Removed:
    """What a look at retention removed."""

    people: int = 0
    unknowns: int = 0
    visits: int = 0
    events: int = 0
    pictures: int = 0
    for_room: int = 0  # visits and pictures that went before their time

    @property
    def anything(self) -> bool:
        """Whether anything was removed."""
        return any(asdict(self).values())


def free_bytes(folder: Path) -> int:
    """Return the free space of the disk that holds a folder."""
    return shutil.disk_usage(folder).free


class Retention:
    """Removes what has been kept long enough."""

    def __init__(
        self,
        data: ServiceData,
        erasures: Erasures,
        unknowns: Unknowns,
        enrolled: Enrolled,
        free: Callable[[Path], int] = free_bytes,
    ) -> None:
        """Use the recogniser's parts.

        Args:
            data: What is kept.
            erasures: Erases without residue.
            unknowns: Groups of unknown visitors.
            enrolled: The list of people.
            free: Given a folder, returns the free bytes of its disk.
        """
        self._data, self._erasures = data, erasures
        self._unknowns, self._enrolled, self._free = unknowns, enrolled, free

    def run(self, *, trust_clock: bool = False) -> Removed:
        """Remove what is due now; return how much.

        trust_clock: whether the clock is known to be right, so that ended retentions need one look
        """
        removed = Removed()
        self._people(removed, trust_clock=trust_clock)
        self._strangers(removed)
        self._old(removed)
        self._for_room(removed)
        self._data.store.give_back()
        return removed

    def _people(self, removed: Removed, *, trust_clock: bool) -> None:
        """Erase the people whose retention has ended, everywhere."""
        gallery = self._data.gallery
        names = [*gallery.take_purged(), *(gallery.purge(trust_clock=True) if trust_clock else ())]
        if names:
            counts = self._erasures.traces_of(names)
            removed.people += len(names)
            removed.visits += counts["visits"]
            self._enrolled.sync()
            self._data.tell_gallery(f"{len(names)} erased, whose retention has ended")

    def _strangers(self, removed: Removed) -> None:
        """Erase unknowns who have not come for long, with their walks and pictures."""
        keep = self._data.site.keep.unknowns
        oldest = self._before(keep.days if keep.enabled else 0.0)
        store = self._data.store
        gone = store.all(
            "SELECT cluster FROM visits WHERE cluster IS NOT NULL GROUP BY cluster"
            " HAVING max(seen_utc) < ?",
            oldest,
        )
        for (cluster,) in gone:
            of_cluster = "visit IN (SELECT id FROM visits WHERE cluster = ?)"
            removed.pictures += len(rows := self._data.media.rows(of_cluster, cluster))
            self._data.media.remove(rows)
            store.write(f"DELETE FROM tracks WHERE {of_cluster}", cluster)
            store.write("UPDATE visits SET has_walk = 0 WHERE cluster = ?", cluster)
            self._unknowns.forget(cluster)
            removed.unknowns += 1
        # walks of unknowns that are in no group: too short, or from before they were switched off
        store.write(
            "DELETE FROM tracks WHERE visit IN (SELECT id FROM visits WHERE answer <> 'known' AND"
            " cluster IS NULL AND ended_utc < ?)",
            oldest,
        )
        if gone:
            self._erasures.finish()

    def _old(self, removed: Removed) -> None:
        """Remove what is older than its days."""
        keep, store, media = self._data.site.keep, self._data.store, self._data.media
        snapshots, clips = self._before(keep.snapshots.days), self._before(keep.clips.days)
        old = media.rows("kind <> 'clip' AND created_utc < ?", snapshots)
        old += media.rows("kind = 'clip' AND created_utc < ?", clips)
        media.remove(old)
        removed.pictures += len(old)
        events = self._before(keep.events_days)
        visits = [row.id for row in store.visits("ended_utc < ?", events)]
        self._remove_visits(visits, removed)
        with store.transaction() as db:
            # an event of a visit that goes on stays with it
            removed.events += db.execute(
                "DELETE FROM events WHERE utc < ? AND (visit IS NULL OR visit NOT IN"
                " (SELECT id FROM visits))",
                (events,),
            ).rowcount
            db.execute("DELETE FROM refusals WHERE owner IS NULL AND utc < ?", (events,))
            db.execute("DELETE FROM audit WHERE utc < ?", (self._before(AUDIT_DAYS),))
            db.execute("DELETE FROM merges WHERE kind = 'unknowns' AND utc < ?", (events,))

    def _for_room(self, removed: Removed) -> None:
        """Remove the oldest, as long as there is too little room."""
        media, store = self._data.media, self._data.store
        while self._needs_room():
            for kinds in ("kind = 'clip'", "kind <> 'clip'"):
                ended = "(SELECT id FROM visits WHERE ended_utc IS NULL)"
                rows = media.rows(f"{kinds} AND visit NOT IN {ended}")[:BATCH]
                if rows:
                    break
            if rows:
                media.remove(rows)
                removed.pictures += len(rows)
                removed.for_room += len(rows)
                continue
            visits = [row.id for row in store.visits("ended_utc IS NOT NULL")[:BATCH]]
            if not visits:
                return
            self._remove_visits(visits, removed)
            removed.for_room += len(visits)
            store.give_back()

    def _needs_room(self) -> bool:
        keep, data = self._data.site.keep, self._data
        if data.media.bytes() + data.store.used_bytes() > keep.max_gb * GB:
            return True
        return self._free(data.store.folder) < keep.min_free_gb * GB

    def _remove_visits(self, visits: list[str], removed: Removed) -> None:
        """Remove visits with their events and pictures; their unknown may be gone with them."""
        data = self._data
        for visit in visits:
            rows = data.media.rows("visit = ?", visit)
            data.media.remove(rows)
            self._unknowns.take_out(visit)
            with data.store.transaction() as db:
                removed.events += db.execute(
                    "DELETE FROM events WHERE visit = ?", (visit,)
                ).rowcount
                db.execute("DELETE FROM visits WHERE id = ?", (visit,))
            data.recent.pop(visit, None)
            removed.pictures += len(rows)
            removed.visits += 1

    def _before(self, days: float) -> str:
        return utc_text(self._data.clock() - timedelta(days=days))
