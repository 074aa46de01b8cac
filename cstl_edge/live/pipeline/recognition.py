"""The second half of the live path: silhouettes in, events out.

It runs in the caller's thread, embeds the silhouettes of all walkers of a frame in one batch, asks
the gallery, and gives every track that closes its last word.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cstl_edge.arrays import Mask
from cstl_edge.live.annotate import NAMED, PENDING, UNKNOWN, WalkerView
from cstl_edge.live.events import Event, Kind
from cstl_edge.live.pipeline.options import Options, Summary, TrackRecord
from cstl_edge.live.pipeline.perception import Looked, Seen
from cstl_edge.live.segmentation.base import SceneState
from cstl_edge.live.sources.base import SourceState
from cstl_edge.live.tracking.walk_filter import Reason
from cstl_edge.runtime.base import Encoder
from cstl_edge.runtime.streaming.encoder import StreamingEncoder, StreamResult

if TYPE_CHECKING:
    from cstl_edge.gallery.gallery import Decision, Gallery


MAX_WINDOWS = 8  # asked with at once, the newest
MAX_GAP_S = 0.5  # a longer hole in the walk starts a new window
PLAIN_HEADING = 0.15  # body heights per second: more leaves no doubt about the side
MAX_KEPT = 1500  # silhouettes kept for enrolment: a minute at 25 frames per second


@dataclass
class Walker:
    """One track, as the second half of the pipeline sees it."""

    id: int
    window: int
    keep: bool = False  # the silhouettes, for enrolment
    refused: Counter[str] = field(default_factory=Counter)
    usable: int = 0
    held: list[Mask] = field(default_factory=list)  # too early to tell whether this is a walk
    silhouettes: list[Mask] = field(default_factory=list)
    windows: list[StreamResult] = field(default_factory=list)
    decision: Decision | None = None
    reason: Reason | None = Reason.TOO_FEW  # of the newest frame; None while it walks
    told: tuple[str, float] | None = None  # reason and time of the last pending event
    last_used_s: float | None = None
    merged: bool = False
    mirrored: bool = False  # walks to the right

    def take(self, seen: Seen, time_s: float) -> tuple[list[Mask], bool]:
        """Take one frame; return the silhouettes to embed now, and whether the window is broken."""
        broken = self._breaks(seen, time_s) | self._turns(seen.heading)
        self.reason = seen.reason
        if seen.reason is None and seen.silhouette is not None:
            fresh = [*self.held, seen.silhouette]
            if self.mirrored:
                fresh = [np.ascontiguousarray(silhouette[:, ::-1]) for silhouette in fresh]
            self.held = []
            self.usable += len(fresh)
            self.last_used_s = time_s
            if self.keep:
                self.silhouettes = (self.silhouettes + fresh)[:MAX_KEPT]
            return fresh, broken
        if seen.reason is Reason.TOO_FEW and seen.silhouette is not None:
            self.held.append(seen.silhouette)
        elif seen.reason is not None:
            self.refused[seen.reason.value] += 1 + len(self.held)
            self.held = []
        return [], broken

    def _breaks(self, seen: Seen, time_s: float) -> bool:
        """Tell whether what follows must not share a window with what came before."""
        merged, self.merged = self.merged, seen.reason is Reason.MERGED
        if self.merged and not merged:
            # whoever leaves the merge may be the other one: no answer from both
            self.windows, self.decision, self.silhouettes = [], None, []
            self.last_used_s, self.usable = None, 0
            return True
        if self.last_used_s is None or time_s - self.last_used_s <= MAX_GAP_S:
            return False
        self.last_used_s = None
        return True

    def _turns(self, heading: float | None) -> bool:
        """Follow the side to which the walk goes; tell whether it has changed on the way."""
        if heading is None or abs(heading) < PLAIN_HEADING or (heading > 0) == self.mirrored:
            return False
        self.mirrored = heading > 0
        return self.usable > 0

    def add_window(self, result: StreamResult) -> None:
        """Take what the network says of the newest window."""
        if len(self.windows) > 1:
            since = result.frames_seen - self.windows[-2].frames_seen
            if 0 < since < self.window // 2:
                self.windows.pop()
        self.windows = [*self.windows, result][-MAX_WINDOWS:]

    def embeddings(self) -> npt.NDArray[np.float32]:
        """Return the windows [k, p, d]."""
        return np.stack([result.embedding for result in self.windows])

    def forget_held(self) -> None:
        """Count the frames that never became a walk, when the track ends."""
        self.refused[Reason.TOO_FEW.value] += len(self.held)
        self.held = []

    def no_answer(self) -> str:
        """Return the one reason why this track has no answer."""
        counts = self.refused.most_common()
        if self.usable or not counts or not counts[0][1]:
            return Reason.TOO_FEW.value
        return counts[0][0]

    def account(self, needed: int) -> str:
        """Return what became of its frames, for a person."""
        refused = [f"{count} {why}" for why, count in self.refused.most_common() if count]
        text = f"{self.usable} usable frames, need {needed}"
        return f"{text}; refused: {', '.join(refused)}" if refused else text


PENDING_EVERY_S = 1.0  # at most one pending event per track in this time


class Answers:
    """Everybody in view, and who they are."""

    def __init__(
        self,
        source: str,
        encoder: Encoder,
        gallery: Gallery | None,
        options: Options,
        summary: Summary,
        *,
        keep: bool,
    ) -> None:
        self.records: list[TrackRecord] = []
        self._source, self._encoder, self._gallery = source, encoder, gallery
        self._options, self._summary, self._keep = options, summary, keep
        # a lost track keeps its ring, so there may be more rings than walkers in a frame
        self._stream: StreamingEncoder[int] = StreamingEncoder(
            encoder, options.window, options.hop, options.min_frames, 2 * options.max_walkers
        )
        self._walkers: dict[int, Walker] = {}
        self._scene = SceneState.READY
        self._time_s: float | None = None
        self._events: list[Event] = []

    def frame(self, looked: Looked) -> list[Event]:
        """Take one frame; return what it changed."""
        self._time_s = looked.frame.time_s
        self._tell_scene(looked.scene)
        for track in looked.born:
            self._walkers[track] = Walker(track, self._options.window, self._keep)
            self._summary.tracks += 1
            self._tell("born", track)
        queues = {seen.id: self._take(seen) for seen in looked.seen}
        if any(queues.values()):
            with self._summary.samples.time("encode"):
                results = self._embed(queues)
            for track, result in results.items():
                self._identify(self._walkers[track], result, looked.read_at)
        for seen in looked.seen:
            self._tell_pending(self._walkers[seen.id])
        return self.close(looked.closed)

    def close(self, tracks: list[int]) -> list[Event]:
        """Give tracks their last word; return it behind what was not yet told."""
        for track in tracks:
            self._close(track)
        events, self._events = self._events, []
        return events

    def backend_down(self, why: str) -> list[Event]:
        """Say that nothing can be embedded any more, and give everybody in view the last word."""
        self._tell("backend_down", None, reason=why)
        return self.close(list(self._walkers))

    def state(self, state: SourceState) -> Event:
        """Return the event of what a live source says of itself."""
        detail = f"attempt {state.attempt}" if state.attempt else None
        reason = f"{state.state}: {state.detail}" if state.detail else state.state
        return Event("source", self._source, self._time_s, reason=reason, detail=detail)

    def view(self, seen: Seen) -> WalkerView:
        """Return what to draw of one walker."""
        walker = self._walkers.get(seen.id)
        decision = walker.decision if walker is not None else None
        if decision is None:
            label, colour = (seen.reason or Reason.TOO_FEW).value, PENDING
        elif decision.name is not None:
            label, colour = f"{decision.name} {decision.distance:.2f}", NAMED
        else:
            distance = "" if decision.distance is None else f" {decision.distance:.2f}"
            label, colour = f"unknown{distance}", UNKNOWN
        return WalkerView(seen.box, f"{seen.id}: {label}", colour, seen.mask, seen.id)

    def count(self) -> None:
        """Write into the summary what is only known here."""
        self._summary.not_finite = self._stream.not_finite

    def _take(self, seen: Seen) -> list[npt.NDArray[np.uint8]]:
        assert self._time_s is not None
        fresh, broken = self._walkers[seen.id].take(seen, self._time_s)
        if broken:
            self._stream.close(seen.id)
        return fresh

    def _embed(self, queues: dict[int, list[npt.NDArray[np.uint8]]]) -> dict[int, StreamResult]:
        """Push every silhouette, one of each walker at a time; return the newest results."""
        results: dict[int, StreamResult] = {}
        for i in range(max(len(queue) for queue in queues.values())):
            batch = {track: queue[i] for track, queue in queues.items() if i < len(queue)}
            for track, result in self._stream.push(batch).items():
                self._walkers[track].add_window(result)
                results[track] = result
        return results

    def _identify(self, walker: Walker, result: StreamResult, read_at: float) -> None:
        if self._gallery is None:
            return
        with self._summary.samples.time("identify"):
            walker.decision = self._gallery.identify(
                walker.embeddings(), self._options.fpir, self._options.threshold
            )
        self._summary.answers += 1
        latency_ms = (time.perf_counter() - read_at) * 1e3
        self._summary.samples.add("answer", latency_ms)
        self._tell_answer("identified", walker, latency_ms=latency_ms)

    def _close(self, track: int) -> None:
        walker = self._walkers.pop(track, None)
        self._stream.close(track)
        if walker is None:
            return
        walker.forget_held()
        account = walker.account(self._options.min_frames)
        if self._keep:
            self.records.append(self._record(walker, account))
        if walker.decision is not None:
            self._tell_answer("closed", walker, detail=account)
        else:
            reason = "no gallery" if walker.windows else walker.no_answer()
            self._tell("closed", track, reason=reason, frames=walker.usable, detail=account)

    def _record(self, walker: Walker, account: str) -> TrackRecord:
        info = self._encoder.info
        silhouettes = np.zeros((0, *info.size), np.uint8)
        embeddings = np.zeros((0, info.parts, info.embedding), np.float32)
        return TrackRecord(
            track=walker.id,
            silhouettes=np.stack(walker.silhouettes) if walker.silhouettes else silhouettes,
            embeddings=walker.embeddings() if walker.windows else embeddings,
            salient_frames=walker.windows[-1].salient_frames if walker.windows else None,
            frames=walker.usable,
            refusals=dict(walker.refused),
            account=account,
        )

    def _tell(self, kind: Kind, track: int | None, **more: Any) -> None:
        self._events.append(Event(kind, self._source, self._time_s, track, **more))

    def _tell_answer(self, kind: Kind, walker: Walker, **more: Any) -> None:
        """Tell the walker's decision."""
        decision = walker.decision
        assert decision is not None
        self._tell(
            kind,
            walker.id,
            name=decision.name,
            unknown=decision.name is None,
            reason=decision.reason,
            distance=decision.distance,
            threshold=decision.threshold,
            runner_up=decision.runner_up,
            margin=decision.margin,
            frames=walker.usable,
            **more,
        )

    def _tell_pending(self, walker: Walker) -> None:
        """Say why there is no answer (yet), when that changes and not more often than needed."""
        assert self._time_s is not None
        if walker.decision is not None or (self._gallery is None and walker.windows):
            return
        reason = (walker.reason or Reason.TOO_FEW).value
        if walker.told is not None:
            told, told_s = walker.told
            if told == reason or self._time_s - told_s < PENDING_EVERY_S:
                return
        walker.told = (reason, self._time_s)
        account = walker.account(self._options.min_frames)
        self._tell("pending", walker.id, reason=reason, frames=walker.usable, detail=account)

    def _tell_scene(self, scene: SceneState) -> None:
        if scene is not self._scene:
            self._tell("source", None, reason=f"scene: {scene.value}")
        self._scene = scene
