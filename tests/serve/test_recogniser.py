"""The recogniser as a process sees it: states of cameras, reloads, figures; once with the model."""

import threading
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest
from event_schema import violations
from pooled_encoder import PooledEncoder
from recogniser_scene import START, House, Walk

from cstl_edge.errors import GalleryError, ServerRefuses
from cstl_edge.gallery.gallery import Gallery
from cstl_edge.live.pipeline.options import PipelineOptions
from cstl_edge.live.pipeline.perception import EndOfStream, FrameResult, PerceptionThread
from cstl_edge.live.segmentation.open import open_segmenter
from cstl_edge.live.sources.synthetic.source import SyntheticSource
from cstl_edge.runtime import load
from cstl_edge.serve import recogniser
from cstl_edge.serve.messages import (
    CameraState,
    Clip,
    ClipRequest,
    EventMessage,
    Observation,
    Reload,
    SeenTrack,
    SnapshotRequest,
    TracksEnded,
)
from cstl_edge.serve.recogniser import Recogniser


@pytest.fixture
def house(tmp_path):
    house = House(tmp_path, clips={"enabled": True})
    yield house
    house.close()


def test_the_state_of_a_camera_is_told_once(house):
    offline = CameraState("door", "offline", "source_offline", "no picture for 20 s", "rtsp://x")
    for state in (CameraState("door", "opening"), offline, offline, CameraState("door", "off")):
        house.recogniser.receive("camera:door", state)
    events = house.events("source")
    assert [event["state"] for event in events] == ["opening", "offline"]
    assert events[1]["reason_code"] == "source_offline"
    assert all(violations(event) == [] for event in events)


def test_a_reload_closes_the_tracks_of_cameras_that_are_gone(house):
    house.play(Walk(1, camera="yard", seconds=20), until_s=5)
    site = house.site.model_copy(update={"cameras": {"door": house.site.cameras["door"]}})
    house.recogniser.receive("supervisor", Reload(site))
    house.skip(20)
    (visit,) = house.visits()
    assert visit.ended_utc is not None


def test_a_reload_changes_the_threshold_of_cameras_that_run_on(house):
    house.enrol("Ada", 1)
    house.play(Walk(1))
    cameras = {n: c.model_copy(update={"threshold": 1e-6}) for n, c in house.site.cameras.items()}
    changed = house.site.model_copy(update={"cameras": cameras, "segmenter": "background"})
    house.recogniser.receive("supervisor", Reload(changed))
    house.play(Walk(1))
    before, after = house.visits()[-2:]
    assert (before.answer, after.answer) == ("known", "unknown")
    assert after.threshold == 1e-6
    assert house.recogniser.recordings.segmenter == "background"


def test_pictures_and_clips_that_come_late_find_their_visit(house):
    house.play(Walk(1))
    (visit,) = house.visits()
    house.answer_snapshots()
    (request,) = house.messages(ClipRequest)
    assert request.start_utc < START
    video = house.site.spool / "clip.mp4"
    video.write_bytes(b"video")
    house.recogniser.receive("camera:door", Clip("door", request.id, str(video)))
    visit = house.reader.visit(visit.id)
    row, path = house.reader.media(visit.clip)
    assert (row.mime, path.read_bytes(), video.exists()) == ("video/mp4", b"video", False)
    assert house.reader.media(visit.snapshot)[0].mime == "image/jpeg"
    assert house.reader.media(visit.strip)[1].read_bytes().startswith(b"\x89PNG")


def test_the_clip_of_a_long_visit_is_cut_while_the_camera_has_its_beginning(house):
    keep = house.site.keep.clips
    house.play(Walk(1, seconds=keep.max_s + 20, speed=5), until_s=keep.max_s + 2)
    (request,) = house.messages(ClipRequest)
    assert (request.end_utc - request.start_utc).total_seconds() == pytest.approx(keep.max_s, abs=1)
    house.skip(90)
    assert house.visits()[0].ended_utc is not None
    assert house.messages(ClipRequest) == [request]


def test_pictures_nobody_asked_for_are_not_kept(house, tmp_path):
    outside = tmp_path / "secret.mp4"
    outside.write_bytes(b"video")
    house.play(Walk(1))
    (request,) = house.messages(ClipRequest)
    house.recogniser.receive("camera:door", Clip("door", request.id, str(outside)))
    left_over = house.site.spool / "clip.mp4"
    left_over.write_bytes(b"video")
    house.recogniser.receive("camera:door", Clip("door", "no such request", str(left_over)))
    assert outside.exists()
    assert not left_over.exists()
    assert house.visits()[0].clip is None


def test_nothing_is_asked_for_where_nothing_is_kept(tmp_path):
    house = House(tmp_path, snapshots={"enabled": False})
    house.play(Walk(1))
    assert house.messages(SnapshotRequest) == []
    assert house.messages(ClipRequest) == []
    assert house.visits()[0].strip is None
    house.close()


def test_figures_say_what_the_health_page_shows(house):
    house.play(Walk(1))
    recogniser = house.recogniser
    figures = recogniser.figures()
    assert figures["frames_total"] > 50
    assert figures["store_bytes"] > 0
    assert recogniser.texts()["device"] == "cpu"
    answers = recogniser.counts()["answers_total"]
    assert answers[("unknown", "gallery_empty")] >= 1
    assert set(recogniser.cameras.samples()) >= {"encode", "identify"}


def test_a_gallery_of_another_model_is_one_clear_line(house):
    house.enrol("Ada", 1)
    house.close()

    class Other(PooledEncoder):
        info = replace(PooledEncoder.info, weights_sha256="6" * 64)

    with pytest.raises(GalleryError, match="holds templates of model 5555"):
        Recogniser(house.site, lambda *_: None, Other())
    house.open()
    assert [person.name for person in house.reader.people()] == ["Ada"]


def test_walks_of_an_encrypted_gallery_are_encrypted_here_too(tmp_path, monkeypatch):
    pytest.importorskip("cryptography")
    monkeypatch.setenv("CSTL_EDGE_GALLERY_PASSPHRASE", "a passphrase of some length")
    house = House(tmp_path / "plain", unknowns={"enabled": True})
    sealed = House.__new__(House)
    folder = tmp_path / "sealed" / "data"
    folder.mkdir(parents=True)
    Gallery.open(folder / "gallery.db", encrypt=True).close()
    sealed.__init__(tmp_path / "sealed", unknowns={"enabled": True})
    embeddings = []
    assert house.recogniser.texts()["gallery"] == "not encrypted"
    assert "names, events and pictures" in sealed.recogniser.texts()["gallery"]
    for place in (house, sealed):
        place.play(Walk(7, seconds=8))
        place.play(Walk(7, seconds=8))
        assert [row.visits for row in place.reader.unknowns()] == [2]
        embeddings.append(place.recogniser.data.store.tracks("1")[0].embedding)
        place.restart()
        assert [row.visits for row in place.reader.unknowns()] == [2]
        place.close()
    plain, secret = embeddings
    assert plain[:64] != secret[12:76]
    assert len(secret) == len(plain) - 16 + 28


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_shipped_model_knows_an_unknown_again_on_another_camera(tmp_path):
    messages = perceived(SyntheticSource(1, seed=3, fps=10.0))
    house = House(tmp_path, unknowns={"enabled": True})
    house.close()
    house.now_s = 0.0
    with closing(load(threads=1)) as encoder:
        house.recogniser = Recogniser(
            house.site, house._send, encoder, clock=house.clock, free=lambda _: 10**12
        )
        for camera in ("door", "yard", "door"):
            begin = house.now_s
            for message in messages:
                moved = replace(message, camera=camera, run=f"{camera}{begin}")
                if isinstance(message, Observation):
                    house.now_s = begin + message.time_s
                    moved = replace(moved, utc=START + timedelta(seconds=house.now_s))
                house.recogniser.receive("camera", moved)
                house.recogniser.tick()
            house.skip(30)
    visits = house.visits()
    assert [visit.camera for visit in visits] == ["door", "yard", "door"]
    # no way without names between cameras whose means rest on one person: all look alike there
    assert visits[0].journey != visits[1].journey
    assert [row.visits for row in house.reader.unknowns()] == [3]
    assert all(violations(dict(e.event)) == [] for e in house.messages(EventMessage))
    house.close()


def perceived(street):
    """Return what a worker would send of a street."""
    options = PipelineOptions("background")
    thread = PerceptionThread(street, open_segmenter("background", threads=1), options, (64, 44))
    thread.start()
    messages = []
    while True:
        result = thread.messages.get()
        if isinstance(result, FrameResult):
            tracks = tuple(
                SeenTrack(i.id, i.box, i.reason, i.silhouette, i.heading, i.colours)
                for i in result.observations
            )
            time_s = result.frame.time_s
            born, closed = tuple(result.born), tuple(result.closed)
            messages.append(
                Observation("door", "run", result.frame.index, START, time_s, 0.0, (360, 640),
                            result.scene, tracks, born, closed)
            )  # fmt: skip
        elif isinstance(result, EndOfStream):
            assert result.error is None
            return [*messages, TracksEnded("door", "run", tuple(result.closed))]


def test_a_gallery_that_its_server_refuses_is_waited_for(tmp_path, monkeypatch, caplog):
    house = House(tmp_path)
    house.close()
    refusal = ServerRefuses("the gallery server 'postgresql://db/people' refuses the password")
    opened, received, texts = [], [], []
    really_open = Gallery.open

    def open_at_the_third(*arguments, **options):
        opened.append(1)
        if len(opened) < 3:
            raise refusal
        return really_open(*arguments, **options)

    def receive(*message):
        received.append(message)
        if len(received) == 1:
            raise refusal
        child.stopping.set()

    child = SimpleNamespace(
        stopping=threading.Event(),
        send=lambda *_: True,
        receive=lambda _: ("camera:door", CameraState("door", "opening")),
        beat=lambda *values, **named: texts.append(named.get("texts") or values[2]),
    )
    monkeypatch.setattr(recogniser, "ASK_AGAIN_S", 0.0)
    monkeypatch.setattr(recogniser, "load", lambda *_, **__: PooledEncoder())
    monkeypatch.setattr(Gallery, "open", open_at_the_third)
    monkeypatch.setattr(Recogniser, "receive", lambda _, *message: receive(*message))
    recogniser.main(child, house.site)
    assert len(received) == 2
    assert caplog.text.count("refuses the password") == 1
    assert texts[-1]["gallery"] == "not encrypted"
    server = SimpleNamespace(server="postgresql://db/people", online=False, fault=None)
    assert "away: answers come from the replica" in recogniser._where(server)
    server.fault = "refuses the password"
    assert recogniser._where(server) == "refuses the password; "
