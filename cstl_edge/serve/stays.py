"""A visit that goes on, or ended a moment ago: its tracks, its walk, its answer."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from cstl_edge.gallery.match import Decision, NoMatch, SeenWalk
from cstl_edge.live.events import REASON_CODES, Cause, new_visit, utc_text
from cstl_edge.live.pipeline.track_state import DirectedWalk
from cstl_edge.live.tracking.walk_filter import Reason
from cstl_edge.serve.alike import PlacedWalk
from cstl_edge.serve.kept_walks import KeptWalk, joined_walk
from cstl_edge.serve.stitching import VisitTrack
from cstl_edge.serve.store_rows import VisitRow

Said = tuple[str, str | None, str | None, int | None]
"""Answer, person, reason's code, cluster: what is told once."""
STRIP_LENGTH = 12  # silhouettes of a strip


@dataclass(eq=False)  # arrays have no equality
class Stay:
    """A person's stay on one camera, in memory."""

    row: VisitRow
    tracks: list[VisitTrack]
    said: Said | None = None
    decision: Decision | None = None
    latency_ms: float | None = None
    finished: bool = False  # its last word was told
    settled_journey: bool = False  # linked to another visit, or parted from one
    clip_asked: bool = False
    saved_s: float = field(default=0.0)

    @classmethod
    def begin(cls, track: VisitTrack, model: str | None) -> Stay:
        """Return the stay that begins with a track.

        track: its first one
        model: digits of the model
        """
        visit = new_visit(track.born_utc)
        moment = utc_text(track.born_utc)
        row = VisitRow(
            id=visit,
            camera=track.camera,
            started_utc=moment,
            seen_utc=moment,
            journey=visit,
            zone=track.zone,
            model=model,
        )
        return cls(row, [track])

    @property
    def id(self) -> str:
        """Id of the visit."""
        return self.row.id

    @property
    def camera(self) -> str:
        """Name of the camera."""
        return self.row.camera

    @property
    def track(self) -> VisitTrack:
        """The newest track."""
        return self.tracks[-1]

    @property
    def is_open(self) -> bool:
        """Whether one of its tracks is in view."""
        return any(track.is_open for track in self.tracks)

    @property
    def last_utc(self) -> datetime:
        """When somebody was seen of it."""
        return max(track.last_utc or track.born_utc for track in self.tracks)

    @property
    def walk(self) -> SeenWalk | None:
        """Everything seen of the walk, over all tracks."""
        walks = [walk for track in self.tracks if (walk := track.walk) is not None]
        return joined_walk(walks) if walks else None

    @property
    def placed_walk(self) -> PlacedWalk | None:
        """The walk and its camera."""
        walk = self.walk
        return None if walk is None else PlacedWalk(walk, self.camera)

    @property
    def frames(self) -> int:
        """Usable frames."""
        return sum(track.state.usable for track in self.tracks)

    @property
    def says(self) -> Said:
        """What there is to tell of the answer."""
        row = self.row
        return row.answer, row.person, row.reason_code, row.cluster

    def change(self, **values: Any) -> None:
        """Set columns of the row."""
        self.row = replace(self.row, **values)

    def refresh(self) -> None:
        """Take times, counts and zone from the tracks."""
        newest = max(self.tracks, key=lambda track: track.last_s)
        self.change(
            seen_utc=utc_text(self.last_utc),
            frames=self.frames,
            tracks=len({(track.run, track.number) for track in self.tracks}),
            zone=newest.zone or self.row.zone,
        )

    def decide(self, decision: Decision) -> None:
        """Take what the gallery says; what a user said stays."""
        self.decision = decision
        figures = {
            name: getattr(decision, name)
            for name in ("distance", "threshold", "margin", "runner_up", "confidence")
        }
        if self.row.corrected_by is not None:
            self.change(**figures)
            return
        reason = decision.reason
        self.change(
            answer="unknown" if decision.name is None else "known",
            person=decision.name,
            cluster=None if decision.name is not None else self.row.cluster,
            reason_code=None if reason is None else REASON_CODES[reason].value,
            reason=None if reason is None else reason.value,
            **figures,
        )

    def have_no_answer(self, reason: Cause) -> None:
        """Say why there is no answer (yet)."""
        if self.row.corrected_by is not None:
            return
        self.decision = None
        blank = dict.fromkeys(("distance", "threshold", "margin", "runner_up", "confidence"))
        self.change(
            answer="none",
            person=None,
            reason_code=REASON_CODES[reason].value,
            reason=reason.value,
            **blank,
        )

    def main_reason(self) -> Reason | NoMatch:
        """Return the main reason why there is no answer, over all tracks."""
        best = max(self.tracks, key=lambda track: track.state.usable)
        return best.state.no_answer()

    def kept_walks(self) -> list[KeptWalk]:
        """Return what may be kept of the walks."""
        return [walk for track in self.tracks for walk in kept_walks_of(track)]

    def strip(self) -> list[Any]:
        """Return some silhouettes [h, w], evenly spread over the stay."""
        frames = [frame for track in self.tracks for frame in track.strip]
        step = max(1, -(-len(frames) // STRIP_LENGTH))
        return frames[::step]


def kept_walks_of(track: VisitTrack) -> list[KeptWalk]:
    """Return what may be kept of the walk of a track: one for each direction."""
    state = track.state
    legs = state.directions()
    seconds = (state.ended_s or 0.0) - (state.started_s or 0.0)
    rate = (state.usable - 1) / seconds if seconds > 0 else None
    return [
        KeptWalk(
            camera=track.camera,
            number=track.number,
            started_utc=utc_text(_start_of(track, leg if number else None)),
            ended_utc=utc_text(track.last_utc or track.born_utc),
            mean=leg.mean,
            windows=np.stack([window.embedding for window in leg.windows]),
            seen=max(1.0, leg.frames / state.window),
            view=track.view if len(legs) == 1 else leg.view,
            frames_per_second=rate,
        )
        for number, leg in enumerate(legs)
    ]


def _start_of(track: VisitTrack, leg: DirectedWalk | None) -> datetime:
    """Return when a leg of a track began; None: the first one."""
    if leg is None or leg.started_s is None:
        return track.born_utc
    return track.born_utc + timedelta(seconds=max(0.0, leg.started_s - track.born_s))
