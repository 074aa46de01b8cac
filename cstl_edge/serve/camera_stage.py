"""Recognition of one camera of the service: the live stage, fed by observations of a worker."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cstl_edge.gallery.match import SeenWalk
from cstl_edge.live.events import Event, EventName
from cstl_edge.live.pipeline.options import PipelineOptions, RunSummary
from cstl_edge.live.pipeline.perception import FrameResult, TrackObservation
from cstl_edge.live.pipeline.recognition import RecognitionStage, SearchedGallery
from cstl_edge.live.pipeline.track_state import TrackState
from cstl_edge.live.sources.base import Frame
from cstl_edge.runtime.base import Encoder
from cstl_edge.serve.messages import Observation

NO_PICTURE = np.zeros((0, 0, 3), np.uint8)  # pictures stay with the worker


@dataclass(frozen=True)
class TrackHappening:
    """What the stage found out about a track in a frame."""

    name: EventName
    track: TrackState
    latency_ms: float | None


class CameraStage(RecognitionStage):
    """Tracks of one life of a worker; what happens to them is in `happenings` too."""

    def __init__(
        self,
        camera: str,
        run: str,
        encoder: Encoder,
        gallery: SearchedGallery | None,
        options: PipelineOptions,
        walk_of: Callable[[str, str, int], SeenWalk],
    ) -> None:
        """Prepare the stage.

        Args:
            camera: Name of the camera.
            run: Life of its worker.
            encoder: Embeds the silhouettes.
            gallery: Searched for every walk.
            options: Windows and thresholds.
            walk_of: Given camera, run and track, returns what is searched for.
        """
        self.summary = RunSummary()
        super().__init__(camera, encoder, gallery, options, self.summary, keep=False)
        self.run = run
        self.camera, self._of_stay = camera, walk_of
        self._happenings: list[TrackHappening] = []

    def use(self, options: PipelineOptions) -> None:
        """Search with other thresholds from now on."""
        self._options = options

    def observe(self, message: Observation) -> tuple[list[Event], list[TrackHappening]]:
        """Take a frame of the worker; return events about the scene, and about tracks."""
        frame = Frame(message.frame, NO_PICTURE, message.time_s, message.utc)
        observations = [
            TrackObservation(
                t.track, t.box, None, t.reason, t.silhouette, t.heading, resting=t.resting
            )
            for t in message.tracks
        ]
        result = FrameResult(
            frame,
            message.read_at_s,
            message.scene,
            observations,
            list(message.born),
            list(message.closed),
            message.inverted,
            message.masking,
            list(message.doubtful),
        )
        return self._taken(self.process(result))

    def end(self, tracks: list[int]) -> tuple[list[Event], list[TrackHappening]]:
        """Give tracks their last word."""
        return self._taken(self.close(tracks))

    def end_all(self) -> tuple[list[Event], list[TrackHappening]]:
        """Give every track its last word."""
        return self._taken(self.close_all())

    def label(self, number: int) -> str:
        """Return why a track has no answer, for the picture; empty for one that is not known."""
        track = self._tracks.get(number)
        return "" if track is None or track.reason is None else track.reason.value

    def _taken(self, events: list[Event]) -> tuple[list[Event], list[TrackHappening]]:
        happenings, self._happenings = self._happenings, []
        return [event for event in events if event.track is None], happenings

    def _walk_of(self, track: TrackState) -> SeenWalk:
        return self._of_stay(self.camera, self.run, track.id)

    def _identify(self, track: TrackState, read_at: float) -> None:
        """Search for a track; every answer counts here, the same one too: a visit may need it."""
        super()._identify(track, read_at)
        latency_ms = (time.perf_counter() - read_at) * 1e3
        self._happenings.append(TrackHappening("named", track, latency_ms))

    def _track_event(self, name: EventName, track: TrackState, **fields: Any) -> Event:
        if name != "named":
            self._happenings.append(TrackHappening(name, track, None))
        return super()._track_event(name, track, **fields)
