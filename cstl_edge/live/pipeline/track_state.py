"""State of one track in recognition: which frames count, its windows, everything seen of it.

A walk is one search however long it lasts: the mean embedding of all its windows, each weighted by
its frames and mirrored by its own direction, so that a walker who turns stays one walk. Letters: k
windows, p parts, d embedding dimensions, h w pixels.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import numpy as np

from cstl_edge.arrays import Bools, Doubles, Floats, Mask
from cstl_edge.gallery.match import Decision, NoMatch, SeenWalk
from cstl_edge.live.boxes import Box
from cstl_edge.live.pipeline.perception import TrackObservation
from cstl_edge.live.tracking.walk_filter import Reason, broken_heights
from cstl_edge.runtime.streaming.encoder import StreamResult

MAX_WINDOWS = 8  # of a track that are kept one by one, the newest; all are in the mean
MAX_KEPT = 1500  # silhouettes kept for enrolment: a minute at 25 frames per second, two at 12.5
MAX_KEPT_WINDOWS = 100  # and the windows of these
MAX_GAP_S = 0.5  # a longer hole in the walk starts a new window
TOUCH_S = 0.15  # from alone to alone: a meeting so short leaves nobody in doubt
MEETING_GAP_S = 0.5  # alone for less does not end a meeting
SETTLED_S = 1.0  # alone for less: two people may have been one until the meeting parts them
FRAME_ALONE = (Reason.MERGED, Reason.NOT_PERSON)  # say nothing about the frames before
PLAIN_HEADING = 0.15  # body heights per second: more leaves no doubt about the side
UPPER_BODY = 0.5  # share of the height from the top: what does not swing with the legs
LEAST_OVERLAP = 0.6  # of a frame's upper body with the mean of its window (IoU)
LEAST_COMPARED = 8  # frames before a mean says what belongs to the walker


View = Literal["left", "right"]


@dataclass(frozen=True)
class DirectedWalk:
    """Part of a walk in one direction."""

    view: View | None  # None where that is not plain
    windows: tuple[StreamResult, ...]  # the newest
    mean: Floats  # [p, d], over all windows, each weighted by its frames
    weight: float  # frames in `mean`, once for each window
    frames: int  # usable ones
    started_s: float | None  # media time of the first usable frame


@dataclass(eq=False)  # arrays have no equality
class TrackState:
    """Silhouettes, windows and answer of one track."""

    id: int
    window: int
    keep: bool = False  # the silhouettes, for enrolment
    visit: str | None = None  # unique for ever
    started_utc: datetime | None = None
    refused: Counter[Reason] = field(default_factory=Counter)
    usable: int = 0
    held: list[tuple[float, Mask]] = field(default_factory=list)
    """Early frames, not yet known to be a walk: height of the box, silhouette."""
    silhouettes: list[Mask] = field(default_factory=list)
    windows: list[StreamResult] = field(default_factory=list)
    decision: Decision | None = None
    reason: Reason | None = Reason.TOO_FEW  # of the newest frame; None while it walks
    box: Box | None = None  # the newest
    last_pending: tuple[Reason, float] | None = None  # reason and time of the last pending event
    last_used_s: float | None = None
    merged: bool = False
    met_s: float = -math.inf  # media time of the newest frame in a meeting
    alone_s: float = -math.inf  # and of the newest one alone
    alone_until_s: float = -math.inf  # and of the last one before the meeting
    alone_since_s: float = math.inf  # and of the first one behind the meeting before
    in_doubt: bool = False  # ended, because it may have become another person
    mirrored: bool = False  # walks to the right
    view: View | None = None  # where it walks to, once that is plain
    legs: tuple[DirectedWalk, ...] = ()  # before it turned the last time
    started_s: float | None = None  # media time of the first usable frame, and of the last
    ended_s: float | None = None
    held_since_s: float | None = None  # media time of the first of `held`
    total: Doubles | None = None  # [p, d], sum of all windows' embeddings by their frames
    weight: float = 0.0  # frames in `total`, once for each window
    leg_started_s: float | None = None  # media time of the first usable frame since it turned
    outlines: deque[Bools] = field(default_factory=deque)  # upper bodies of the window, [h', w]

    def observe(self, observation: TrackObservation, time_s: float) -> tuple[list[Mask], bool]:
        """Take one frame; return the silhouettes to embed now, and whether the window is broken."""
        broken = self._breaks(observation, time_s) | self._turns(observation.heading)
        self.reason, self.box = observation.reason, observation.box
        if observation.resting:
            return [], broken
        if observation.reason is None and observation.silhouette is not None:
            fresh = self._release(observation.box[3], observation.silhouette)
            since_s = self.held_since_s if self.held else time_s
            if self.mirrored:
                fresh = [np.ascontiguousarray(silhouette[:, ::-1]) for silhouette in fresh]
            self.held = []
            fresh = self._whole(fresh)
            if not fresh:
                return [], broken
            self.usable += len(fresh)
            self.started_s = since_s if self.started_s is None else self.started_s
            self.leg_started_s = since_s if self.leg_started_s is None else self.leg_started_s
            self.ended_s = time_s
            self.last_used_s = time_s
            if self.keep:
                self.silhouettes = (self.silhouettes + fresh)[:MAX_KEPT]
            return fresh, broken
        if observation.reason is Reason.TOO_FEW and observation.silhouette is not None:
            self.held_since_s = self.held_since_s if self.held else time_s
            self.held.append((observation.box[3], observation.silhouette))
        elif observation.reason is not None:
            self.refused[observation.reason] += 1
            if observation.reason not in FRAME_ALONE:
                self._drop_held(observation.reason)
        return [], broken

    def _release(self, height_px: float, silhouette: Mask) -> list[Mask]:
        """Return the held silhouettes and the newest one, without those of half a person.

        height_px: of the newest one's box
        """
        heights = np.array([*(height for height, _ in self.held), height_px])
        broken = broken_heights(heights)[:-1]
        self.refused[Reason.NOT_PERSON] += int(broken.sum())
        early = [mask for (_, mask), bad in zip(self.held, broken, strict=True) if not bad]
        return [*early, silhouette]

    def _drop_held(self, reason: Reason) -> None:
        """Count the held frames as refused for a reason."""
        self.refused[reason] += len(self.held)
        self.held = []

    def _breaks(self, observation: TrackObservation, time_s: float) -> bool:
        """Return whether the next frames must not share a window with the earlier ones."""
        merged, self.merged = self.merged, observation.reason is Reason.MERGED
        walks = observation.reason in (None, Reason.TOO_FEW)
        if self.merged:
            if not merged and time_s - self.met_s > MEETING_GAP_S:
                self.alone_until_s = self.alone_s
            self.met_s = time_s
        elif merged and self._leaves(time_s, walks=walks):
            self.alone_s = self.alone_since_s = time_s
            self._drop_held(Reason.MERGED)
            self.begin_anew()
            return True
        elif walks and not self.merged:
            self.alone_s = time_s
            self.alone_since_s = min(self.alone_since_s, time_s)
        if self.last_used_s is None or time_s - self.last_used_s <= MAX_GAP_S:
            return False
        self.last_used_s = None
        return True

    def _leaves(self, time_s: float, *, walks: bool) -> bool:
        """Return whether a track that was in a meeting comes out of it as somebody in doubt.

        The track that leaves a meeting may be the other person: no answer from both. One that ends
        in it (a blob at the border, two of one walker) keeps what was seen before, and so does one
        whose mask touched another's for a moment: nobody passes anybody so fast. Whoever was alone
        for less than SETTLED_S before may have been two people until then.

        Args:
            time_s: Media time of the first frame without the other.
            walks: Whether it shows somebody who walks; the meeting lasts on until one does.
        """
        settled = self.alone_until_s - self.alone_since_s >= SETTLED_S
        if not settled or time_s - self.alone_until_s > TOUCH_S:
            return True
        self.merged = not walks
        return False

    def begin_anew(self) -> None:
        """Forget the walk so far: what comes now may be another person's."""
        self.windows, self.decision, self.silhouettes = [], None, []
        self.last_used_s, self.usable = None, 0
        self.started_s = self.ended_s = self.leg_started_s = None
        self.total, self.weight, self.legs = None, 0.0, ()
        self.outlines.clear()

    def _turns(self, heading: float | None) -> bool:
        """Follow the side to which the walk goes; return whether it changed on the way."""
        if heading is None or abs(heading) < PLAIN_HEADING:
            return False
        before, self.view = self.view, "right" if heading > 0 else "left"
        if (heading > 0) == self.mirrored:
            return False
        leg = self._leg(before) if before is not None else None
        if leg is not None:
            self.legs, self.leg_started_s = (*self.legs, leg), None
        self.mirrored = heading > 0
        self.outlines.clear()
        return self.usable > 0

    def _whole(self, silhouettes: list[Mask]) -> list[Mask]:
        """Return the silhouettes whose upper body is that of their window, as far as is known.

        A broken one (a lost head, a neighbour's arm, a pole) counts as not person-shaped. It is in
        the mean all the same, so that a walker who changes is only refused for a moment.
        """
        whole = []
        for silhouette in silhouettes:
            outline = silhouette[: int(len(silhouette) * UPPER_BODY)] >= 128
            if len(self.outlines) >= LEAST_COMPARED:
                usual = np.mean(self.outlines, axis=0) >= 0.5
                either = np.count_nonzero(outline | usual)
                fits = np.count_nonzero(outline & usual) >= LEAST_OVERLAP * either
            else:
                fits = True
            self.outlines.append(outline)
            while len(self.outlines) > self.window:
                self.outlines.popleft()
            if fits:
                whole.append(silhouette)
            else:
                self.reason = Reason.NOT_PERSON
                self.refused[Reason.NOT_PERSON] += 1
        return whole

    def add_window(self, result: StreamResult) -> None:
        """Add the newest window; windows that are kept overlap by at most a half."""
        embedding = result.window_frames * result.embedding.astype(np.float64)
        self.total = embedding if self.total is None else self.total + embedding
        self.weight += result.window_frames
        if len(self.windows) > 1:
            since = self.windows[-1].frames_seen - self.windows[-2].frames_seen
            if 0 < since < self.window // 2:  # the last one was there for the time being
                self.windows.pop()
        most = MAX_KEPT_WINDOWS if self.keep else MAX_WINDOWS
        self.windows = [*self.windows, result][-most:]

    def directions(self) -> list[DirectedWalk]:
        """Return the walk by direction, in order; none before the first window."""
        leg = self._leg(self.view)
        return [*self.legs, leg] if leg is not None else list(self.legs)

    def _leg(self, view: View | None) -> DirectedWalk | None:
        """Return the walk since it turned last, None before a window of it.

        view: where it walks to
        """
        known = {id(window) for leg in self.legs for window in leg.windows}
        windows = tuple(window for window in self.windows if id(window) not in known)
        if self.total is None or not windows:
            return None
        total, weight, frames = self.total, self.weight, self.usable
        for leg in self.legs:
            total, weight = total - leg.weight * leg.mean, weight - leg.weight
            frames -= leg.frames
        if weight <= 0 or frames <= 0:
            return None
        mean = np.asarray(total / weight, np.float32)
        return DirectedWalk(view, windows[-MAX_WINDOWS:], mean, weight, frames, self.leg_started_s)

    def before(self, result: StreamResult) -> list[StreamResult]:
        """Return the windows that share no frames with a new one."""
        first = result.frames_seen - result.window_frames
        # after a break the count of frames begins anew: what is behind the new window was earlier
        return [
            window
            for window in self.windows
            if window.frames_seen <= first or window.frames_seen > result.frames_seen
        ]

    def embeddings(self) -> Floats:
        """Return the embeddings of the windows that are kept, [k, p, d]."""
        return np.stack([result.embedding for result in self.windows])

    def walk(self) -> SeenWalk:
        """Return everything seen of the walk; there is at least one window."""
        assert self.total is not None
        mean = np.asarray(self.total / self.weight, np.float32)
        newest = self.embeddings()[-MAX_WINDOWS:]
        return SeenWalk(newest, mean, max(1.0, self.usable / self.window))

    def forget_held(self) -> None:
        """Count the frames that never became a walk, when the track ends."""
        self._drop_held(Reason.MERGED if self.merged else Reason.TOO_FEW)

    def no_answer(self) -> Reason | NoMatch:
        """Return the main reason why this track has no answer."""
        if self.windows:
            return NoMatch.NO_GALLERY
        if self.in_doubt:
            return Reason.DOUBT
        counts = self.refused.most_common()
        if self.usable or not counts or not counts[0][1]:
            return Reason.TOO_FEW
        return counts[0][0]

    def account(self, needed: int) -> str:
        """Return what became of its frames, for a person."""
        counts = self.refused.most_common()
        refused = [f"{count} {reason.value}" for reason, count in counts if count]
        text = f"{self.usable} usable frames, need {needed}"
        text = f"{text}; refused: {', '.join(refused)}" if refused else text
        return f"{text}; ended: {Reason.DOUBT.value}" if self.in_doubt else text
