"""The way from one box to the gallery of a server: changes go there, answers come from a replica.

The replica is a gallery file of its own. It takes over changes within about a second. While the
server is away it goes on to be searched; every answer looks whether the server is back, and waits
then until all that was missed is taken over. Sums of cameras are learned in the replica and brought
to the server from time to time. Nothing else is written without the server.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from cstl_edge.errors import CstlEdgeError, DamagedGallery, GalleryError, ServerAway
from cstl_edge.gallery.backups import erase_in_backups
from cstl_edge.gallery.erasure import Erasure, erase, finish
from cstl_edge.gallery.keys import GalleryKey
from cstl_edge.gallery.people import utc_timestamp
from cstl_edge.gallery.postgres import PostgresRows
from cstl_edge.gallery.replica_cameras import CameraSync
from cstl_edge.gallery.replica_file import heal, open_replica
from cstl_edge.gallery.replication import pull, undone_erasures
from cstl_edge.gallery.rows import Rows
from cstl_edge.gallery.sealed_rows import Result, SealedRows
from cstl_edge.gallery.server_address import ServerAddress
from cstl_edge.gallery.server_probe import ServerProbe
from cstl_edge.gallery.store import GalleryStore

POLL_S = 1.0  # between two looks for changes
LOOK_S = 0.2  # between two looks whether a server that is away is back
RETRY_S = 4.0  # at most, between two tries to connect
REST = 4  # times as long as a try that failed took, before the next one
CAMERAS_S = 30.0  # between two exchanges of the sums of cameras
AGAIN_S = 60.0  # between two looks whether an erasure of another box was left unfinished
SKEW = timedelta(minutes=1)  # by which a clock is worth a warning
CLOSE_S = 1.5  # for the thread to end
WAIT_S = 2.0  # for a look that is on its way
OLD_S = 5.0  # without a look, such as after a sleep of the machine: then one precedes an answer

logger = logging.getLogger(__name__)


class ServerLink:
    """A connection to the gallery of a server, and the file that follows it."""

    def __init__(
        self,
        address: ServerAddress,
        *,
        create: bool,
        key: GalleryKey,
        encrypt: bool,
        clock: Callable[[], datetime],
    ) -> None:
        """Connect and bring the replica up to date; without the server, use it as it is.

        Args:
            address: Of the server's gallery.
            create: Whether a gallery is made where there is none.
            key: Where the secret of an encrypted gallery comes from.
            encrypt: Whether a gallery that is made is encrypted.
            clock: Gives the time in UTC.

        Raises:
            GalleryError: The gallery is refused, or the server is away and there is no replica.
        """
        self.address, self.path = address, address.replica
        self._create, self._key, self._encrypt, self._own_clock = create, key, encrypt, clock
        self._ahead = self._warned_ahead = timedelta()  # of the server's clock to this machine's
        self._lock = threading.RLock()
        self._server: PostgresRows | None = None
        self._replica: Rows | None = None
        self._fault: GalleryError | None = None  # why no answer may be given
        self._stop, self._thread = (
            threading.Event(),
            threading.Thread(target=self._follow, name="gallery replica", daemon=True),
        )
        self._seen: bytes | None = None  # head of the server at the last look
        self._looked_s = self._cameras_s = -float("inf")
        self._probe = ServerProbe(address.parameters)
        self._next_try_s = 0.0  # of the monotonic clock
        self._is_returning = False  # the server was away, and is about to be tried
        self._next_finish_s = 0.0  # of the monotonic clock
        self._away = ""  # why the server cannot be reached
        self._camera_fault = ""  # why sums of cameras were not exchanged the last time
        self.is_online = False
        self._begin()
        self._thread.start()

    def _begin(self) -> None:
        try:
            self._reach()
        except ServerAway as err:
            if not self.path.exists():
                raise
            self._note_away(err)
        self._open_replica()

    def clock(self) -> datetime:
        """Return the time in UTC by the clock of the server, as far as it was heard of.

        One clock decides for all boxes when a retention ends and which change is the later one.
        """
        return self._own_clock() + self._ahead

    @contextlib.contextmanager
    def changing(self, *, fresh: bool = True) -> Iterator[GalleryStore]:
        """Give the server's store for one change, which the replica takes over at its end.

        fresh: whether the replica is brought up to date first

        Raises ServerAway, or another GalleryError where the change is refused.
        """
        with self._lock:
            self._reach(look=fresh)
            assert self._server is not None
            yield GalleryStore(self._server, self.clock)
            try:
                self._look(force=True)
            except ServerAway as err:  # the change is stored; the replica follows later
                self._note_away(err)

    def freshen(self) -> None:
        """Take over what changed where the last look is too long ago, or the server is back.

        Raises GalleryError for a fault.
        """
        if self._is_behind():
            if self._lock.acquire(timeout=WAIT_S):
                try:
                    if self._is_behind():  # still: the thread may have been faster
                        self._try()
                finally:
                    self._lock.release()
            else:  # the thread is about to find out; not every answer waits for it
                self._next_try_s = time.monotonic() + RETRY_S
        if self._fault is not None:
            raise self._fault

    def healed(self, read: Callable[[], Result]) -> Result:
        """Read from the replica; where that is damaged, again after its damaged rows were copied.

        Raises GalleryError where the server is away or damaged itself, or where more than rows is
        damaged: then the next opening makes the replica again.
        """
        try:
            return read()
        except DamagedGallery:
            if not self.is_online:
                raise
            self.heal()
        return read()

    def finish(self, rows: SealedRows) -> Erasure:
        """Erase what a change left on the server; returns what must wait.

        rows: those of the change, inside `changing`
        """
        assert isinstance(rows, PostgresRows)
        if not rows.head().unfinished:
            return Erasure()
        try:
            with rows.alone(wait=True):
                return finish(rows)
        except GalleryError as err:  # the change itself is stored
            return Erasure([str(err)])

    @property
    def fault(self) -> str | None:
        """Why no answer may be given, None without a reason."""
        return None if self._fault is None else str(self._fault)

    def heal(self) -> None:
        """Copy from the server what is damaged in the replica (GalleryError)."""
        with self._lock:
            if self._server is not None and self._replica is not None:
                heal(self._server, self._replica, self.clock)

    def take_key(self, key: GalleryKey | None) -> None:
        """Use another secret, after the gallery's key was changed."""
        if key is not None:
            self._key = key
            for rows in (self._server, self._replica):
                if rows is not None:
                    rows.key = key

    def close(self) -> None:
        """Bring the sums of cameras to the server, if it is there, and close both."""
        self._stop.set()
        self._thread.join(CLOSE_S)
        if not self._lock.acquire(timeout=0.1):
            return  # it waits for a network that is silent; the end of the process ends it
        try:
            with contextlib.suppress(GalleryError):
                if self.is_online:
                    self._exchange_cameras()
            for rows in (self._server, self._replica):
                if rows is not None:
                    rows.close()
            self._server = self._replica = None
        finally:
            self._lock.release()
        self._probe.close()

    def _is_behind(self) -> bool:
        """Return whether there may be changes on the server to take over before an answer."""
        now = time.monotonic()
        if now < self._next_try_s:
            return False
        if self._is_returning:
            return True
        return now - self._looked_s > OLD_S if self.is_online else self._probe.answers()

    def _follow(self) -> None:
        resolved_s = -float("inf")
        while not self._stop.wait(POLL_S if self.is_online else LOOK_S):
            if not self.is_online and time.monotonic() - resolved_s > RETRY_S:
                self._probe.resolve()  # its address may be another one by now
                resolved_s = time.monotonic()
            if self._fault is not None and time.monotonic() < self._next_try_s:
                continue
            if self.is_online or self._probe.is_blind or self._is_behind():
                self._is_returning = not self.is_online
                with self._lock:
                    self._try()
                self._is_returning = False

    def _try(self) -> None:
        """Reach the server and take over what changed; note what is in the way."""
        begun_s = time.monotonic()
        try:
            self._reach()
            if time.monotonic() - self._cameras_s > CAMERAS_S:
                self._exchange_cameras()
        except ServerAway as err:
            self._note_away(err)
            took_s = time.monotonic() - begun_s
            self._next_try_s = time.monotonic() + min(REST * took_s, RETRY_S)
        except CstlEdgeError as err:
            if str(err) != str(self._fault):  # said once, not at every try
                logger.warning("%s", err)
            self._next_try_s = time.monotonic() + RETRY_S
            self._fault = err if isinstance(err, GalleryError) else GalleryError(str(err))

    def _exchange_cameras(self) -> None:
        self._cameras_s = time.monotonic()
        if self._server is None or self._replica is None:
            return
        try:
            CameraSync(self._server, self._replica, self.clock).run()
            self._camera_fault = ""
        except ServerAway:
            raise
        except CstlEdgeError as err:  # such as a user who may only read: answers go on
            if str(err) != self._camera_fault:  # said once, and again where the cause is another
                logger.warning("sums of cameras are not exchanged with the server: %s", err)
            self._camera_fault = str(err)

    def _note_away(self, err: ServerAway) -> None:
        if err.message != self._away:  # said once, and again where the cause is another
            logger.warning("%s; searches go on in the replica", err.message)
        self.is_online, self._away = False, err.message

    def _reach(self, *, look: bool = True) -> None:
        """Connect where that is needed, and bring the replica up to date (GalleryError)."""
        if self._server is None:
            self._server = PostgresRows(
                self.address, create=self._create, key=self._key, encrypt=self._encrypt
            )
            self._create = self._encrypt = False
            self._probe.resolve()
        if look:
            if not self.is_online:
                self._seen = None
            self._look()
            if not self.is_online and self._replica is not None:
                logger.info("gallery '%s': the replica is up to date", self.address.shown)
            self.is_online, self._fault, self._away = True, None, ""

    def _look(self, *, force: bool = False) -> None:
        """Take over what changed on the server (GalleryError)."""
        assert self._server is not None
        self._open_replica()
        assert self._replica is not None
        with self._server.transaction():
            row = self._server.one("SELECT body FROM head")
            unfinished = self._server.head().unfinished
            self._compare_clocks(self._server.now())
        if unfinished:
            self._finish_of_others()
        head = bytes(row[0])
        if force or head != self._seen:
            self._notice_set_back()
            pull(self._server, self._replica)
            self._seen = head
            if self._replica.head().unfinished:
                finish(self._replica)
                erase_in_backups(self._replica, only_pending=True)
        self._looked_s = time.monotonic()

    def _compare_clocks(self, server: datetime) -> None:
        """Note by how much the server's clock is ahead, and say so where that is much."""
        self._ahead = server - self._own_clock()
        if abs(self._ahead - self._warned_ahead) <= SKEW:
            return
        self._warned_ahead = self._ahead
        minutes = round(abs(self._ahead) / timedelta(minutes=1))
        if minutes == 0:
            return
        logger.warning(
            "the clock of this machine is %d min %s that of the gallery server '%s', which decides"
            " when retentions end: set the one that is wrong",
            minutes, "behind" if self._ahead > timedelta() else "ahead of", self.address.shown,
        )  # fmt: skip

    def _finish_of_others(self) -> None:
        """Finish an erasure whose box was interrupted; one that is at it is left alone."""
        assert self._server is not None
        if time.monotonic() < self._next_finish_s:
            return
        self._next_finish_s = time.monotonic() + AGAIN_S
        try:
            with self._server.alone(wait=False) as is_alone:
                if is_alone:
                    finish(self._server)
        except ServerAway:
            raise
        except GalleryError as err:  # such as a user who may only read: others will
            logger.debug("%s", err)

    def _notice_set_back(self) -> None:
        """Erase from a server that was set back whom this replica knows to be erased."""
        assert self._server is not None
        assert self._replica is not None
        undone = undone_erasures(self._server, self._replica)
        theirs, ours = self._server.head(), self._replica.head()
        is_older = theirs.gallery == ours.gallery and theirs.revision + 1 < ours.revision
        if undone:
            erase(self._server, undone, utc_timestamp(self.clock()))
            finish(self._server)
        if undone or is_older:
            logger.warning(
                "the gallery of the server '%s' was set back to an earlier state, such as a backup:"
                " %d people who were erased since have been erased again; enroll again who was"
                " enrolled since", self.address.shown, len(undone),
            )  # fmt: skip

    def _open_replica(self) -> None:
        if self._replica is None:
            self._replica = open_replica(self.path, self._key, self._server)
