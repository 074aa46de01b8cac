"""A worker: from pictures to observations, pictures for people, and states of its camera."""

import threading
from collections import deque
from datetime import datetime, timedelta, timezone
from pathlib import Path

import cv2
import numpy as np
import pytest

from cstl_edge.errors import SourceUnavailable
from cstl_edge.live.segmentation.base import Detection, SceneState
from cstl_edge.live.sources.base import Frame, FrameSource, SourceState
from cstl_edge.serve import worker as worker_module
from cstl_edge.serve.messages import (
    FRONT,
    RECOGNISER,
    CameraState,
    ClipRequest,
    Label,
    Labels,
    LivePicture,
    Observation,
    SnapshotRequest,
    TracksEnded,
    TrackSnapshot,
    Watch,
)
from cstl_edge.serve.site import CameraSettings, Zone
from cstl_edge.serve.worker import Worker
from cstl_edge.serve.worker_settings import WorkerSettings

SIZE = (120, 160)
BEGAN = datetime(2026, 11, 30, 12, tzinfo=timezone.utc)


class Child:
    """Stands for the process: keeps what is sent, and says when it is over."""

    def __init__(self):
        self.stopping = threading.Event()
        self.sent, self.inbox, self.values = [], deque(), {}

    def send(self, peer, message):
        self.sent.append((peer, message))
        return True

    def receive(self, timeout_s):
        return self.inbox.popleft() if self.inbox else None

    def beat(self, values, samples_ms, texts):
        self.values = values
        assert all(isinstance(v, float) for v in values.values())

    def of(self, kind, peer=None):
        return [m for p, m in self.sent if isinstance(m, kind) and peer in (None, p)]


class Street(FrameSource):
    """A live source of some pictures in which a bright box walks to the right."""

    fps, size = 10.0, SIZE

    def __init__(self, frames, error, on_state, live):
        super().__init__("synthetic://")
        self.live = live
        self._left, self._error, self._on_state, self._index = frames, error, on_state, 0

    def _next(self):
        if self._index == self._left:
            if self._error:
                raise self._error
            if self.live:
                self._on_state(SourceState("ended"))
            return None
        if self._index == 0 and self.live:
            self._on_state(SourceState("opening", attempt=1))
        index, self._index = self._index, self._index + 1
        image = np.full((*SIZE, 3), 40, np.uint8)
        cv2.rectangle(image, (10 + 4 * index, 20), (40 + 4 * index, 100), (200, 220, 240), -1)
        return Frame(index, image, index / 10, BEGAN + timedelta(seconds=index / 10))


class Bright:
    """A segmenter that finds the box."""

    state = SceneState.READY

    def segment(self, image, time_s, expected=()):
        mask = np.uint8(255) * (image[:, :, 0] > 120).astype(np.uint8)
        x, y, w, h = cv2.boundingRect(mask)
        if w == 0:
            return []
        return [Detection((x, y, w, h), mask[y : y + h, x : x + w], False, 1.0, False, (1.0,) * 6)]


@pytest.fixture
def street(monkeypatch):
    def build(tmp_path: Path, frames=20, error=None, live=True, **camera):
        sources = []

        def opened(address, options):
            sources.append(Street(frames, error, options.on_state, live))
            return sources[-1]

        monkeypatch.setattr(worker_module, "open_source", opened)
        monkeypatch.setattr(worker_module, "open_segmenter", lambda name, threads: Bright())
        settings = WorkerSettings(
            "door",
            CameraSettings(source="rtsp://me:secret@cam/1", **camera),
            "background",
            (64, 44),
            snapshots=True,
            ring_s=0.0,
            spool=tmp_path,
        )
        return Worker(Child(), settings)

    return build


def run_to_the_end(worker):
    """Run until the source has ended."""
    child = worker._child
    for _ in range(2000):
        worker._serve_messages()
        over = worker._state.state == "ended" or worker._reopen_s
        if worker._perception is None and over:
            break
        worker._begin() if worker._perception is None else worker._step(worker._perception)
        worker._beat()
    worker.close()
    return child


def test_frames_become_observations_and_the_camera_has_its_states(tmp_path, street):
    child = run_to_the_end(street(tmp_path))
    states = [s.state for s in child.of(CameraState, RECOGNISER)]
    assert states == ["opening", "online", "offline"]
    assert child.of(CameraState)[-1].reason == "the stream ended; trying again in 5 s"
    assert all(s.source == "rtsp://***@cam/1" for s in child.of(CameraState))
    observations = child.of(Observation, RECOGNISER)
    assert [n for o in observations for n in o.born] == [1]
    assert child.of(TracksEnded)[-1].closed == (1,)
    last = observations[-1]
    assert (last.camera, last.size, last.run) == ("door", SIZE, observations[0].run)
    assert last.tracks[0].colour == (1.0,) * 6
    assert last.utc == BEGAN + timedelta(seconds=1.9)
    assert child.values["frames_total"] == 20
    assert child.values["camera_up"] == 0


def test_a_recording_is_over_at_its_end(tmp_path, street, monkeypatch):
    monkeypatch.setattr(worker_module, "TICK_S", 0.01)
    monkeypatch.setattr(Street, "reopen", lambda self: Street(2, None, None, False), raising=False)
    monkeypatch.setattr(Bright, "learn", lambda *args, **kwargs: None, raising=False)
    worker = street(tmp_path, live=False)
    child = run_to_the_end(worker)
    assert [s.state for s in child.of(CameraState, RECOGNISER)] == ["opening", "online", "ended"]
    worker._begin()
    assert worker._perception is None


def test_an_empty_picture_is_no_message(tmp_path, street, monkeypatch):
    monkeypatch.setattr(Bright, "segment", lambda *args, **kwargs: [])
    assert run_to_the_end(street(tmp_path)).of(Observation) == []


def test_pictures_are_drawn_while_somebody_looks(tmp_path, street):
    worker = street(tmp_path)
    worker._child.inbox.append((FRONT, Watch("door", 1000.0, "boxes")))
    worker._child.inbox.append((FRONT, Watch("door", 1000.0, "segmentation")))
    worker._child.inbox.append((RECOGNISER, Labels("door", {1: Label("Ada", "known")})))
    child = run_to_the_end(worker)
    pictures = child.of(LivePicture, FRONT)
    assert {p.overlay for p in pictures} == {"boxes", "segmentation"}
    assert len({p.sequence for p in pictures}) == len(pictures)
    image = cv2.imdecode(np.frombuffer(pictures[-2].jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (*SIZE, 3)
    nobody = run_to_the_end(street(tmp_path))
    assert nobody.of(LivePicture) == []


def test_the_best_picture_of_a_track_is_given_on_request(tmp_path, street):
    worker = street(tmp_path)
    child = run_to_the_end(worker)
    run = child.of(Observation)[0].run
    for wanted, track in ((run, 1), (run, 77), ("another", 1)):
        worker._serve(SnapshotRequest("door", wanted, track, "id"))
    there, unknown, other = child.of(TrackSnapshot, RECOGNISER)
    crop = cv2.imdecode(np.frombuffer(there.jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert crop[crop.shape[0] // 2, crop.shape[1] // 2].min() > 150  # the box
    assert unknown.jpeg is None
    assert other.jpeg is None
    worker._serve(ClipRequest("door", "c", BEGAN, BEGAN))
    assert child.sent[-1][1].reason == "clips are not kept"


def test_zones_are_named_and_people_outside_are_left_out(tmp_path, street):
    zone = Zone(name="left", polygon=((0, 0), (0.4, 0), (0.4, 1), (0, 1)))
    child = run_to_the_end(street(tmp_path, zones=(zone,)))
    seen = [(t.box[0] + t.box[2] / 2, t.zone) for o in child.of(Observation) for t in o.tracks]
    real = [(x, name) for x, name in seen if name is not None]
    assert real
    assert all(x <= 0.4 * SIZE[1] + 1 for x, _ in real)


def test_outside_its_hours_a_camera_is_left_alone(tmp_path, street, monkeypatch):
    worker = street(tmp_path, schedule=("mon 00:00-00:01",))
    monkeypatch.setattr(worker_module, "is_on", lambda spans, when: False)
    monkeypatch.setattr(worker_module, "TICK_S", 0.0)
    worker._begin()
    worker._begin()
    (state,) = worker._child.of(CameraState, RECOGNISER)
    assert (state.state, state.reason) == ("paused", "outside its hours (mon 00:00-00:01)")
    assert worker._perception is None


def test_a_source_that_fails_for_good_ends_the_process_with_its_reason(tmp_path, street):
    worker = street(tmp_path, frames=3, error=SourceUnavailable("the cable is out"))
    with pytest.raises(SourceUnavailable, match="cable"):
        run_to_the_end(worker)


def test_offline_stays_until_a_picture_comes(tmp_path, street):
    worker = street(tmp_path)
    worker._take_source_state(SourceState("offline", "no frame for 20 s", 1))
    worker._take_source_state(SourceState("opening", attempt=2))
    worker._take_source_state(SourceState("offline", "no frame for 20 s", 2))
    (state,) = worker._child.of(CameraState, RECOGNISER)
    assert (state.state, state.reason_code) == ("offline", "source_offline")


def test_a_frame_that_is_stuck_in_perception_stops_the_heart(tmp_path, street):
    worker = street(tmp_path)
    worker._begin()
    perception = worker._perception
    worker._beat()
    worker._child.values = None
    perception.abandon()
    perception.join(30)
    perception.busy_since_s = -1e6
    worker._beat()
    assert worker._child.values is None
    worker.close()
