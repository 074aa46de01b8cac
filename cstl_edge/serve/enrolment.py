"""Enrolment of one person: by walking past a camera, from an uploaded video, or from a visit.

A session at a camera takes the walks of whoever is alone in its picture, says how many good windows
it has and from which sides, and ends by itself.
"""

from __future__ import annotations

import secrets
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

import numpy as np

from cstl_edge.errors import CstlEdgeError
from cstl_edge.gallery.match import Decision, SeenWalk
from cstl_edge.gallery.records import WalkOrigin
from cstl_edge.live.events import utc_text
from cstl_edge.serve.alike import PART_FPIR, PlacedWalk
from cstl_edge.serve.kept_walks import KeptWalk, joined_walk
from cstl_edge.serve.recordings import CAMERA, RecordedTrack
from cstl_edge.serve.service_data import RefusedError, ServiceData
from cstl_edge.serve.stays import Stay, kept_walks_of

WANTED = 6  # good windows of up to 30 frames, of which two overlap by at most a half
LEAST = 3  # with which an enrolment ends well all the same
WANTED_VIEWS = 2  # sides from which somebody is seen
MOST = 20  # windows, however few the sides
LIMIT = timedelta(seconds=180)  # without a further good window
LONGEST = timedelta(seconds=600)
LEAST_SEEN = 1.0  # windows of a walk that counts
LOOK_EVERY = timedelta(seconds=0.5)

State = Literal["waiting", "walking", "done", "failed", "stopped"]
MESSAGES = {
    "waiting": "walk past the camera now, to one side and back",
    "walking": "go on: walk past from the other side too",
    "two": "somebody else is in the picture: walk past alone",
}


@dataclass
class EnrolmentSession:
    """An enrolment and how far it is."""

    person: str
    note: str
    kind: Literal["camera", "video", "visit"]
    started: datetime
    camera: str | None = None
    user: str | None = None
    force: bool = False
    candidates: dict[tuple[str, int], tuple[str, list[KeptWalk]]] = field(default_factory=dict)
    """Visit and walks of each track of somebody who was alone."""
    id: str = field(default_factory=lambda: secrets.token_hex(6))
    state: State = "waiting"
    message: str = MESSAGES["waiting"]
    warnings: list[str] = field(default_factory=list)
    walks: list[KeptWalk] = field(default_factory=list)  # of one person
    others: int = 0  # walks that look like somebody else's
    grown: datetime | None = None  # when there were more good windows than before
    quality: float | None = None
    ended: datetime | None = None
    shared: set[tuple[str, int]] = field(default_factory=set)  # tracks that were not alone

    @property
    def runs(self) -> bool:
        """Whether it goes on."""
        return self.state in ("waiting", "walking")

    @property
    def windows(self) -> int:
        """Good windows so far."""
        return sum(len(walk.windows) for walk in self.walks)

    @property
    def views(self) -> dict[str, int]:
        """Good windows by side."""
        counts: Counter[str] = Counter()
        for walk in self.walks:
            counts[walk.view or "unknown"] += len(walk.windows)
        return dict(sorted(counts.items()))

    @property
    def enough(self) -> bool:
        """Whether nothing more is needed."""
        sides = len({walk.view for walk in self.walks if walk.view})
        return self.windows >= (WANTED if sides >= WANTED_VIEWS else MOST)

    @property
    def shown(self) -> list[str]:
        """The visits that the walks are of."""
        ours = {id(walk) for walk in self.walks}
        found = [v for v, walks in self.candidates.values() if not ours.isdisjoint(map(id, walks))]
        return list(dict.fromkeys(found))

    def end(self, state: State, message: str, now: datetime) -> None:
        """End it.

        Args:
            state: done, failed or stopped.
            message: What came of it.
            now: Present time.
        """
        self.state, self.message, self.ended = state, message, now

    def status(self) -> dict[str, Any]:
        """Return what the page shows."""
        return {
            "id": self.id,
            "person": self.person,
            "kind": self.kind,
            "state": self.state,
            "camera": self.camera,
            "windows": self.windows,
            "wanted": WANTED,
            "views": self.views,
            "quality": self.quality,
            "message": self.message,
            "warnings": self.warnings,
            "started_utc": utc_text(self.started),
            "ended_utc": None if self.ended is None else utc_text(self.ended),
        }


class Enrolments:
    """The enrolment that runs, or the last one."""

    def __init__(self, data: ServiceData) -> None:
        """Begin without one."""
        self._data = data
        self.current: EnrolmentSession | None = None
        self._looked: datetime | None = None

    def start(
        self, person: str, note: str, kind: Literal["camera", "video", "visit"], **fields: Any
    ) -> EnrolmentSession:
        """Begin an enrolment (RefusedError: another one runs).

        Args:
            person: Name, as it is to be stored.
            note: How the person consented.
            kind: From what.
            fields: Of the enrolment.
        """
        if self.current is not None and self.current.runs:
            raise RefusedError(
                "busy", f"'{self.current.person}' is being enrolled: wait for the end, or stop it"
            )
        self.current = EnrolmentSession(person, note, kind, self._data.clock(), **fields)
        return self.current

    def look(self, stays: list[Stay]) -> bool:
        """Look who walks past the camera of the enrolment; return whether it has ended.

        stays: the visits that go on, of all cameras
        """
        session = self.current
        if session is None or session.kind != "camera" or not session.runs:
            return False
        now = self._data.clock()
        if self._looked is not None and timedelta(0) <= now - self._looked < LOOK_EVERY:
            return False
        self._looked = now
        here = [stay for stay in stays if stay.camera == session.camera]
        self._collect(session, here)
        if session.enough:
            self.finish(session)
        elif now - (session.grown or session.started) > LIMIT or now - session.started > LONGEST:
            self._run_out(session)
        return not session.runs

    def finish(self, session: EnrolmentSession) -> None:
        """Enrol what was seen; what is wrong with it is in the session's message."""
        now = self._data.clock()
        try:
            session.walks, session.others = self._of_one_person(session.walks, session.others)
            windows = self._enrol(session)
        except CstlEdgeError as err:
            session.end("failed", err.message, now)
            return
        if session.others:
            session.warnings.append(f"left out: {session.others} that walk like somebody else")
        sides = ", ".join(view for view in session.views if view != "unknown")
        seen = f", seen walking {sides}" if sides else ""
        session.end("done", f"enrolled with {windows} windows{seen}", now)

    def stop(self, *, keep: bool) -> EnrolmentSession | None:
        """End the enrolment that runs.

        keep: whether to enrol from what came so far
        """
        session = self.current
        if session is None or not session.runs:
            return session
        if keep and session.windows >= 1:
            self.finish(session)
        else:
            session.end("stopped", "stopped; nothing was stored", self._data.clock())
        return session

    def from_video(self, session: EnrolmentSession, tracks: list[RecordedTrack]) -> None:
        """Enrol the one person who walks in a video."""
        now = self._data.clock()
        usable = [track for track in tracks if track.walk.seen >= LEAST_SEEN]
        if not usable:
            session.end("failed", "nobody walks long enough in the video", now)
            return
        longest = usable[0].walk
        others = [t for t in usable[1:] if not self._same(longest, t.walk, PART_FPIR)]
        if others:
            message = f"{1 + len(others)} people walk in the video: cut it so that one person does"
            session.end("failed", message, now)
            return
        session.walks = [track.walk for track in usable]
        self.finish(session)

    def _collect(self, session: EnrolmentSession, here: list[Stay]) -> None:
        """Take the walks of whoever is alone in the picture."""
        in_view = [(stay, t) for stay in here for t in stay.tracks if t.is_open]
        if len(in_view) > 1:
            session.shared |= {(track.run, track.number) for _, track in in_view}
        for stay in here:
            for track in stay.tracks:
                key = (track.run, track.number)
                if track.born_utc < session.started or key in session.shared:
                    continue  # what came before somebody else did stays
                if walks := [w for w in kept_walks_of(track) if w.seen >= LEAST_SEEN]:
                    session.candidates[key] = (stay.id, walks)
        before = session.windows
        walks = [walk for _, walks in session.candidates.values() for walk in walks]
        session.walks, session.others = self._of_one_person(walks)
        if session.windows > before:
            session.grown = self._data.clock()
        session.quality = self._quality(session.walks)
        session.state = "walking" if session.walks or in_view else "waiting"
        session.message = MESSAGES["two" if len(in_view) > 1 else session.state]

    def _run_out(self, session: EnrolmentSession) -> None:
        if session.windows >= LEAST:
            self.finish(session)
            if session.state == "done":
                session.warnings.append("seen for a short time or from one side only: add walks")
            return
        message = "nobody walked past alone for long enough: nothing was stored"
        session.end("failed", message, self._data.clock())

    def _of_one_person(self, walks: list[KeptWalk], others: int = 0) -> tuple[list[KeptWalk], int]:
        """Return the most walks that are like one of them, and how many are somebody else's.

        Args:
            walks: In the order in which they came.
            others: How many were left out before.
        """
        if len(walks) < 2:
            return walks, others
        measure = self._data.measure
        distances = measure.pairwise([measure.project(PlacedWalk(w.walk, w.camera)) for w in walks])
        seen = np.array([walk.seen for walk in walks])
        limits = np.array(
            [[measure.limit(PART_FPIR, s) for s in row] for row in np.minimum(seen, seen[:, None])]
        )
        alike = (distances < limits) | np.eye(len(walks), dtype=bool)
        best = int(np.argmax(alike @ [len(walk.windows) for walk in walks]))
        chosen = [walk for walk, ours in zip(walks, alike[best], strict=True) if ours]
        return chosen, others + len(walks) - len(chosen)

    def _enrol(self, session: EnrolmentSession) -> int:
        """Enrol the walks of a session; return how many windows they had."""
        gallery, windows = self._data.gallery, 0
        if session.kind != "visit" and not session.force:
            self._leave_out_known(session)
        first = joined_walk([walk.walk for walk in session.walks])
        for number, walk in enumerate(session.walks):
            camera = None if walk.camera == CAMERA else walk.camera
            if number == 0 and not session.force:
                self._refuse_somebody_else(session, first, camera)
            origin = WalkOrigin(
                camera=camera, view=walk.view, frames_per_second=walk.frames_per_second
            )
            stored = np.ascontiguousarray(walk.windows)
            gallery.enroll(
                session.person,
                stored,
                consent=session.note,
                origin=origin,
                force=session.force or number > 0,
            )
            windows += len(stored)
        return windows

    def _leave_out_known(self, session: EnrolmentSession) -> None:
        """Leave out walks that match the person already, from a side this camera has of them.

        Raises RefusedError where none is left.
        """
        gallery = self._data.gallery
        there = {person.name: person for person in gallery.people()}.get(session.person)
        sides = {(w.origin.camera, w.origin.view) for w in there.enrolments} if there else set()

        def adds(walk: KeptWalk) -> bool:
            camera = None if walk.camera == CAMERA else walk.camera
            if (camera, walk.view) not in sides:
                return True
            return self._decision(walk.walk, camera).name != session.person

        chosen = [walk for walk in session.walks if adds(walk)]
        left_out = len(session.walks) - len(chosen)
        if not chosen:
            raise RefusedError(
                "conflict",
                f"these walks match {session.person} already, from sides that are enrolled: nothing"
                " was added. More of the same helps little: walk in other clothes, from another"
                " side or past another camera",
            )
        if left_out:
            session.warnings.append(f"left out: {left_out} that match {session.person} already")
        session.walks = chosen

    def _refuse_somebody_else(
        self, session: EnrolmentSession, walk: SeenWalk, camera: str | None
    ) -> None:
        """Raise RefusedError where the gallery takes the walk for another person."""
        decision = self._decision(walk, camera)
        if decision.name is not None and decision.name != session.person:
            raise RefusedError(
                "conflict",
                f"this is already {decision.name} (distance {decision.distance:.2f}, below the"
                f" threshold {decision.threshold:.2f}): add the walks to {decision.name}",
            )

    def _decision(self, walk: SeenWalk, camera: str | None) -> Decision:
        """Return who the gallery takes a walk for, with the threshold of its camera."""
        site = self._data.site
        settings = site.cameras.get(camera) if camera is not None else None
        fpir = (settings.fpir if settings else None) or site.fpir
        threshold = settings.threshold if settings else None
        return self._data.gallery.identify(walk, fpir, threshold, camera=camera, learn=False)

    def _same(self, a: KeptWalk, b: KeptWalk, fpir: float) -> bool:
        one, other = PlacedWalk(a.walk, a.camera), PlacedWalk(b.walk, b.camera)
        return self._data.measure.are_alike(one, other, fpir)

    def _quality(self, walks: list[KeptWalk]) -> float | None:
        """Return how alike walks are: 1 for one like the other, 0 for a stranger's distance."""
        if not walks:
            return None
        windows = [PlacedWalk(w.walk, w.camera) for w in walks]
        if len(windows) == 1:
            return None
        measure = self._data.measure
        distances = measure.pairwise([measure.project(walk) for walk in windows])
        mean = float(distances[np.triu_indices(len(windows), 1)].mean())
        return round(float(np.clip(1 - mean / measure.limit(0.3, 1.0), 0.0, 1.0)), 2)
