"""Worker: one camera, from its pictures to silhouettes; the process behind `camera:NAME`.

Perception runs in its own thread, as in `live`; this loop takes its findings, sends them to the
recogniser, draws for whoever looks, and answers requests for pictures. It ends with an error where
the camera cannot be read at all; the supervisor starts it again.
"""

from __future__ import annotations

import logging
import queue
import secrets
import time
from collections import deque
from collections.abc import Mapping
from datetime import datetime

from cstl_edge.live.events import ReasonCode
from cstl_edge.live.pipeline.options import PipelineOptions
from cstl_edge.live.pipeline.perception import (
    EndOfStream,
    FrameResult,
    PerceptionThread,
    TrackObservation,
)
from cstl_edge.live.segmentation.base import SceneState
from cstl_edge.live.segmentation.open import open_segmenter
from cstl_edge.live.sources.base import FrameSource, SourceState, redact
from cstl_edge.live.sources.open import open_source, source_kind
from cstl_edge.live.sources.options import SourceOptions
from cstl_edge.opencv import import_cv2
from cstl_edge.serve.child import Child
from cstl_edge.serve.clips import ClipRing
from cstl_edge.serve.messages import (
    FRONT,
    RECOGNISER,
    SUPERVISOR,
    CameraState,
    ClipRequest,
    Label,
    Labels,
    Message,
    Observation,
    SeenTrack,
    SnapshotRequest,
    SourceStateName,
    TracksEnded,
    Watch,
)
from cstl_edge.serve.paced import PacedSource
from cstl_edge.serve.pictures import Pictures
from cstl_edge.serve.schedule import is_on
from cstl_edge.serve.snapshots import Snapshots
from cstl_edge.serve.worker_settings import WorkerSettings
from cstl_edge.serve.zones import ZonedSegmenter, Zones

log = logging.getLogger(__name__)

TICK_S = 0.1  # that a message of perception is waited for
BUSY_S = 15.0  # that one frame may take; then this process counts as hung
LAST_FRAMES_S = 1.0  # that the end of perception is waited for
JOIN_S = 1.0
REOPEN_S = 5.0  # from the end of a stream to its next opening
RATE_S = 5.0  # over which frames per second are counted
WITH_RATE = ("camera", "csi")  # sources that can be asked for a rate


def main(child: Child, settings: WorkerSettings) -> None:
    """Run a camera until the service ends.

    child: this process
    settings: of the camera
    """
    import_cv2().setNumThreads(1)
    worker = Worker(child, settings)
    try:
        worker.run()
    finally:
        worker.close()


class Worker:
    """One camera in its process."""

    def __init__(self, child: Child, settings: WorkerSettings) -> None:
        self._child, self._settings = child, settings
        self._camera = settings.camera
        self._zones = Zones(settings.settings.zones)
        self._pictures = Pictures(self._camera, self._zones)
        self._clips = ClipRing(
            settings.ring_s, settings.spool, lambda clip: child.send(RECOGNISER, clip)
        )
        self._labels: Mapping[int, Label] = {}
        self._run, self._snapshots = "", Snapshots()
        self._state = CameraState(self._camera, "starting", source=self._shown_source)
        self._source: FrameSource | None = None
        self._perception: PerceptionThread | None = None
        self._scene: tuple[SceneState, str | None] = (SceneState.READY, None)
        self._counts = {"frames_total": 0.0, "openings_total": 0.0}
        self._dropped_before = 0  # by sources that were closed
        self._times: deque[float] = deque()  # of frames, for their rate
        self._tracks = 0
        self._checked_schedule_s = self._reopen_s = 0.0

    def run(self) -> None:
        """Look at the camera whenever its schedule says so, until the process is to end."""
        while not self._child.stopping.is_set():
            self._serve_messages()
            if self._perception is None:
                self._begin()
            else:
                self._step(self._perception)
            self._beat()
        self._finish()

    def close(self) -> None:
        """Stop everything at once."""
        self._clips.close()
        perception, self._perception = self._perception, None
        if perception is not None:
            perception.abandon()
        if self._source is not None and (perception is None or self._source.live):
            self._source.close()

    @property
    def _shown_source(self) -> str:
        return redact(self._settings.settings.source)

    def _begin(self) -> None:
        """Open the camera, or wait where it is not the time for it or it has ended."""
        too_early = time.monotonic() < self._reopen_s
        if self._state.state == "ended" or too_early or not self._on_schedule():
            self._child.stopping.wait(TICK_S)
            return
        camera = self._settings.settings
        self._run, self._snapshots, self._labels = secrets.token_hex(4), Snapshots(), {}
        options = PipelineOptions(self._settings.segmenter, min_height_px=camera.min_height_px)
        segmenter = open_segmenter(self._settings.segmenter, threads=1)
        if camera.zones:
            segmenter = ZonedSegmenter(segmenter, self._zones)
        if self._state.state != "offline":
            self._tell("opening")
        source = PacedSource(open_source(camera.source, self._source_options()), camera.fps)
        self._source = source
        perception = PerceptionThread(source, segmenter, options, self._settings.size)
        perception.start()
        self._perception = perception

    def _source_options(self) -> SourceOptions:
        camera = self._settings.settings
        asks = source_kind(camera.source.partition("?")[0]) in WITH_RATE
        return SourceOptions(
            fps=camera.fps if asks else None,
            rotate=camera.orientation.rotate or None,
            flip=camera.orientation.flip,
            wait=True,
            first_picture_s=camera.first_picture_s,
            next_picture_s=camera.next_picture_s,
            on_state=self._on_source_state,
        )

    def _on_schedule(self) -> bool:
        spans = self._settings.settings.schedule
        if is_on(spans, datetime.now()):
            return True
        if self._state.state != "paused":
            self._tell("paused", reason=f"outside its hours ({', '.join(spans)})")
        return False

    def _step(self, perception: PerceptionThread) -> None:
        """Take one message of perception, if one comes."""
        now_s = time.monotonic()
        if now_s - self._checked_schedule_s > 1.0:
            self._checked_schedule_s = now_s
            if not self._on_schedule():
                self._end_perception()
                return
        try:
            message = perception.messages.get(timeout=TICK_S)
        except queue.Empty:
            return
        if isinstance(message, FrameResult):
            self._take_frame(message, perception)
        elif isinstance(message, EndOfStream):
            self._take_end(message)
        else:
            self._take_source_state(message)

    def _take_frame(self, result: FrameResult, perception: PerceptionThread) -> None:
        if self._state.state != "online":
            self._tell("online")
        self._counts["frames_total"] += 1
        self._times.append(time.monotonic())
        self._tracks = len(result.observations)
        self._send_observation(result)
        age_ms = (time.perf_counter() - result.read_at) * 1e3
        perception.samples.add("frame_age", age_ms)
        if self._settings.snapshots and result.observations:
            self._snapshots.take(result)
        self._clips.add(result.frame.image, result.frame.utc)
        for overlay in self._pictures.due():
            with perception.samples.time("encode"):
                picture = self._pictures.draw(result, self._labels, overlay)
            self._child.send(FRONT, picture)

    def _send_observation(self, result: FrameResult) -> None:
        """Send a frame to the recogniser; nothing of one in which nothing is or happens."""
        scene = result.scene, result.masking
        scene_changed, self._scene = scene != self._scene, scene
        if not (result.observations or result.born or result.closed or scene_changed):
            return
        size = result.frame.image.shape[0], result.frame.image.shape[1]
        message = Observation(
            camera=self._camera,
            run=self._run,
            frame=result.frame.index,
            utc=result.frame.utc,
            time_s=result.frame.time_s,
            read_at_s=result.read_at,
            size=size,
            scene=result.scene,
            tracks=tuple(self._seen(item, size) for item in result.observations),
            born=tuple(result.born),
            closed=tuple(result.closed),
            inverted=result.inverted,
            masking=result.masking,
            doubtful=tuple(result.doubtful),
        )
        self._child.send(RECOGNISER, message)

    def _seen(self, item: TrackObservation, size: tuple[int, int]) -> SeenTrack:
        x, y, width, height = (float(v) for v in item.box)
        return SeenTrack(
            track=item.id,
            box=(x, y, width, height),
            reason=item.reason,
            silhouette=item.silhouette,
            heading=item.heading,
            colour=item.colours,
            zone=self._zones.name_of(item.box, size),
            resting=item.resting,
        )

    def _take_end(self, end: EndOfStream) -> None:
        """Take the end of all tracks, and of the source where that is over."""
        self._child.send(RECOGNISER, TracksEnded(self._camera, self._run, tuple(end.closed)))
        self._tracks = 0
        if not end.final:
            return
        live = self._source is not None and self._source.live
        self._drop_perception()
        if end.error is not None:
            raise end.error
        if live:  # cameras that start anew end their streams in good order
            self._reopen_s = time.monotonic() + REOPEN_S
            self._tell("offline", f"the stream ended; trying again in {REOPEN_S:g} s")
        else:
            self._tell("ended", "the recording is over")

    def _on_source_state(self, state: SourceState) -> None:
        """Take a state of a live source, in perception's thread or while it opens."""
        if self._perception is None:
            self._take_source_state(state)
        else:
            self._perception.report(state)

    def _take_source_state(self, state: SourceState) -> None:
        if state.state == "opening":
            self._counts["openings_total"] += 1
            if self._state.state == "offline":
                return  # it stays offline, with its reason, until a picture comes
        if state.state in ("opening", "offline"):  # that it is online, the first frame says
            self._tell(state.state, state.detail or None, state.attempt)

    def _tell(self, state: SourceStateName, reason: str | None = None, attempt: int = 0) -> None:
        """Tell everybody the state of the camera, where it has changed."""
        if (state, reason) == (self._state.state, self._state.reason):
            return
        code = ReasonCode.SOURCE_OFFLINE.value if state == "offline" else None
        self._state = CameraState(
            self._camera, state, code, reason, self._shown_source, attempt=attempt
        )
        for peer in (SUPERVISOR, RECOGNISER):
            self._child.send(peer, self._state)

    def _serve_messages(self) -> None:
        """Answer what the others ask for."""
        while (received := self._child.receive(0.0)) is not None:
            self._serve(received[1])

    def _serve(self, message: Message) -> None:
        if isinstance(message, Labels):
            self._labels = message.by_track
        elif isinstance(message, Watch):
            self._pictures.watch(message)
        elif isinstance(message, SnapshotRequest):
            known = self._snapshots if message.run == self._run else Snapshots()
            self._child.send(RECOGNISER, known.answer(message))
        elif isinstance(message, ClipRequest):
            self._clips.request(message)

    def _beat(self) -> None:
        """Tell that this process lives; not where a frame is stuck in perception."""
        perception = self._perception
        busy_s = perception.busy_since_s if perception is not None else None
        if busy_s is not None and time.perf_counter() - busy_s > BUSY_S:
            return
        now_s = time.monotonic()
        while self._times and now_s - self._times[0] > RATE_S:
            self._times.popleft()
        dropped = self._dropped_before + (self._source.dropped if self._source else 0)
        values = {
            **self._counts,
            "dropped_total": float(dropped),
            "fps": len(self._times) / RATE_S,
            "tracks": float(self._tracks),
            "unfollowed_total": float(perception.unfollowed if perception else 0),
            "camera_up": float(self._state.state == "online"),
        }
        self._child.beat(values, self._samples(), {"segmenter": self._settings.segmenter})

    def _samples(self) -> dict[str, list[float]]:
        """Take the milliseconds by stage since the last call."""
        if self._perception is None:
            return {}
        taken: dict[str, list[float]] = {}
        for stage, samples in list(self._perception.samples.by_stage.items()):
            name = "capture" if stage == "source" else stage
            taken[name] = [samples.popleft() for _ in range(len(samples))]
        return taken

    def _end_perception(self) -> None:
        """Take no more frames; the tracks get their end."""
        perception = self._perception
        if perception is None:
            return
        perception.finish()
        if self._source is not None and self._source.live:
            self._source.close()
        deadline_s = time.monotonic() + LAST_FRAMES_S
        while self._perception is not None and time.monotonic() < deadline_s:
            try:
                message = perception.messages.get(timeout=TICK_S)
            except queue.Empty:
                continue
            if isinstance(message, FrameResult):
                self._send_observation(message)
            elif isinstance(message, EndOfStream):
                closed = TracksEnded(self._camera, self._run, tuple(message.closed))
                self._child.send(RECOGNISER, closed)
                if message.final:
                    self._drop_perception()
        self._drop_perception()

    def _drop_perception(self) -> None:
        perception, self._perception = self._perception, None
        source, self._source = self._source, None
        if perception is None:
            return
        perception.abandon()
        if source is not None and source.live:
            source.close()
        perception.join(JOIN_S)
        if source is not None:
            self._dropped_before += source.dropped
            if not perception.is_alive():  # closing a file under its reader would crash cv2
                source.close()

    def _finish(self) -> None:
        self._end_perception()
