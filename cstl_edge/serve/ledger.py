"""Diary of visits: events and rows, pictures that are asked for, walks that are kept."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from cstl_edge.errors import CstlEdgeError
from cstl_edge.gallery.match import Decision
from cstl_edge.live.events import Event, EventName, ReasonCode
from cstl_edge.live.pipeline.options import PipelineOptions
from cstl_edge.live.sources.base import redact
from cstl_edge.serve.corrected_gallery import CorrectedGallery
from cstl_edge.serve.kept_walks import KeptWalk
from cstl_edge.serve.media import strip_png
from cstl_edge.serve.messages import (
    Clip,
    ClipRequest,
    Message,
    SnapshotRequest,
    TrackSnapshot,
    camera_process,
)
from cstl_edge.serve.service_data import ServiceData
from cstl_edge.serve.stays import Stay
from cstl_edge.serve.unknowns import Unknowns

SAVE_EVERY_S = 5.0  # of a visit that goes on and about which nothing changes
LEAST_FRAMES = PipelineOptions().min_frames
SAID_BY_USERS = ("answer", "person", "cluster", "reason_code", "reason", "corrected_by")
MAX_DETAIL = 500  # characters
MAX_WAITING = 500  # pictures and clips that were asked for

log = logging.getLogger(__name__)

Send = Callable[[str, Message], object]


class Ledger:
    """Writes what `Visits` decides; a `visits.Diary`."""

    def __init__(
        self, data: ServiceData, gallery: CorrectedGallery, unknowns: Unknowns, send: Send
    ) -> None:
        """Use the recogniser's parts.

        Args:
            data: What is kept.
            gallery: Searched for walks of visits.
            unknowns: Groups of unknown visitors.
            send: Hands a message to a peer.
        """
        self._data, self._gallery, self._unknowns, self._send = data, gallery, unknowns, send
        self._asked: dict[str, str] = {}  # ids of pictures and clips -> visits
        self._number = 0
        self.find: Callable[[str], Stay | None] = lambda _: None  # of a visit in memory
        self.answers: dict[tuple[str, str], int] = {}  # told ones by answer and reason's code

    def tell(self, stay: Stay, name: EventName, detail: str | None = None) -> None:
        """Write a visit and an event about it; what a picture is worth is asked for with an answer.

        Args:
            stay: The visit.
            name: Kind of the event.
            detail: More for people.
        """
        with self._data.store.transaction():
            self._write(stay)
            stay.said = stay.says
            self._data.tell(self._event(stay, name, detail))
        if name in ("named", "closed"):
            key = (stay.row.answer, stay.row.reason_code or "")
            self.answers[key] = self.answers.get(key, 0) + 1
        if name == "named":
            self.ask_for_snapshot(stay)

    def save(self, stay: Stay) -> None:
        """Write a visit."""
        with self._data.store.transaction():
            self._write(stay)

    def save_now_and_then(self, stay: Stay) -> None:
        """Write a visit that goes on, every few seconds."""
        if (self._data.clock() - stay.last_utc).total_seconds() > SAVE_EVERY_S:
            return
        if stay.last_utc.timestamp() - stay.saved_s > SAVE_EVERY_S:
            stay.refresh()
            self.save(stay)
        clips = self._data.site.keep.clips
        length = (stay.last_utc - stay.tracks[0].born_utc).total_seconds() + clips.before_s
        if length >= clips.max_s:  # while the camera still has the pictures
            self._ask_for_clip(stay)

    def decide(self, stay: Stay) -> Decision | None:
        """Search the gallery for the walk of a visit."""
        walk, site = stay.walk, self._data.site
        if walk is None:
            return None
        camera = site.cameras.get(stay.camera)
        fpir = (camera.fpir if camera else None) or site.fpir
        threshold = camera.threshold if camera else None
        return self._gallery.identify(walk, fpir, threshold, camera=stay.camera, learn=False)

    def finish(self, stay: Stay) -> None:
        """Write the last word of a visit, its walk and its strip, as far as they are kept."""
        walks = stay.kept_walks()
        with self._data.store.transaction():
            self._write(stay)
            self.file_walks(stay, walks)
            self.tell(stay, "closed", detail=self._account(stay))
        self._keep_strip(stay)
        self._ask_for_clip(stay)

    def file_walks(self, stay: Stay, walks: list[KeptWalk]) -> None:
        """Keep the walks of a visit where they may be kept, and group those of unknowns."""
        self._data.remember(stay.id, walks)
        row = stay.row
        if row.answer == "unknown":
            cluster = self._unknowns.assign(row, walks)
            stay.change(cluster=cluster, has_walk=cluster is not None)
            if cluster is not None:
                self._data.keep_walks(row.id, walks)
        elif row.answer == "known":
            stay.change(has_walk=bool(walks))
            self._data.keep_walks(row.id, walks)

    def absorb(self, gone: Stay, into: Stay) -> None:
        """Give what is stored of a visit to the one that it is a part of."""
        self._asked = {
            key: into.id if visit == gone.id else visit for key, visit in self._asked.items()
        }
        with self._data.store.transaction() as db:
            self._write(into)
            for media in self._data.media.rows("visit = ?", gone.id):
                db.execute("UPDATE media SET visit = ? WHERE id = ?", (into.id, media.id))
                if getattr(into.row, media.kind) is None:
                    into.change(**{media.kind: media.id})
            db.execute("UPDATE corrections SET visit = ? WHERE visit = ?", (into.id, gone.id))
            if gone.row.corrected_by is not None and into.row.corrected_by is None:
                into.change(**{name: getattr(gone.row, name) for name in SAID_BY_USERS})
            self._write(into)
            detail = f"it is a part of visit {into.id}: the same walk"
            gone.change(ended_utc=gone.row.seen_utc)
            self._data.tell(self._event(gone, "closed", detail))
            db.execute("DELETE FROM visits WHERE id = ?", (gone.id,))

    def ask_for_snapshot(self, stay: Stay) -> None:
        """Ask the worker for the best picture of a visit's newest track."""
        if not self._data.site.keep.snapshots.enabled:
            return
        track = stay.track
        request = SnapshotRequest(stay.camera, track.run, track.number, self._ask(stay))
        self._send(camera_process(stay.camera), request)

    def take_snapshot(self, message: TrackSnapshot) -> None:
        """Keep a picture that came, in place of the one before."""
        visit = self._asked.pop(message.id, None)
        if visit is None or message.jpeg is None or self._data.store.visit(visit) is None:
            return
        before = self._data.media.rows("visit = ? AND kind = 'snapshot'", visit)
        try:
            row = self._data.media.add(
                "snapshot", visit, message.jpeg, "image/jpeg", self._data.clock()
            )
        except CstlEdgeError as err:
            log.warning("a picture is not kept: %s", err)
            return
        self._data.media.remove(before)
        self._note_media(visit, "snapshot", row.id)

    def take_clip(self, message: Clip) -> None:
        """Keep a clip that a worker made."""
        visit = self._asked.pop(message.id, None)
        path = Path(message.path) if message.path else None
        if path is None:
            return
        spool = self._data.site.spool.resolve()
        if not path.resolve().is_relative_to(spool):
            log.warning("a clip outside of the spool folder is not taken")
            return
        try:
            if visit is None or self._data.store.visit(visit) is None:
                path.unlink(missing_ok=True)
                return
            before = self._data.media.rows("visit = ? AND kind = 'clip'", visit)
            row = self._data.media.take_over(
                "clip", visit, path, message.media_type, self._data.clock()
            )
            self._data.media.remove(before)
        except (CstlEdgeError, OSError) as err:
            log.warning("a clip is not kept: %s", err)
            return
        self._note_media(visit, "clip", row.id)

    def _note_media(self, visit: str, kind: str, media: str) -> None:
        """Note a picture in the visit, if that is in memory; tell of the first one."""
        stay = self.find(visit)
        if stay is None:
            return
        first = kind == "snapshot" and stay.row.snapshot is None and not stay.finished
        stay.change(**{kind: media})
        if first:
            self.tell(stay, "changed", "there is a picture")

    def _write(self, stay: Stay) -> None:
        stay.saved_s = stay.last_utc.timestamp()
        self._data.store.put_visit(stay.row)

    def consider(self, stay: Stay) -> None:
        """Look whether somebody unknown, who goes on, seems to be one who was here before."""
        if stay.row.answer != "unknown" or stay.row.cluster is not None:
            return
        walk = stay.walk
        cluster = None if walk is None else self._unknowns.guess(stay.row, walk)
        if cluster is not None:
            stay.change(cluster=cluster)

    def _event(self, stay: Stay, name: EventName, detail: str | None) -> Event:
        row, track = stay.row, stay.track
        x, y, width, height = track.box
        camera = self._data.site.cameras.get(stay.camera)
        return Event(
            event=name,
            source=redact(camera.source) if camera else stay.camera,
            camera=stay.camera,
            utc=self._data.clock(),
            time_s=track.last_s,
            detail=detail,
            track=track.number,
            visit=stay.id,
            started_utc=min(t.born_utc for t in stay.tracks),
            ended_utc=stay.last_utc if name == "closed" else None,
            box=(x, y, x + width, y + height),
            zone=row.zone,
            answer=row.answer,
            person=row.person,
            cluster=None if row.cluster is None else str(row.cluster),
            reason_code=None if row.reason_code is None else ReasonCode(row.reason_code),
            reason=row.reason,
            distance=row.distance,
            threshold=row.threshold,
            margin=row.margin,
            runner_up=row.runner_up,
            confidence=row.confidence,
            frames=row.frames,
            latency_ms=stay.latency_ms if name == "named" else None,
            model=row.model,
            snapshot=row.snapshot,
        )

    def _account(self, stay: Stay) -> str:
        texts = [track.state.account(LEAST_FRAMES) for track in stay.tracks]
        return "; ".join(texts)[:MAX_DETAIL]

    def _keep_strip(self, stay: Stay) -> None:
        frames = stay.strip()
        if not frames or not self._data.site.keep.snapshots.enabled:
            return
        try:
            png, now = strip_png(frames), self._data.clock()
            row = self._data.media.add("strip", stay.id, png, "image/png", now)
        except CstlEdgeError as err:
            log.warning("a strip of silhouettes is not kept: %s", err)
            return
        stay.change(strip=row.id)

    def _ask_for_clip(self, stay: Stay) -> None:
        clips = self._data.site.keep.clips
        if not clips.enabled or stay.clip_asked:
            return
        stay.clip_asked = True
        started = stay.tracks[0].born_utc - timedelta(seconds=clips.before_s)
        ended = min(stay.last_utc, started + timedelta(seconds=clips.max_s))
        request = ClipRequest(stay.camera, self._ask(stay), started, ended)
        self._send(camera_process(stay.camera), request)

    def _ask(self, stay: Stay) -> str:
        self._number += 1
        key = f"{stay.id}-{self._number}"
        self._asked[key] = stay.id
        while len(self._asked) > MAX_WAITING:
            del self._asked[next(iter(self._asked))]
        return key
