"""Runs of the pipeline: answers, reasons, faults, clean ends."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections import deque
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from event_schema import violations
from pooled_encoder import PooledEncoder
from standin_cuda import GONE, Device, NumpyBuffers
from standin_engines import seal
from standin_tensorrt import State, make

import cstl_edge
from cstl_edge.errors import (
    BackendAway,
    BackendUnavailable,
    ConfigError,
    DataError,
    SourceUnavailable,
)
from cstl_edge.gallery.gallery import Gallery
from cstl_edge.live.events import Event, ReasonCode
from cstl_edge.live.pipeline import perception
from cstl_edge.live.pipeline.collect import collect
from cstl_edge.live.pipeline.options import PipelineOptions, RunSummary
from cstl_edge.live.pipeline.perception import FrameResult
from cstl_edge.live.pipeline.recognition import RecognitionStage
from cstl_edge.live.pipeline.run import run
from cstl_edge.live.segmentation.base import SceneState
from cstl_edge.live.sources.base import Frame, FrameSource, SourceState
from cstl_edge.live.sources.open import open_source

WALK = Path(cstl_edge.__file__).parent / "assets" / "walk.mp4"
GOLDEN = Path(__file__).parents[2] / "golden"
BACKGROUND = PipelineOptions(segmenter="background")
H, W, FPS = 200, 400, 25.0
SCENE = np.random.default_rng(1).integers(90, 150, (H, W, 3)).astype(np.uint8)


class StandIn(PooledEncoder):
    """Counts what it was made ready for."""

    info = replace(PooledEncoder.info, weights_sha256="0" * 64)
    warmed_up = 0

    def warm_up(self, walkers):
        self.warmed_up = walkers


def test_the_encoder_is_made_ready_before_anybody_comes():
    encoder = StandIn()
    with run(Street(1), encoder=encoder, options=replace(BACKGROUND, max_walkers=3)):
        assert encoder.warmed_up == 3


class Street(FrameSource):
    """Somebody walks by: head, trunk, swinging legs; `fail_at` raises in mid-stream."""

    def __init__(self, count: int = 120, *, speed: float = 2.6, fail_at: int | None = None) -> None:
        super().__init__("street")
        self.fps, self.size, self.frames = FPS, (H, W), count
        self._count, self._speed, self._fail_at, self._index = count, speed, fail_at, 0

    def reopen(self) -> Street:
        return Street(self._count, speed=self._speed)

    def _next(self) -> Frame | None:
        if self._index == self._fail_at:
            raise SourceUnavailable("the cable is out")
        if self._index >= self._count:
            return None
        self._index += 1
        return Frame(self._index - 1, self._image(self._index - 1), (self._index - 1) / FPS)

    def _image(self, i: int) -> np.ndarray:
        image, x = SCENE.copy(), int(30 + self._speed * i)
        if 5 <= i < self._count - 5:
            spread = int(14 * np.cos(2 * np.pi * i / 14)) if self._speed else 8
            image[50:66, x - 7 : x + 7] = (30, 40, 200)
            image[66:110, x - 12 : x + 12] = (200, 60, 20)
            for side in (-1, 1):
                for row in range(110, 160):
                    middle = x + side * spread * (row - 110) // 50
                    image[row, middle - 6 : middle + 6] = (20, 20, 20)
        return image

    def _release(self) -> None: ...


def all_events(source=None, encoder=None, options=BACKGROUND, **more) -> list[Event]:
    """Return every event of a run over a street, checked by the schema."""
    with run(source or Street(), encoder=encoder or StandIn(), options=options, **more) as events:
        everything = list(events)
    assert [violations(event.to_dict()) for event in everything] == [[]] * len(everything)
    return everything


@pytest.fixture
def gallery(tmp_path: Path):
    with Gallery.open(tmp_path / "people.db", model=StandIn()) as opened:
        yield opened


class HalfRate(FrameSource):
    """Every second frame of a part of the real clip, at half its size: less work."""

    def __init__(self, start_s: float, stop_s: float) -> None:
        self._inner = open_source(WALK, start_s=start_s, stop_s=stop_s)
        super().__init__("walk.mp4")
        self.fps, self.size = 15.0, (self._inner.size[0] // 2, self._inner.size[1] // 2)
        self.frames = self._inner.frames // 2
        self._part = (start_s, stop_s)

    def reopen(self) -> HalfRate:
        return HalfRate(*self._part)

    def _next(self) -> Frame | None:
        frame = next(self._inner, None)
        next(self._inner, None)
        if frame is None:
            return None
        return replace(frame, image=cv2.resize(frame.image, self.size[::-1]))

    def _release(self) -> None:
        self._inner.close()


@pytest.fixture(autouse=True)
def few_samples(monkeypatch) -> None:
    monkeypatch.setattr(perception, "BACKGROUND_SAMPLES", 30)


def test_walker_of_the_clip_is_recognised_in_the_second_half(gallery: Gallery) -> None:
    first = collect(HalfRate(1.4, 4.0), StandIn())
    fill = (first[0].silhouettes > 127).mean(axis=(1, 2))
    feet = first[0].silhouettes[:, -4:].max(axis=(1, 2))
    assert first[0].frames >= 25
    assert fill.std() < 0.06
    assert (feet > 127).all()
    gallery.enroll("walker", first[0].embeddings, consent="test")
    labels: list[str] = []

    def watch(frame: Frame, views: list, note: str | None) -> None:
        labels.extend(view.label for view in views)

    source, options = HalfRate(4.0, 7.6), PipelineOptions(threshold=0.9)
    with run(source, encoder=StandIn(), gallery=gallery, options=options, observer=watch) as events:
        closed = [e for e in events if e.event == "closed"]
    assert [e.person for e in closed].count("walker") == 1
    assert all(e.answer != "none" or e.reason for e in closed)
    named = next(e for e in closed if e.person)
    assert named.frames >= 25
    assert named.distance < named.threshold
    assert any("walker" in label for label in labels)
    assert {"source", "segment", "track", "silhouette", "encode"} <= set(events.summary.stages())


def test_file_gives_the_same_events_every_time(gallery: Gallery) -> None:
    records = collect(Street(), StandIn(), BACKGROUND)
    gallery.enroll("ada", records[0].embeddings, consent="test")
    options = replace(BACKGROUND, threshold=0.5)
    first, second = ([
        replace(event, utc=None, monotonic_s=0.0, latency_ms=None, visit=None, started_utc=None,
                ended_utc=None)
        for event in all_events(gallery=gallery, options=options)
    ] for _ in range(2))  # fmt: skip
    assert first == second
    kinds = [event.event for event in first]
    assert kinds.count("born") == kinds.count("closed") == 1
    assert "named" in kinds
    assert (first[-1].answer, first[-1].person) == ("known", "ada")


def test_events_have_box_model_and_reason() -> None:
    born, *_, closed = all_events()  # without a gallery
    assert closed.reason == "no gallery"
    assert closed.model == "0" * 12
    x0, y0, x1, y1 = born.box
    assert 0 <= x0 < x1 <= W
    assert 40 < y0 < 60
    assert 150 < y1 < 170
    assert closed.box[0] > x1


def test_states_of_source_and_scene_become_events() -> None:
    stage = RecognitionStage("cam", StandIn(), None, BACKGROUND, RunSummary(), keep=False)
    lost = stage.source_event(SourceState("offline", "no frames for 5 s", 2))
    assert (lost.event, lost.state, lost.reason_code) == ("source", "offline", "source_offline")
    assert str(lost) == "cam source - offline: no frames for 5 s (attempt 2)"
    assert stage.source_event(SourceState("online")).reason_code is None
    image = np.zeros((4, 4, 3), np.uint8)
    events = [
        stage.process(FrameResult(Frame(i, image, i / FPS), 0.0, scene))
        for i, scene in enumerate((SceneState.LEARNING, SceneState.READY, SceneState.READY))
    ]
    (learning,), (ready,), nothing = events
    assert (learning.event, learning.state) == ("scene", "learning")
    assert learning.reason_code == "scene_learning"
    assert (ready.state, ready.reason, ready.answer, nothing) == ("ready", None, None, [])
    assert [violations(event.to_dict()) for event in (lost, learning, ready)] == [[], [], []]


def test_empty_gallery_names_nobody(gallery: Gallery) -> None:
    *_, last = all_events(gallery=gallery)
    assert (last.event, last.answer, last.reason) == ("closed", "unknown", "gallery is empty")


def test_standing_person_gets_events_with_the_reason() -> None:
    class Standing(Street):
        def _image(self, i: int) -> np.ndarray:
            return super()._image(i) if 30 <= i < 90 else SCENE.copy()

        def reopen(self) -> Standing:
            return Standing(self._count, speed=0.0)

    everything = all_events(Standing(speed=0.0))
    assert "standing still" in {e.reason for e in everything if e.event == "pending"}
    assert everything[-1].reason == "standing still"
    assert "0 usable frames, need 15; refused:" in everything[-1].detail


def test_too_few_frames_are_counted_in_the_refusal() -> None:
    with pytest.raises(DataError, match=r"no usable walk in street: \d+ usable frames, need 15"):
        collect(Street(27), StandIn(), BACKGROUND)
    with pytest.raises(DataError, match="nobody was seen"):
        collect(Street(8), StandIn(), BACKGROUND)


def test_records_hold_silhouettes_and_embeddings() -> None:
    (record,) = collect(Street(), StandIn(), BACKGROUND)
    assert record.silhouettes.dtype == np.uint8
    assert record.silhouettes.shape == (record.frames, 64, 44)
    assert record.embeddings.shape[1:] == (16, 88)
    assert 2 <= len(record.embeddings) <= record.frames // 15
    assert record.salient_frames.shape == (16,)


def test_fault_of_the_source_is_raised_once_after_the_good_frames() -> None:
    pipeline, events = run(Street(fail_at=60), encoder=StandIn(), options=BACKGROUND), []
    with pytest.raises(SourceUnavailable, match="cable"):
        events.extend(iter(lambda: next(pipeline), None))
    last_words = list(pipeline)
    assert [e.event for e in last_words] == ["closed"]
    assert not threads()


def test_fault_of_the_encoder_stops_the_reader() -> None:
    class Broken(StandIn):
        def frames(self, silhouettes):
            raise DataError("broken")

    with pytest.raises(DataError, match="broken"):
        all_events(encoder=Broken())
    assert not threads()


def test_lost_gpu_is_reported_with_the_last_words_and_then_raised(
    tmp_path, monkeypatch, caplog
) -> None:
    """TensorRT and the GPU are stand-ins: engines are opened once more, then it is over."""
    folder = Path(shutil.copytree(GOLDEN / "tiny", tmp_path / "tiny"))
    seal(folder)
    state = State(Device())
    monkeypatch.setitem(sys.modules, "tensorrt", make(state))
    buffers = "cstl_edge.runtime.tensorrt.encoder.open_buffers"
    monkeypatch.setattr(buffers, lambda: NumpyBuffers(state.device))
    options = replace(BACKGROUND, window=6, hop=2, min_frames=4, demand_walking=False)
    reported = []

    def remove_gpu(event) -> None:
        reported.append(event)
        if event.event == "born":
            state.device.fault = GONE

    with (
        closing(cstl_edge.load(folder, backend="tensorrt")) as encoder,
        run(Street(), encoder=encoder, options=options) as events,
    ):
        with pytest.raises(BackendUnavailable, match="Start the process again") as raised:
            deque(map(remove_gpu, events), maxlen=0)
        assert list(events) == []
    assert raised.value.exit_code == 4
    assert [event.event for event in reported][-2:] == ["backend_down", "closed"]
    assert "the GPU failed and does not come back" in reported[-2].reason
    assert json.loads(reported[-2].to_json())["event"] == "backend_down"
    assert "its engines are opened once more" in caplog.text
    assert not threads()


class Away(StandIn):
    """A server that goes away after some calls, and is away for some more."""

    def __init__(self, after: int, for_calls: int) -> None:
        self.calls, self.after, self.until = 0, after, after + for_calls

    def frames(self, silhouettes):
        self.calls += 1
        if self.after < self.calls <= self.until:
            raise BackendAway("no server answers")
        return super().frames(silhouettes)


def test_a_server_that_goes_away_is_told_once_and_comes_back_by_itself(monkeypatch) -> None:
    monkeypatch.setattr("cstl_edge.live.pipeline.run.BACKEND_RETRY_S", 0.0)
    source = Street()
    source.live = True
    options = replace(BACKGROUND, window=6, hop=2, min_frames=4, demand_walking=False)
    with run(source, encoder=Away(20, 3), options=options) as events:
        reported = [event for event in events if event.event != "pending"]
    names = [(event.event, event.state) for event in reported]
    away, back = names.index(("backend_down", "offline")), names.index(("backend_down", "online"))
    assert names.count(("backend_down", "offline")) == 1
    assert names[away + 1] == ("closed", None)
    assert reported[away].reason_code is ReasonCode.BACKEND_FAILED
    tracks = [event.track for event in reported if event.event == "born"]
    assert len(tracks) == len(set(tracks)) == 2, "whoever is in view is a new track"
    assert names[back + 1][0] == "born"
    assert names[-1] == ("closed", None)


def test_a_file_does_not_wait_for_a_server() -> None:
    with (
        run(Street(), encoder=Away(20, 10**9), options=BACKGROUND) as events,
        pytest.raises(BackendUnavailable, match="no server answers"),
    ):
        deque(events, maxlen=0)


def test_leaving_the_loop_stops_everything() -> None:
    with run(Street(1000, speed=0.3), encoder=StandIn(), options=BACKGROUND) as events:
        next(events)
    assert not threads()
    assert list(events) == []
    events.close()


def test_stop_still_gives_the_last_words() -> None:
    with run(Street(), encoder=StandIn(), options=BACKGROUND) as events:
        assert next(events).event == "born"
        events.stop()
        assert list(events)[-1].event == "closed"
    assert events.summary.frames < 120


def test_fast_sources_are_thinned() -> None:
    source = Street()
    source.fps = 60.0
    with run(source, encoder=StandIn(), options=BACKGROUND) as events:
        assert events.fps == 30.0
        list(events)
    assert events.summary.frames == 60


def test_contradictory_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="min_frames"):
        PipelineOptions(min_frames=31)
    with pytest.raises(ConfigError, match="expected a segmenter of"):
        PipelineOptions(segmenter="x")


def test_no_torch_is_loaded() -> None:
    modules = ("pipeline.run", "segmentation.person_mask", "sources.synthetic.source")
    names = ", ".join(f"cstl_edge.live.{module}" for module in modules)
    code = f"import {names}, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name == "cstl-edge-perception"]
