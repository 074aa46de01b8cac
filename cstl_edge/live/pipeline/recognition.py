"""Recognition stage: observations of tracks in, events out.

It runs in the caller's thread, embeds the silhouettes of all walkers of a frame in one batch,
searches the gallery, and gives every track that closes its last word.
"""

from __future__ import annotations

import logging
import time
from datetime import datetime, timezone
from typing import Any, Protocol

import numpy as np

from cstl_edge.arrays import Floats, Mask
from cstl_edge.errors import GalleryError
from cstl_edge.gallery.match import Decision, SeenWalk
from cstl_edge.gallery.matcher import UNNAMED
from cstl_edge.live.annotate import Answer, WalkerView
from cstl_edge.live.events import (
    SCENE_STATES,
    Event,
    EventName,
    ReasonCode,
    model_digits,
    new_visit,
)
from cstl_edge.live.pipeline.agreement import Agreement
from cstl_edge.live.pipeline.options import PipelineOptions, RunSummary, TrackRecord
from cstl_edge.live.pipeline.pace import pace_sentence
from cstl_edge.live.pipeline.perception import FrameResult, TrackObservation
from cstl_edge.live.pipeline.track_state import TrackState
from cstl_edge.live.segmentation.base import SceneState
from cstl_edge.live.sources.base import SourceState
from cstl_edge.live.tracking.walk_filter import Reason
from cstl_edge.runtime.base import Encoder
from cstl_edge.runtime.streaming.encoder import StreamingEncoder, StreamResult

log = logging.getLogger(__name__)

UPSIDE_DOWN = "everybody walks on their head: turn the picture by 180 degrees (--rotate 180)"
MASKED_AGAIN = "background subtraction finds people, the person network masks everybody again"
PENDING_EVERY_S = 1.0  # at most one pending event per track in this time


class SearchedGallery(Protocol):
    """A gallery, as far as recognition needs it: `gallery.gallery.Gallery` is one."""

    def identify(
        self,
        walk: SeenWalk,
        fpir: float = 0.01,
        threshold: float | None = None,
        *,
        camera: str | None = None,
        learn: bool = True,
    ) -> Decision:
        """Decide who a walk belongs to."""

    def learn(self, walk: SeenWalk, camera: str, decision: Decision | None = None) -> None:
        """Count a walk in the sums of its camera."""

    def take_purged(self) -> tuple[str, ...]:
        """Erase whose retention has ended, when it is time; return their names."""


class RecognitionStage:
    """The tracks in view and their answers; the service has one for each camera."""

    def __init__(
        self,
        source: str,
        encoder: Encoder,
        gallery: SearchedGallery | None,
        options: PipelineOptions,
        summary: RunSummary,
        *,
        keep: bool,
    ) -> None:
        """Prepare the stage.

        Args:
            source: Address for the events, without credentials.
            encoder: Embeds the silhouettes; stays the caller's to close.
            gallery: Searched for every walk; without one nobody is named.
            options: Windows and thresholds.
            summary: Counts to add to.
            keep: Keep silhouettes and embeddings of closed tracks in `records`.
        """
        self.records: list[TrackRecord] = []
        self._source, self._encoder, self._gallery = source, encoder, gallery
        self._options, self._summary, self._keep = options, summary, keep
        # a lost track keeps its ring, so there may be more rings than walkers in a frame
        self._stream: StreamingEncoder[int] = StreamingEncoder(
            encoder, options.window, options.hop, options.min_frames, 2 * options.max_walkers
        )
        self._agreement = Agreement(encoder.info)
        self._model = model_digits(encoder.info.weights_sha256)
        self._tracks: dict[int, TrackState] = {}
        self._scene = SceneState.READY
        self._masking: str | None = None
        self._time_s: float | None = None
        self._events: list[Event] = []
        self._learn_failed = False

    def search_in(self, gallery: SearchedGallery | None) -> None:
        """Take the gallery that is searched, before the first frame."""
        self._gallery = gallery

    def process(self, result: FrameResult) -> list[Event]:
        """Take one frame; return its events. Tracks that were closed here are passed by."""
        time_s = self._time_s = result.frame.time_s
        self._update_scene(result.scene, result.masking)
        boxes = {observation.id: observation.box for observation in result.observations}
        for number in result.born:
            track = TrackState(
                number,
                self._options.window,
                self._keep,
                box=boxes.get(number),
                visit=new_visit(),
                started_utc=datetime.now(timezone.utc),
            )
            self._tracks[number] = track
            self._summary.tracks += 1
            self._events.append(self._track_event("born", track))
        observations = [item for item in result.observations if item.id in self._tracks]
        queues = {item.id: self._observe(item, time_s) for item in observations}
        if any(queues.values()):
            with self._summary.samples.time("encode"):
                embedded = self._embed(queues)
            for number in embedded:
                self._identify(self._tracks[number], result.read_at)
        for observation in observations:
            self._report_pending(self._tracks[observation.id], time_s)
        for number in result.doubtful:
            if number in self._tracks:
                self._tracks[number].in_doubt = True
        return self.close(result.closed)

    def close(self, tracks: list[int]) -> list[Event]:
        """Give tracks their last word; return it behind the events that wait."""
        for track in tracks:
            self._close(track)
        events, self._events = self._events, []
        return events

    def backend_down(self, error: str) -> list[Event]:
        """Report that nothing can be embedded now; give every track in view its last word."""
        code = ReasonCode.BACKEND_FAILED
        event = self._event("backend_down", state="offline", reason=error, reason_code=code)
        self._events.append(event)
        return self.close_all()

    def backend_is_back(self) -> list[Event]:
        """Return what reports that a server answers again; BackendAway where it does not yet."""
        self._encoder.frames(np.zeros((1, *self._encoder.info.size), np.uint8))
        return [self._event("backend_down", state="online")]

    def close_all(self) -> list[Event]:
        """Give every track in view its last word."""
        return self.close(list(self._tracks))

    def upside_down(self) -> Event:
        """Return the event of a scene in which everybody walks on their head."""
        return self._event(
            "scene", state="disturbed", reason=UPSIDE_DOWN, reason_code=ReasonCode.UPSIDE_DOWN
        )

    def purged(self) -> list[Event]:
        """Return what reports that the gallery erased people whose retention has ended, if any."""
        names = self._gallery.take_purged() if self._gallery is not None else ()
        detail = f"{len(names)} erased, whose retention has ended"  # no names: they are to go
        return [self._event("gallery", state="purged", detail=detail)] if names else []

    def source_event(self, state: SourceState) -> Event:
        """Return the event of a live source's state."""
        return self._event(
            "source",
            state=state.state,
            reason=state.detail or None,
            reason_code=ReasonCode.SOURCE_OFFLINE if state.detail else None,
            detail=f"attempt {state.attempt}" if state.attempt else None,
        )

    def view(self, observation: TrackObservation) -> WalkerView:
        """Return the drawing of one walker."""
        track = self._tracks.get(observation.id)
        decision = track.decision if track is not None else None
        answer: Answer = "none" if decision is None else "known" if decision.name else "unknown"
        if decision is None:
            label = (observation.reason or Reason.TOO_FEW).value
        else:
            distance = "" if decision.distance is None else f" {decision.distance:.2f}"
            label = f"{decision.name or 'unknown'}{distance}"
        caption = f"{observation.id}: {label}"
        return WalkerView(observation.box, caption, answer, observation.mask, observation.id)

    @property
    def most_windows(self) -> int:
        """Windows of the walk that has the most of them, among open tracks and records."""
        walks = [len(track.windows) for track in self._tracks.values()]
        return max([*walks, *(len(record.embeddings) for record in self.records)], default=0)

    @property
    def not_finite(self) -> int:
        """Embeddings held back because of a NaN or an infinity."""
        return self._stream.not_finite

    def _observe(self, observation: TrackObservation, time_s: float) -> list[Mask]:
        fresh, broken = self._tracks[observation.id].observe(observation, time_s)
        if broken:
            self._stream.close(observation.id)
        return fresh

    def _embed(self, queues: dict[int, list[Mask]]) -> list[int]:
        """Push every silhouette, one of each walker at a time; return the tracks with a window."""
        self._summary.silhouettes += sum(map(len, queues.values()))
        embedded: dict[int, None] = {}
        for i in range(max(len(queue) for queue in queues.values())):
            batch = {track: queue[i] for track, queue in queues.items() if i < len(queue)}
            for track, result in self._stream.push(batch).items():
                state = self._tracks[track]
                before = state.before(result)
                earlier = [window.embedding for window in before]
                if self._agreement.is_other(np.array(earlier), result.embedding):
                    self._cut(state, before, result.window_frames)
                state.add_window(result)
                embedded[track] = None
        return list(embedded)

    def _cut(self, track: TrackState, before: list[StreamResult], window_frames: int) -> None:
        """Part a walk whose newest window is of somebody else; the earlier part is a record.

        Args:
            track: The walk, without the newest window.
            before: Its windows that share no frames with that one.
            window_frames: Frames of the newest window; they and as many before may be mixed.
        """
        refused = min(track.usable, 2 * window_frames)
        if self._keep:
            track.windows = before
            track.usable -= refused
            track.silhouettes = track.silhouettes[: max(0, len(track.silhouettes) - refused)]
            self.records.append(self._record(track, track.account(self._options.min_frames)))
        track.begin_anew()
        track.refused[Reason.MIXED] += refused
        account = track.account(self._options.min_frames)
        event = self._track_event("pending", track, frames=track.usable, detail=account)
        self._events.append(event.with_reason(Reason.MIXED))

    def _identify(self, track: TrackState, read_at: float) -> None:
        """Search the gallery for a track; report the answer if it is another than before."""
        if self._gallery is None:
            return
        before = track.decision
        with self._summary.samples.time("identify"):
            track.decision = self._gallery.identify(
                self._walk_of(track),
                self._options.fpir,
                self._options.threshold,
                camera=self._options.camera,
                learn=False,
            )
        self._summary.answers += 1
        latency_ms = (time.perf_counter() - read_at) * 1e3
        self._summary.samples.add("answer", latency_ms)
        if before is not None and (before.name, before.reason) == (
            track.decision.name,
            track.decision.reason,
        ):
            return
        event = self._track_event("named", track, frames=track.usable, latency_ms=latency_ms)
        self._events.append(event.with_decision(track.decision))

    def _walk_of(self, track: TrackState) -> SeenWalk:
        """Return what is searched for: everything seen of the track."""
        return track.walk()

    def _close(self, number: int) -> None:
        track = self._tracks.pop(number, None)
        self._stream.close(number)
        if track is None:
            return
        track.forget_held()
        self._learn(track)
        account = track.account(self._options.min_frames)
        if self._keep:
            self.records.append(self._record(track, account))
        event = self._track_event("closed", track, frames=track.usable, detail=account)
        decision = track.decision
        self._events.append(
            event.with_decision(decision) if decision else event.with_reason(track.no_answer())
        )

    def _learn(self, track: TrackState) -> None:
        """Count the walk in the sums of its camera; a gallery that cannot be written is reported.

        A run that collects walks answers no question, and counts none.
        """
        gallery = self._gallery
        if gallery is None or self._keep or not track.windows or not self._options.learn:
            return
        try:
            gallery.learn(track.walk(), self._options.camera or UNNAMED, track.decision)
        except GalleryError as err:
            if not self._learn_failed:
                log.warning("the mean of this camera stays as it is: %s", err)
            self._learn_failed = True

    def _record(self, track: TrackState, account: str) -> TrackRecord:
        info = self._encoder.info
        silhouettes = np.zeros((0, *info.size), np.uint8)
        embeddings: Floats = np.zeros((0, info.parts, info.embedding), np.float32)
        if track.windows:
            embeddings = track.embeddings()
            agree = self._agreement.of_one_person(embeddings)
            embeddings = embeddings[agree]
            left_out = len(agree) - len(embeddings)
            account += f"; {left_out} windows left out: {Reason.MIXED.value}" if left_out else ""
        return TrackRecord(
            track=track.id,
            silhouettes=np.stack(track.silhouettes) if track.silhouettes else silhouettes,
            embeddings=embeddings,
            salient_frames=track.windows[-1].salient_frames if track.windows else None,
            frames=track.usable,
            refusals={reason.value: count for reason, count in track.refused.items()},
            account=account,
            view=track.view,
            started_s=track.started_s,
            ended_s=track.ended_s,
            box=track.box,
        )

    def _event(self, name: EventName, **fields: Any) -> Event:
        return Event(
            event=name,
            source=self._source,
            camera=self._options.camera,
            time_s=self._time_s,
            model=self._model,
            **fields,
        )

    def _track_event(self, name: EventName, track: TrackState, **fields: Any) -> Event:
        box = None
        if track.box is not None:
            x, y, width, height = track.box
            box = x, y, x + width, y + height
        ended = datetime.now(timezone.utc) if name == "closed" else None
        return self._event(
            name,
            track=track.id,
            visit=track.visit,
            started_utc=track.started_utc,
            ended_utc=ended,
            box=box,
            answer="none",
            **fields,
        )

    def _report_pending(self, track: TrackState, time_s: float) -> None:
        """Report why there is no answer yet, when that changes and not more often than needed."""
        if track.decision is not None or (self._gallery is None and track.windows):
            return
        reason = track.reason or Reason.TOO_FEW
        if track.last_pending is not None:
            last_reason, last_s = track.last_pending
            if last_reason is reason or time_s - last_s < PENDING_EVERY_S:
                return
        track.last_pending = (reason, time_s)
        account = track.account(self._options.min_frames)
        event = self._track_event("pending", track, frames=track.usable, detail=account)
        self._events.append(event.with_reason(reason))

    def _update_scene(self, scene: SceneState, masking: str | None) -> None:
        """Report another state of the scene, or that not everybody gets the better mask."""
        ready = scene is SceneState.READY
        if scene is not self._scene or (ready and masking != self._masking):
            detail = masking if ready else None
            if ready and masking is None and self._masking is not None:
                detail = MASKED_AGAIN
            elif ready and masking is None:
                detail = pace_sentence(self._options.paced_fps)
            event = self._event("scene", state=SCENE_STATES[scene], detail=detail)
            self._events.append(event if ready else event.with_reason(scene))
        self._scene = scene
        if ready:
            self._masking = masking
