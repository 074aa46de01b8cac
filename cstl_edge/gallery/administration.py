"""What can be done with a gallery without a model: list, rename, erase, back up, encrypt."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from cstl_edge.arrays import Silhouettes
from cstl_edge.errors import GalleryError
from cstl_edge.gallery import retention
from cstl_edge.gallery.backups import backup, erase_in_backups, forget_backup
from cstl_edge.gallery.camera_means import CameraMeans
from cstl_edge.gallery.erasure import Erasure, erase, finish, note_of
from cstl_edge.gallery.keys import GalleryKey
from cstl_edge.gallery.loading import Snapshot
from cstl_edge.gallery.people import EnrolledPerson
from cstl_edge.gallery.rekey import rekey
from cstl_edge.gallery.repair import repair
from cstl_edge.gallery.rows import Rows
from cstl_edge.gallery.sealed_rows import Result
from cstl_edge.gallery.sealing import Seal
from cstl_edge.gallery.server_link import ServerLink
from cstl_edge.gallery.store import GalleryStore, nobody
from cstl_edge.gallery.stored_people import find_row, read_people
from cstl_edge.gallery.takeout import export_person, kept_silhouettes
from cstl_edge.gallery.verify import verify
from cstl_edge.gallery.walks import remove_walk, set_retention, split_walks

AGAIN_S = 60.0  # between two tries to finish an erasure

logger = logging.getLogger(__name__)


class GalleryChanges(NamedTuple):
    """Counts of a gallery that rise with changes."""

    gallery: str  # random digits of this gallery, the same in its backups
    revision: int  # rises with every change of people and templates
    erased: int  # people so far


class PersonIdentity(NamedTuple):
    """What tells a person apart whatever they are called."""

    name: str  # at present
    walks: frozenset[str]  # number and time of each


class Administration:
    """An open gallery, as far as no model is needed; every method may be called from any thread."""

    def __init__(self, store: GalleryStore, link: ServerLink | None = None) -> None:
        """Use `Gallery.open`.

        Args:
            store: The people of the file, which is a replica where there is a link.
            link: The way to a gallery on a server.
        """
        assert isinstance(store.rows, Rows)
        self._store, self._file, self._link = store, store.rows, link
        self._lock = threading.RLock()
        self._cache: Snapshot | None = None
        self._purged: list[str] = []
        self._next_look_s = 0.0  # of the monotonic clock
        self.camera_means = CameraMeans(store, self._lock)
        self.unfinished: tuple[str, ...] = ()
        """What the last erasure must leave for later: another process reads, the disk is full, a
        backup is not there. Empty when not a byte is left."""

    @property
    def path(self) -> Path:
        """Path of the file."""
        return self._file.path

    @property
    def server(self) -> str | None:
        """Address of the server whose gallery the file follows, without credentials."""
        return None if self._link is None else self._link.address.shown

    @property
    def online(self) -> bool | None:
        """Whether the server was there at the last look; None without a server."""
        return None if self._link is None else self._link.is_online

    @property
    def fault(self) -> str | None:
        """Why no answers are given, such as a server that refuses this machine; None: they are."""
        return None if self._link is None else self._link.fault

    @contextlib.contextmanager
    def _changing(self, *, fresh: bool = True) -> Iterator[GalleryStore]:
        """Give the people to change, of the file or of the server, and finish what is erased.

        fresh: whether a replica is brought up to date first
        """
        erasure = Erasure()
        try:
            if self._link is None:
                yield self._store
            else:
                with self._link.changing(fresh=fresh) as store:
                    yield store
                    erasure = self._link.finish(store.rows)
        finally:
            self._cache = None
        self._finish_erasure(erasure)

    def _read(self, read: Callable[[], Result]) -> Result:
        """Read from the file; a replica's damaged rows are copied again first (GalleryError)."""
        return read() if self._link is None else self._link.healed(read)

    @property
    def encrypted(self) -> bool:
        """Whether templates, names and notes are encrypted."""
        return self._store.rows.encrypted

    def people(self) -> tuple[EnrolledPerson, ...]:
        """Return everybody in order of name, expired people included."""
        with self._lock:
            return self._read(self._store.people)

    def show(self, name: str) -> EnrolledPerson:
        """Return one person, the name taken in any case; raises GalleryError when there is none."""
        with self._lock:
            people = self._read(partial(self._store.people, name))
            if people:
                return people[0]
            raise nobody(name)

    @property
    def templates(self) -> int:
        """Number of templates, those of expired people included."""
        with self._lock:
            return self._store.count()

    def rename(self, name: str, new_name: str, *, force: bool = False) -> str:
        """Give a person another name, and return it as it is stored.

        Args:
            name: Present name, in any case.
            new_name: Name from now on.
            force: Whether a name that looks like another person's is taken.

        Raises:
            GalleryError: Nobody has the name, somebody has the new one or one that looks like it.
            ConfigError: The new name is not valid.
        """
        with self._lock, self._changing() as store:
            return store.rename(name, new_name, force=force)

    def merge(self, into: str, other: str) -> int:
        """Give all walks of `other` to `into`, and return how many templates moved.

        `other` is then gone from the list; the earlier end of both retentions holds.
        """
        with self._lock, self._changing() as store:
            return store.merge(into, other)

    def walks(self, name: str) -> tuple[int, ...]:
        """Return the numbers of a person's walks, in the order of their enrolment."""
        with self._lock, self._store.rows.transaction():
            return tuple(walk.id for walk in self._store.existing(name).enrolments)

    def remove_walk(self, name: str, walk: int) -> int:
        """Delete one walk of a person without residue; return how many templates it had.

        Args:
            name: Name of the person, in any case.
            walk: Number of the walk; the only one stays.
        """
        with self._lock, self._changing() as store:
            return remove_walk(store, name, walk)

    def split(
        self, name: str, walks: Collection[int], new_name: str, expires_utc: str | None = None
    ) -> int:
        """Give some walks of a person to a new one, as they were before a merge.

        Args:
            name: Name of the person who has them, in any case.
            walks: Numbers of the walks; not all of the person's.
            new_name: Name of the new person.
            expires_utc: End of the new person's retention.

        Returns:
            How many templates moved.
        """
        with self._lock, self._changing() as store:
            return split_walks(store, name, walks, new_name, expires_utc)

    @property
    def changes(self) -> GalleryChanges:
        """What tells whether people came or went, here or by another process."""
        with self._lock:
            head = self._store.rows.head()
            return GalleryChanges(head.gallery, head.revision, head.tombstones)

    def identities(self) -> dict[int, PersonIdentity]:
        """Return everybody by a number that a rename leaves; a merge leaves the walks."""
        with self._lock, self._store.rows.transaction():
            rows = self._store.rows
            return {
                person.id: PersonIdentity(
                    person.record.name,
                    frozenset(f"{walk.id} {walk.record.created_utc}" for walk in person.enrolments),
                )
                for person in read_people(rows, rows.head())
            }

    def set_retention(self, name: str, expires_utc: str | None) -> None:
        """Set when somebody's retention ends, None for never: what undoes a merge.

        Args:
            name: Name of the person, in any case.
            expires_utc: ISO 8601, as `show` has it.
        """
        with self._lock:
            self._cache = None
            set_retention(self._store, name, expires_utc)

    @property
    def seal(self) -> Seal:
        """The seal of its rows, for what belongs to it and lies elsewhere."""
        with self._lock, self._store.rows.transaction():
            return self._store.rows.seal

    def remove(self, name: str) -> int:
        """Erase one person without residue in the files; return how many templates were erased.

        Works for damaged records and on a full disk too. `unfinished` tells what must wait; it is
        finished at the next opening.
        """
        with self._lock, self._changing(fresh=False) as store:
            rows = store.rows
            with rows.transaction():
                row = find_row(rows, name)
            if row is None:
                raise nobody(name)
            count = (
                "SELECT count(*) FROM templates JOIN enrolments ON enrolment_id = enrolments.id"
                " WHERE person_id = ?"
            )
            (templates,) = rows.one(count, row[0])
            erase(rows, [row[0]], store.now())
        return int(templates)

    def purge(self, *, trust_clock: bool = False) -> tuple[str, ...]:
        """Erase people whose retention has ended, and return their names.

        Opening a gallery and `take_purged` do so by themselves. Finishes earlier erasures, too.
        While the clock is in doubt (`retention`), it takes two looks 24 hours apart.

        trust_clock: whether the clock is known to be right
        """
        with self._lock, self._changing() as store:
            return retention.purge(store.rows, store.clock(), trust_clock=trust_clock)

    def take_purged(self) -> tuple[str, ...]:
        """Purge when it is time, and return the names erased so since the last call.

        For long runs: costs nothing but once an hour.
        """
        with self._lock:
            if time.monotonic() >= self._next_look_s and self._store.rows.writable:
                self._next_look_s = time.monotonic() + retention.LOOK_EVERY.total_seconds()
                try:
                    if retention.is_due(self._store.rows.head(), self._store.clock()):
                        self._purged += self.purge()
                    else:
                        self._finish_erasure()
                except GalleryError as err:  # whoever reads the people next will raise it
                    logger.warning("nobody is purged: %s", err)
            names, self._purged = tuple(self._purged), []
            return names

    def export(self, name: str, path: Path) -> int:
        """Write all that is kept about a person to a zip; return how many files it holds."""
        with self._lock:
            return export_person(self._store, name, path)

    def kept_silhouettes(self) -> dict[str, list[Silhouettes]]:
        """Return the silhouettes kept with people's walks, by name; of nobody who is expired."""
        with self._lock:
            return kept_silhouettes(self._store)

    def backup(self, path: Path) -> None:
        """Write all of one state to another file, which later erasures reach (`backups`)."""
        with self._lock:
            backup(self._file, path, self._store.now())

    def backups(self) -> tuple[str, ...]:
        """Return the paths of the known backups."""
        with self._lock:
            return tuple(known.path for known in self._store.rows.head().backups)

    def forget_backup(self, path: Path) -> None:
        """Take a backup that was deleted off the list (GalleryError: it is not on it)."""
        with self._lock:
            if not forget_backup(self._file, path):
                raise GalleryError(f"'{path}' is no known backup: gallery list shows them")

    def rekey(self, key: GalleryKey | None) -> None:
        """Encrypt anew under another key, for the first time, or not any more (None)."""
        with self._lock, self._changing() as store:
            rekey(store.rows, key)
            if self._link is not None:
                self._link.take_key(key)
                self._file.key = key or self._file.key

    def verify(self) -> list[str]:
        """Compare everything with its checksums; return what is damaged, in sentences."""
        with self._lock:
            faults = verify(self._store, self.camera_means)
            if self._link is not None:
                with self._link.changing(fresh=False) as store:
                    faults += verify(store, CameraMeans(store, self._lock))
            return faults

    def repair(self) -> list[str]:
        """Delete people and sums of cameras with damaged rows; return what was done."""
        with self._lock, self._changing(fresh=False) as store:
            done = repair(store.rows, CameraMeans(store, self._lock))
        if self._link is not None:
            self._link.heal()
        return done

    def close(self) -> None:
        """Close the file; may be called twice."""
        with self._lock:
            self._cache = None
            self._file.close()
        if self._link is not None:
            self._link.close()

    def _finish_erasure(self, of_server: Erasure | None = None) -> None:
        """Finish what an erasure left, as far as it can be now.

        of_server: what had to wait on the server
        """
        rows = self._file
        erasure = finish(rows)
        if rows.head().pending_backups:
            erasure.unfinished += erase_in_backups(rows, only_pending=True).unfinished
        if of_server is not None:
            erasure.unfinished += of_server.unfinished
        self.unfinished = tuple(erasure.unfinished)
        if erasure.unfinished:
            self._next_look_s = min(self._next_look_s, time.monotonic() + AGAIN_S)
            logger.warning("%s", note_of(erasure, self.server or rows.path))
