"""What the command line did to the gallery since the service looked last: names, merges, erasures.

People are told apart by what a rename leaves: a number, and the numbers and times of their walks.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from cstl_edge.gallery.administration import PersonIdentity
from cstl_edge.serve.store import Store

Identities = Mapping[int, PersonIdentity]
MARK = "\x01"  # no name has it


@dataclass(frozen=True)
class GalleryNews:
    """Changes of who is who."""

    renamed: tuple[tuple[str, str], ...] = ()  # former name, present name
    merged: tuple[tuple[str, str, tuple[int, ...]], ...] = ()  # who stays, who goes, their walks
    erased: tuple[str, ...] = ()

    @property
    def steps(self) -> list[tuple[str, str]]:
        """The renames in an order in which no two people ever have one name."""
        taken = {former for former, _ in self.renamed}
        if not any(name in taken for _, name in self.renamed):
            return list(self.renamed)
        return [(former, former + MARK) for former, _ in self.renamed] + [
            (former + MARK, name) for former, name in self.renamed
        ]


def news(
    before: Identities, now: Identities, held: Collection[str], *, erased: bool
) -> GalleryNews:
    """Compare two looks at a gallery.

    Args:
        before: People of the last look.
        now: People at present.
        held: Names that the store still holds.
        erased: Whether the gallery says that somebody was erased since.
    """
    owners = {walk: who.name for who in now.values() for walk in who.walks}
    former = {number: before[number].name for number in before if number in now}
    names_before = {who.name: number for number, who in before.items()}
    merged, gone = [], []
    for number in before.keys() - now.keys():
        who = before[number]
        moved = [walk for walk in who.walks if walk in owners]
        if moved:
            numbers = tuple(sorted(int(walk.split()[0]) for walk in moved))
            merged.append((owners[moved[0]], who.name, numbers))
        else:
            gone.append(who.name)
    enrolled = {who.name for who in now.values()}
    strangers = [name for name in held if name not in enrolled and name not in names_before]
    return GalleryNews(
        tuple((name, now[n].name) for n, name in former.items() if now[n].name != name),
        tuple(merged),
        tuple(sorted({*gone, *strangers})) if erased else (),
    )


def read_identities(store: Store) -> dict[int, PersonIdentity]:
    """Return the people of the last look."""
    rows = store.all("SELECT number, name, walks FROM identities")
    return {
        number: PersonIdentity(name, frozenset(json.loads(walks))) for number, name, walks in rows
    }


def write_identities(store: Store, people: Identities) -> None:
    """Store the people of this look, in place of those of the last."""
    with store.transaction() as db:
        db.execute("DELETE FROM identities")
        db.executemany(
            "INSERT INTO identities VALUES (?, ?, ?)",
            [(n, who.name, json.dumps(sorted(who.walks))) for n, who in people.items()],
        )
