"""Cameras as the recogniser sees them: observations in, visits and labels out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from cstl_edge.errors import BackendAway
from cstl_edge.live.events import Event, ReasonCode
from cstl_edge.live.pipeline.options import PipelineOptions
from cstl_edge.live.sources.base import redact
from cstl_edge.live.tracking.walk_filter import Reason
from cstl_edge.runtime.base import Encoder
from cstl_edge.serve.camera_stage import CameraStage, TrackHappening
from cstl_edge.serve.corrected_gallery import CorrectedGallery
from cstl_edge.serve.ledger import Ledger
from cstl_edge.serve.messages import (
    CameraState,
    Label,
    Labels,
    Message,
    Observation,
    TracksEnded,
    camera_process,
)
from cstl_edge.serve.service_data import ServiceData
from cstl_edge.serve.stays import Stay
from cstl_edge.serve.stitching import VisitTrack
from cstl_edge.serve.unknowns import Unknowns
from cstl_edge.serve.visits import Visits

SOURCE_STATES = ("opening", "online", "offline", "ended")  # that are events
UPSIDE_DOWN = "upside_down"

log = logging.getLogger(__name__)


class Cameras:
    """The stages of all cameras, and who is in view of them."""

    def __init__(
        self,
        data: ServiceData,
        encoder: Encoder,
        gallery: CorrectedGallery,
        visits: Visits,
        ledger: Ledger,
        unknowns: Unknowns,
        send: Callable[[str, Message], object],
    ) -> None:
        """Begin without cameras.

        Args:
            data: What is kept.
            encoder: Embeds the silhouettes.
            gallery: Searched for every walk.
            visits: Stitches tracks.
            ledger: Writes events.
            unknowns: Names of unknown visitors.
            send: Hands a message to a peer.
        """
        self._data, self._encoder, self._gallery = data, encoder, gallery
        self._visits, self._ledger, self._unknowns, self._send = visits, ledger, unknowns, send
        self._stages: dict[str, CameraStage] = {}
        self._tracks: dict[tuple[str, str, int], VisitTrack] = {}
        self._labels: dict[str, dict[int, Label]] = {}
        self._inverted: set[str] = set()
        self._states: dict[str, tuple[str, str | None]] = {}
        self._backend_away = False
        self.frames = 0

    @property
    def walkers(self) -> int:
        """Tracks in view of any camera."""
        return len(self._tracks)

    def samples(self) -> dict[str, list[float]]:
        """Return the milliseconds by stage since the last call."""
        taken: dict[str, list[float]] = {}
        for stage in self._stages.values():
            for name, samples in stage.summary.samples.by_stage.items():
                taken.setdefault(name, []).extend(samples)
            stage.summary.samples.by_stage.clear()
        return taken

    def observe(self, message: Observation) -> None:
        """Take a frame of a worker."""
        stage = self._stage(message.camera, message.run)
        self.frames += 1
        for seen in message.tracks:
            key = (message.camera, message.run, seen.track)
            track = self._tracks.get(key)
            if track is not None:
                if seen.reason is Reason.MERGED and track.state.windows:
                    self._visits.freeze(track, message.time_s, message.utc)
                track.see(seen.box, message.time_s, message.utc, seen.colour, seen.silhouette)
                track.zone = seen.zone or track.zone
                self._visits.see(track)
        try:
            events, happenings = stage.observe(message)
            self._backend_is_back(message.camera)
        except BackendAway as err:
            self._backend_goes(message.camera, str(err))
            events, happenings = stage.end_all()
        self._tell_scene(message, events)
        self._take(stage, happenings, message)
        self._send_labels(stage, message)

    def end_tracks(self, message: TracksEnded) -> None:
        """Close tracks of a worker that sees nothing more."""
        stage = self._stages.get(message.camera)
        if stage is not None and stage.run == message.run:
            _, happenings = stage.end(list(message.closed))
            self._take(stage, happenings, None)

    def take_state(self, message: CameraState) -> None:
        """Tell the state of a camera where it is another one than before."""
        told = (message.state, message.reason)
        if message.state not in SOURCE_STATES or self._states.get(message.camera) == told:
            return
        self._states[message.camera] = told
        codes = {code.value for code in ReasonCode}
        code = message.reason_code if message.reason_code in codes else None
        event = self._event(message.camera, "source")
        self._data.tell(
            replace(
                event,
                source=message.source or event.source,
                state=message.state,  # type: ignore[arg-type]
                reason=message.reason,
                reason_code=None if code is None else ReasonCode(code),
                detail=f"attempt {message.attempt}" if message.attempt else None,
            )
        )

    def follow_site(self) -> None:
        """Take over a changed site: its thresholds, and the end of cameras that are gone."""
        for camera in set(self._stages) - set(self._data.site.cameras):
            self._end_stage(self._stages.pop(camera))
        for camera, stage in self._stages.items():
            stage.use(self._options(camera))

    def end_all(self) -> None:
        """Close all tracks: the service stops."""
        while self._stages:
            self._end_stage(self._stages.popitem()[1])

    def _stage(self, camera: str, run: str) -> CameraStage:
        """Return the stage of a camera's worker; tracks of its life before are closed."""
        stage = self._stages.get(camera)
        if stage is not None and stage.run == run:
            return stage
        if stage is not None:
            self._end_stage(stage)
        options = self._options(camera)
        stage = CameraStage(
            camera, run, self._encoder, self._gallery, options, self._visits.walk_of
        )
        self._stages[camera] = stage
        return stage

    def _options(self, camera: str) -> PipelineOptions:
        site = self._data.site
        settings = site.cameras.get(camera)
        return PipelineOptions(
            camera=camera,
            fpir=(settings.fpir if settings else None) or site.fpir,
            threshold=settings.threshold if settings else None,
        )

    def _end_stage(self, stage: CameraStage) -> None:
        _, happenings = stage.end_all()
        self._take(stage, happenings, None)

    def _take(
        self, stage: CameraStage, happenings: list[TrackHappening], message: Observation | None
    ) -> None:
        """Hand what happened to tracks on to the visits."""
        for happening in happenings:
            state = happening.track
            key = (stage.camera, stage.run, state.id)
            if happening.name == "born" and message is not None:
                self._begin(stage, happening, message)
            elif happening.name == "closed":
                stay = self._visits.stay_of(*key)
                if stay is not None:
                    self._ledger.ask_for_snapshot(stay)
                self._tracks.pop(key, None)
                self._visits.close_track(*key)
            elif (stay := self._visits.stay_of(*key)) is None:
                continue
            elif happening.name == "named" and state.decision is not None:
                self._visits.answered(stay, state.decision, happening.latency_ms)
            elif happening.name == "pending":
                self._visits.unanswered(stay, happening.track.reason or state.no_answer())

    def _begin(self, stage: CameraStage, happening: TrackHappening, message: Observation) -> None:
        state = happening.track
        seen = next((t for t in message.tracks if t.track == state.id), None)
        box = seen.box if seen is not None else state.box or (0.0, 0.0, 1.0, 1.0)
        track = VisitTrack(
            run=stage.run,
            number=state.id,
            camera=stage.camera,
            state=state,
            first_box=box,
            born_s=message.time_s,
            born_utc=message.utc,
            width=float(message.size[1]),
        )
        colour = seen.colour if seen is not None else None
        track.see(box, message.time_s, message.utc, colour, None)
        track.zone = seen.zone if seen is not None else None
        self._tracks[stage.camera, stage.run, state.id] = track
        self._visits.begin(track)

    def _tell_scene(self, message: Observation, events: list[Event]) -> None:
        """Tell what is about the scene, and once that everybody walks on their head."""
        stage = self._stages[message.camera]
        if message.inverted and message.camera not in self._inverted:
            self._inverted.add(message.camera)
            events = [*events, stage.upside_down()]
        elif not message.inverted:
            self._inverted.discard(message.camera)
        shown = self._event(message.camera, "scene").source
        for event in events:
            self._data.tell(replace(event, source=shown, utc=self._data.clock()))

    def _event(self, camera: str, name: str) -> Event:
        settings = self._data.site.cameras.get(camera)
        return Event(
            event=name,  # type: ignore[arg-type]
            source=redact(settings.source) if settings else camera,
            camera=camera,
            utc=self._data.clock(),
            model=self._data.model,
        )

    def _backend_goes(self, camera: str, error: str) -> None:
        """Report once that a server that computes is away."""
        if not self._backend_away:
            self._backend_away = True
            log.warning("%s", error)
            code = ReasonCode.BACKEND_FAILED
            event = self._event(camera, "backend_down")
            self._data.tell(replace(event, state="offline", reason=error, reason_code=code))

    def _backend_is_back(self, camera: str) -> None:
        if self._backend_away:
            self._backend_away = False
            self._data.tell(replace(self._event(camera, "backend_down"), state="online"))

    def _send_labels(self, stage: CameraStage, message: Observation) -> None:
        """Send what is written at the walkers, when it is something else than before."""
        labels = {}
        for seen in message.tracks:
            stay = self._visits.stay_of(stage.camera, stage.run, seen.track)
            if stay is not None:
                self._ledger.save_now_and_then(stay)
                labels[seen.track] = self._label(stage, stay, seen.track)
        if labels != self._labels.get(stage.camera):
            self._labels[stage.camera] = labels
            self._send(camera_process(stage.camera), Labels(stage.camera, labels))

    def _label(self, stage: CameraStage, stay: Stay, track: int) -> Label:
        row = stay.row
        if row.answer == "known":
            return Label(str(row.person), "known")
        if row.answer == "unknown":
            text = "unknown" if row.cluster is None else self._unknowns.label(row.cluster)
            return Label(text, "unknown")
        return Label(stage.label(track) or "…", "none" if row.reason_code else "pending")
