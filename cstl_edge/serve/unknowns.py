"""Unknowns: visits of people who are not enrolled, grouped by their walk.

Off unless the site says otherwise, since it keeps templates of people who did not consent. The
limit errs to splitting: one person in two groups is joined with a click, two in one are not told
apart again. Two visits that overlap in time on one camera are two people. The store holds all
walks; in memory are the means of the newest few of each group, which a new visit is compared with,
and of so many in all at most: memory has a bound however many strangers pass.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cstl_edge.arrays import Doubles, Floats
from cstl_edge.gallery.match import SeenWalk
from cstl_edge.serve.alike import CLUSTER_FPIR, PlacedWalk
from cstl_edge.serve.kept_walks import KeptWalk, joined_walk
from cstl_edge.serve.service_data import RefusedError, ServiceData
from cstl_edge.serve.store_rows import VisitRow

LEAST_SEEN = 1.0  # windows of a walk that is grouped
MAX_GROUPED = 800  # newest visits that a new clustering looks at
MAX_COMPARED = 8  # newest visits of a group that a new one is compared with
MAX_IN_MEMORY = 500  # newest visits of all groups that a new one is compared with


@dataclass(frozen=True)
class Member:
    """A visit of a group."""

    visit: str
    camera: str
    started_utc: str
    seen_utc: str
    mean: npt.NDArray[np.float16]  # [p, d] of its walk, as the store keeps it
    seen: float  # windows that do not overlap

    @classmethod
    def of(cls, row: VisitRow, walk: SeenWalk) -> Member:
        """Return a visit with its walk, of which the mean alone is kept."""
        mean = walk.mean.astype(np.float16)
        return cls(row.id, row.camera, row.started_utc, row.seen_utc, mean, walk.seen)

    @property
    def walk(self) -> SeenWalk:
        """The walk, to compare."""
        mean = self.mean.astype(np.float32)
        return SeenWalk(mean[None], mean, self.seen)

    def overlaps(self, other: Member) -> bool:
        """Tell whether two visits were on one camera at once: they are two people."""
        return self.camera == other.camera and not (
            self.seen_utc < other.started_utc or other.seen_utc < self.started_utc
        )


class Unknowns:
    """Groups of the visits of unknown people."""

    def __init__(self, data: ServiceData) -> None:
        """Read the groups' walks from the store."""
        self._data = data
        self._members: dict[int, list[Member]] = defaultdict(list)  # the newest of each
        self._read()

    def _read(self) -> None:
        stored = self._stored()
        newest = {cluster: members[-MAX_COMPARED:] for cluster, members in stored.items()}
        self._members = defaultdict(list, newest)
        self._leave_out_oldest()

    def _leave_out_oldest(self) -> None:
        """Keep the newest visits in memory; the store has all, and a new clustering finds them."""
        visits = [m for members in self._members.values() for m in members]
        oldest = sorted(visits, key=lambda m: m.seen_utc)[: max(0, len(visits) - MAX_IN_MEMORY)]
        if oldest:
            gone = {member.visit for member in oldest}
            left = {k: [m for m in v if m.visit not in gone] for k, v in self._members.items()}
            self._members = defaultdict(list, {k: v for k, v in left.items() if v})

    def _stored(self) -> dict[int, list[Member]]:
        """Return all visits whose walk is kept by group, the oldest first."""
        groups: dict[int, list[Member]] = defaultdict(list)
        for row in self._data.store.visits("cluster IS NOT NULL AND has_walk"):
            member = self._member(row, self._data.walks_of(row.id))
            if member is not None and row.cluster is not None:
                groups[row.cluster].append(member)
        return groups

    @property
    def enabled(self) -> bool:
        """Whether the site wants them."""
        return self._data.site.keep.unknowns.enabled

    def label(self, cluster: int) -> str:
        """Return what a group is called."""
        row = self._data.store.one("SELECT label FROM clusters WHERE id = ?", cluster)
        return str(row[0]) if row else f"Unknown {cluster}"

    def nearest(self, member: Member) -> int | None:
        """Return the group that a visit belongs to, None where none is near enough."""
        candidates = {
            cluster: members
            for cluster, members in self._members.items()
            if not any(member.overlaps(o) for o in members if o.visit != member.visit)
        }
        if not candidates:
            return None
        distances = self._distances(member, [m for group in candidates.values() for m in group])
        ends = np.cumsum([len(members) for members in candidates.values()])
        means = [float(np.mean(part)) for part in np.split(distances, ends[:-1])]
        best, cluster = min(zip(means, candidates, strict=True))
        return cluster if best < self._limit(member.seen) else None

    def guess(self, row: VisitRow, walk: SeenWalk) -> int | None:
        """Return the group that a visit that goes on seems to belong to.

        Args:
            row: The visit.
            walk: What was seen of it so far.
        """
        if not self.enabled or walk.seen < LEAST_SEEN:
            return None
        return self.nearest(Member.of(row, walk))

    def assign(self, row: VisitRow, walks: list[KeptWalk]) -> int | None:
        """Put a visit that ended into a group, a new one where none is near enough.

        Args:
            row: The visit, which is stored.
            walks: What is kept of its walk.

        Returns:
            The group; None where unknowns are not kept or too little was seen.
        """
        member = self._member(row, walks)
        if not self.enabled or member is None or member.seen < LEAST_SEEN:
            return None
        cluster = self.nearest(member)
        if cluster is None:
            cluster = self._new()
        self._members[cluster] = [*self._members[cluster], member][-MAX_COMPARED:]
        self._leave_out_oldest()
        self._data.store.write("UPDATE visits SET cluster = ? WHERE id = ?", cluster, row.id)
        return cluster

    def take_out(self, visit: str) -> None:
        """Take a visit out of its group; a group without visits is gone."""
        store = self._data.store
        with store.transaction() as db:
            row = db.execute("SELECT cluster FROM visits WHERE id = ?", (visit,)).fetchone()
            if row is None or row[0] is None:
                return
            db.execute("UPDATE visits SET cluster = NULL WHERE id = ?", (visit,))
        left = [m for m in self._members[row[0]] if m.visit != visit]
        self._members[row[0]] = left
        if not left:  # older ones may be in the store
            self._read()
        self._drop_empty()

    def visits(self, cluster: int) -> list[VisitRow]:
        """Return the visits of a group (RefusedError: there is none)."""
        rows = self._data.store.visits("cluster = ?", cluster)
        if not rows:
            raise RefusedError("not-found", f"there is no unknown {cluster} (any more)")
        return rows

    def join(self, cluster: int, other: int, user: str) -> int:
        """Give all visits of a group to another; return the number by which that is undone.

        Args:
            cluster: The one that stays.
            other: The one that goes.
            user: Who says so.
        """
        self.visits(cluster)
        moved = [row.id for row in self.visits(other)]
        if cluster == other:
            raise RefusedError("conflict", f"unknown {cluster} is joined with itself")
        store = self._data.store
        label, named, ignored = store.one(
            "SELECT label, named, ignored FROM clusters WHERE id = ?", other
        )
        detail = {"visits": moved, "label": label, "named": named, "ignored": ignored}
        with store.transaction() as db:
            db.execute("UPDATE visits SET cluster = ? WHERE cluster = ?", (cluster, other))
            db.execute("DELETE FROM clusters WHERE id = ?", (other,))
            number = db.execute(
                "INSERT INTO merges (utc, kind, kept, other, detail, user)"
                " VALUES (?, 'unknowns', ?, ?, ?, ?)",
                (self._data.now_text, str(cluster), str(other), json.dumps(detail), user),
            ).lastrowid
        self._read()
        return int(number or 0)

    def unjoin(self, merge: int) -> int:
        """Undo a join; return the group that is there again (RefusedError)."""
        store = self._data.store
        row = store.one(
            "SELECT kept, other, detail FROM merges WHERE id = ? AND kind = 'unknowns'"
            " AND undone_utc IS NULL",
            merge,
        )
        if row is None:
            raise RefusedError("not-found", f"there is no join {merge} to undo (any more)")
        kept, other, detail = int(row[0]), int(row[1]), json.loads(row[2])
        with store.transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO clusters VALUES (?, ?, ?, ?)",
                (other, detail["label"], detail["named"], detail["ignored"]),
            )
            db.executemany(
                "UPDATE visits SET cluster = ? WHERE id = ? AND cluster = ?",
                [(other, visit, kept) for visit in detail["visits"]],
            )
            db.execute(
                "UPDATE merges SET undone_utc = ? WHERE id = ?", (self._data.now_text, merge)
            )
        self._read()
        self._drop_empty()
        return other

    def ignore(self, cluster: int, *, ignored: bool) -> None:
        """Leave a group out of the list, or show it again."""
        self.visits(cluster)
        self._data.store.write("UPDATE clusters SET ignored = ? WHERE id = ?", ignored, cluster)

    def forget(self, cluster: int) -> None:
        """Drop a group whose visits were erased or got a name; its joins cannot be undone then."""
        self._members.pop(cluster, None)
        with self._data.store.transaction() as db:
            db.execute("UPDATE visits SET cluster = NULL WHERE cluster = ?", (cluster,))
            db.execute("DELETE FROM clusters WHERE id = ?", (cluster,))
            db.execute(
                "DELETE FROM merges WHERE kind = 'unknowns' AND ? IN (kept, other)",
                (str(cluster),),
            )

    def recluster(self) -> int:
        """Group all visits anew; return how many changed their group.

        A group that a user named, ignored or joined stays whole; every new group takes the number
        and the name of the old one that most of its visits come from.
        """
        stored = self._stored()
        before = {m.visit: cluster for cluster, members in stored.items() for m in members}
        atoms = self._atoms(stored)
        groups = self._linked([members for members, _ in atoms], [own for _, own in atoms])
        renewed: dict[int, list[Member]] = {}
        for members in sorted(groups, key=len, reverse=True):
            olds = [before[m.visit] for m in members]
            best = max(set(olds), key=lambda old: (olds.count(old), -old))
            cluster = best if best not in renewed else self._new()
            renewed[cluster] = members
        changed = [
            (cluster, member.visit)
            for cluster, members in renewed.items()
            for member in members
            if before[member.visit] != cluster
        ]
        with self._data.store.transaction() as db:
            db.executemany("UPDATE visits SET cluster = ? WHERE id = ?", changed)
        self._read()
        self._drop_empty()
        return len(changed)

    def _atoms(self, stored: dict[int, list[Member]]) -> list[tuple[list[Member], bool]]:
        """Return what a new clustering begins with, and whether a user made it."""
        store = self._data.store
        own = {int(kept) for (kept,) in store.all(
            "SELECT kept FROM merges WHERE kind = 'unknowns' UNION"
            " SELECT other FROM merges WHERE kind = 'unknowns'"
        )}  # fmt: skip
        own |= {n for (n,) in store.all("SELECT id FROM clusters WHERE named OR ignored")}
        atoms: list[tuple[list[Member], bool]] = []
        for cluster, members in stored.items():
            if cluster in own:
                atoms.append((members, True))
            else:
                atoms += [([member], False) for member in members]
        return atoms[-MAX_GROUPED:]

    def _linked(self, atoms: list[list[Member]], own: list[bool]) -> list[list[Member]]:
        """Join the nearest atoms, by the mean distance of their visits, while they are near."""
        if not atoms:
            return []
        walks = [joined_walk([m.walk for m in members]) for members in atoms]
        cameras = [members[0].camera for members in atoms]
        projected = [
            self._data.measure.project(PlacedWalk(w, c))
            for w, c in zip(walks, cameras, strict=True)
        ]
        distances = np.array(self._data.measure.pairwise(projected), np.float64)
        limit = self._limit(min(walk.seen for walk in walks))
        for i, members in enumerate(atoms):
            for j, others in enumerate(atoms):
                together = any(a.overlaps(b) for a in members for b in others if a is not b)
                if i == j or together or (own[i] and own[j]):
                    distances[i, j] = np.inf
        return _average_linkage(atoms, distances, limit)

    def _distances(self, member: Member, others: list[Member]) -> Floats:
        """Return the distances of a visit to others, [n]."""
        measure, ours = self._data.measure, PlacedWalk(member.walk, member.camera)
        return measure.to_all(ours, [PlacedWalk(m.walk, m.camera) for m in others])

    def _limit(self, seen: float) -> float:
        return self._data.measure.limit(CLUSTER_FPIR, seen, max(1, len(self._members)))

    def _member(self, row: VisitRow, walks: list[KeptWalk]) -> Member | None:
        if not walks:
            return None
        return Member.of(row, joined_walk([kept.walk for kept in walks]))

    def _new(self) -> int:
        with self._data.store.transaction() as db:
            (number,) = db.execute("SELECT next_label FROM head").fetchone()
            db.execute("UPDATE head SET next_label = next_label + 1")
            return int(
                db.execute(
                    "INSERT INTO clusters (label) VALUES (?)", (f"Unknown {number}",)
                ).lastrowid
                or 0
            )

    def _drop_empty(self) -> None:
        """Delete groups without visits, but for those that a join can bring back."""
        self._members = defaultdict(list, {k: m for k, m in self._members.items() if m})
        self._data.store.write(
            "DELETE FROM clusters WHERE id NOT IN"
            " (SELECT cluster FROM visits WHERE cluster IS NOT NULL)"
        )


def _average_linkage(
    atoms: list[list[Member]], distances: Doubles, limit: float
) -> list[list[Member]]:
    """Return groups of atoms: the nearest two are joined until none are nearer than a limit.

    Args:
        atoms: What is joined.
        distances: Mean distances between them, [n, n], infinite for those that never join.
        limit: Distance from which two stay apart.
    """
    groups: list[list[Member] | None] = [list(members) for members in atoms]
    sizes = np.array([len(members) for members in atoms], np.float64)
    while True:
        i, j = np.unravel_index(int(distances.argmin()), distances.shape)
        if not distances[i, j] < limit:
            return [group for group in groups if group]
        joined = (sizes[i] * distances[i] + sizes[j] * distances[j]) / (sizes[i] + sizes[j])
        distances[i], distances[:, i] = joined, joined
        distances[j], distances[:, j] = np.inf, np.inf
        distances[i, i] = np.inf
        sizes[i] += sizes[j]
        groups[i] = [*(groups[i] or []), *(groups[j] or [])]
        groups[j] = None
