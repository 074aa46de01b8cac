"""The process that owns model, gallery and store: observations of all cameras in, events out.

Everything runs in one thread: a message is taken, then what is due. `main` is the process;
`Recogniser` is the same without one, for tests.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from cstl_edge.errors import CstlEdgeError, ServerRefuses
from cstl_edge.gallery.gallery import Gallery
from cstl_edge.gallery.people import utc_now
from cstl_edge.runtime.base import Encoder
from cstl_edge.runtime.load import load
from cstl_edge.serve.alike import WalkMeasure
from cstl_edge.serve.cameras import Cameras
from cstl_edge.serve.child import Child
from cstl_edge.serve.corrected_gallery import CorrectedGallery
from cstl_edge.serve.corrections import Corrections
from cstl_edge.serve.enrolled import Enrolled
from cstl_edge.serve.enrolment import Enrolments
from cstl_edge.serve.erasure import Erasures
from cstl_edge.serve.ledger import Ledger
from cstl_edge.serve.media import Media
from cstl_edge.serve.messages import (
    FRONT,
    CameraState,
    Clip,
    Command,
    Message,
    Observation,
    Reload,
    Reply,
    TracksEnded,
    TrackSnapshot,
)
from cstl_edge.serve.naming import Naming
from cstl_edge.serve.recordings import Recordings
from cstl_edge.serve.requests import Parts, Requests
from cstl_edge.serve.retention import Retention, free_bytes
from cstl_edge.serve.service_data import ServiceData
from cstl_edge.serve.site import Site
from cstl_edge.serve.store import Store
from cstl_edge.serve.unknowns import Unknowns
from cstl_edge.serve.visits import Visits

WAIT_S = 0.2  # for the next message
TICK_S = 0.2  # between looks at what is due
RETAIN_EVERY_S = 600.0  # between looks at retention
ASK_AGAIN_S = 5.0  # between two tries to open a gallery that a server refuses
FOLLOW_EVERY_S = 5.0  # between looks whether the command line has changed the gallery
ERASE_AGAIN_S = 10.0  # between tries to finish an erasure
SPACE_EVERY_S = 10.0  # between looks at sizes, for the Health page
RECLUSTER_EVERY_S = 24 * 3600.0

Send = Callable[[str, Message], object]

PLAIN_NAMES = "names, events and pictures in the data folder are not"

log = logging.getLogger(__name__)


class Recogniser:
    """Model, gallery and store of a site, at work."""

    def __init__(
        self,
        site: Site,
        send: Send,
        encoder: Encoder,
        *,
        clock: Callable[[], datetime] = utc_now,
        free: Callable[[Path], int] = free_bytes,
    ) -> None:
        """Open gallery and store.

        Args:
            site: What the service runs.
            send: Hands a message to a peer, without waiting.
            encoder: Embeds silhouettes; stays the caller's to close.
            clock: Returns the present time, UTC.
            free: Given a folder, returns the free bytes of its disk.

        Raises:
            GalleryError: The gallery does not open, or holds another model's templates.
            StorageError: The store does not open.
        """
        self._send, self._encoder, self._clock = send, encoder, clock
        with contextlib.ExitStack() as opened:
            store = Store(site.data)
            opened.callback(store.close)
            site.spool.mkdir(mode=0o700, exist_ok=True)
            place = site.gallery_path
            if isinstance(place, Path):
                place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            gallery = Gallery.open(place, encoder, clock=clock)
            opened.callback(gallery.close)
            media = Media(store)
            media.sweep()
            self.data = ServiceData(
                site=site,
                store=store,
                gallery=gallery,
                info=encoder.info,
                measure=WalkMeasure(gallery, encoder.info),
                media=media,
                clock=clock,
                announce=lambda message: self._send(FRONT, message),
            )
            self._end_open_visits()
            self._build(free)
            self._opened = opened.pop_all()
        self._due = {"recluster": time.monotonic() + RECLUSTER_EVERY_S}
        self._space = {"store_bytes": 0.0, "free_bytes": 0.0}
        self._commands = 0

    def _build(self, free: Callable[[Path], int]) -> None:
        """Make the parts."""
        data = self.data
        corrections = Corrections(data)
        self.gallery = CorrectedGallery(data.gallery, corrections.ruled_out)
        self.unknowns = Unknowns(data)
        self._ledger = Ledger(data, self.gallery, self.unknowns, self._send)
        self.visits = Visits(data.measure, self._ledger, data.model)
        self._ledger.find = self.visits.find
        self.cameras = Cameras(
            data, self._encoder, self.gallery, self.visits, self._ledger, self.unknowns, self._send
        )
        enrolled, self.erasures = Enrolled(data), Erasures(data)
        self._enrolled = enrolled
        self.enrolments = Enrolments(data)
        naming = Naming(
            data,
            self.visits,
            self._ledger,
            self.unknowns,
            corrections,
            enrolled,
            self.enrolments,
            self.erasures,
        )
        self._naming = naming
        self.recordings = Recordings(data.site.spool, data.site.model, data.site.segmenter)
        self.retention = Retention(data, self.erasures, self.unknowns, enrolled, free)
        parts = Parts(
            data=data,
            gallery=self.gallery,
            corrections=corrections,
            enrolled=enrolled,
            enrolments=self.enrolments,
            erasures=self.erasures,
            ledger=self._ledger,
            naming=naming,
            recordings=self.recordings,
            retention=self.retention,
            unknowns=self.unknowns,
        )
        self.requests = Requests(parts, self._reply)
        naming.follow_gallery()

    def receive(self, peer: str, message: Message) -> None:
        """Take a message of a worker, the front or the supervisor."""
        if isinstance(message, Observation):
            self.cameras.observe(message)
            self._look_at_enrolment()
        elif isinstance(message, TracksEnded):
            self.cameras.end_tracks(message)
        elif isinstance(message, CameraState):
            self.cameras.take_state(message)
        elif isinstance(message, TrackSnapshot):
            self._ledger.take_snapshot(message)
        elif isinstance(message, Clip):
            self._ledger.take_clip(message)
        elif isinstance(message, Command):
            self._commands += 1
            self.requests.answer(message)
        elif isinstance(message, Reload):
            self.data.site = message.site
            self.recordings.segmenter = message.site.segmenter
            self.cameras.follow_site()

    def tick(self) -> None:
        """Do what is due."""
        self.visits.tick(self._clock())
        self.recordings.poll()
        self._look_at_enrolment()
        for name, every_s, run in (
            ("erase", ERASE_AGAIN_S, self._finish_erasures),
            ("follow", FOLLOW_EVERY_S, self._follow_gallery),
            ("retain", RETAIN_EVERY_S, self._retain),
            ("recluster", RECLUSTER_EVERY_S, self._recluster),
            ("space", SPACE_EVERY_S, self._measure_space),
        ):
            if time.monotonic() >= self._due.get(name, 0.0):
                self._due[name] = time.monotonic() + every_s
                try:
                    run()
                except CstlEdgeError as err:  # a full disk: tried again at the next look
                    log.warning("%s: %s", name, err)

    def figures(self) -> dict[str, float]:
        """Return what the Health page and the metrics show."""
        return {
            "frames_total": float(self.cameras.frames),
            "walkers": float(self.cameras.walkers),
            "visits_open": float(len(self.visits.open)),
            "commands_total": float(self._commands),
            "erasures_unfinished": float(len(self.erasures.unfinished)),
            **self._space,
        }

    def texts(self) -> dict[str, str]:
        """Return what the Health page says of model and gallery in words."""
        info, encrypted = self._encoder.info, self.data.gallery.encrypted
        sealing = f"encrypted; {PLAIN_NAMES}" if encrypted else "not encrypted"
        return {
            "backend": info.backend,
            "device": info.provider,
            "precision": info.precision,
            "model": f"{info.model_name} ({self.data.model or 'weights not known'})",
            "gallery": _where(self.data.gallery) + sealing,
        }

    def counts(self) -> dict[str, dict[tuple[str, ...], float]]:
        """Return answers by kind and reason."""
        answers: dict[tuple[str, ...], float] = {
            key: float(count) for key, count in self._ledger.answers.items()
        }
        return {"answers_total": answers}

    def close(self) -> None:
        """End all visits and close the files; may be called twice."""
        with self._opened:
            self.recordings.close()
            self.cameras.end_all()
            self.visits.tick(self._clock(), everything=True)

    def _reply(self, reply: Reply) -> None:
        self._send(FRONT, reply)

    def _end_open_visits(self) -> None:
        """End the visits that the last run left open: it was killed."""
        store = self.data.store
        store.write("UPDATE visits SET ended_utc = seen_utc WHERE ended_utc IS NULL")

    def _look_at_enrolment(self) -> None:
        session = self.enrolments.current
        if session is not None and self.enrolments.look(self.visits.open):
            self._naming.gallery_changed(session)

    def _finish_erasures(self) -> None:
        if self.erasures.unfinished:
            self.erasures.retry()

    def _follow_gallery(self) -> None:
        """Look whether the command line has changed the gallery."""
        if self._enrolled.is_stale:
            self._naming.follow_gallery()

    def _retain(self) -> None:
        removed = self.retention.run()
        if removed.anything:
            log.info("retention: %s", removed)

    def _recluster(self) -> None:
        if self.unknowns.enabled:
            self.unknowns.recluster()
            self._naming.follow_clusters()

    def _measure_space(self) -> None:
        data = self.data
        self._space = {
            "store_bytes": float(data.store.used_bytes() + data.media.bytes()),
            "free_bytes": float(free_bytes(data.store.folder)),
        }


def main(child: Child, site: Site) -> None:
    """Run the recogniser until the service ends.

    Args:
        child: This process.
        site: What the service runs.
    """
    child.beat(texts={"state": "loading the model"})
    encoder = load(site.model, site.recogniser.backend, threads=1)
    with contextlib.closing(encoder):
        recogniser = _opened(child, site, encoder)
        if recogniser is None:
            return
        if recogniser.data.gallery.encrypted:
            log.warning("the gallery is encrypted; %s: encrypt that disk", PLAIN_NAMES)
        with contextlib.closing(recogniser):
            ticked_s = 0.0
            while not child.stopping.is_set():
                received = child.receive(WAIT_S)
                with contextlib.suppress(ServerRefuses):  # nobody is named; the Health page has it
                    if received is not None:
                        recogniser.receive(*received)
                    if time.monotonic() - ticked_s >= TICK_S:
                        ticked_s = time.monotonic()
                        recogniser.tick()
                child.beat(
                    recogniser.figures(),
                    recogniser.cameras.samples(),
                    recogniser.texts(),
                    recogniser.counts(),
                )


def _where(gallery: Gallery) -> str:
    """Return the server of a gallery and how it is, as the begin of a sentence."""
    if gallery.server is None:
        return ""
    away = "" if gallery.online else ", which is away: answers come from the replica"
    return f"{gallery.fault or f'on {gallery.server}{away}'}; "


def _opened(child: Child, site: Site, encoder: Encoder) -> Recogniser | None:
    """Open gallery and store; wait where a server refuses the gallery, None at the end."""
    refused = ""
    while not child.stopping.is_set():
        try:
            return Recogniser(site, child.send, encoder)
        except ServerRefuses as err:
            if str(err) != refused:  # said once
                log.warning("no answers are given: %s", err)
            refused = str(err)
        again_s = time.monotonic() + ASK_AGAIN_S
        while time.monotonic() < again_s and not child.stopping.is_set():
            child.receive(WAIT_S)  # nobody is named meanwhile
            child.beat(texts={"state": "waits for its gallery", "gallery": refused})
    return None
