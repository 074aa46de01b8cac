"""Parts of the service that need no process: systemd, folder, pictures, clips, the demo's site."""

import socket
import threading
from datetime import timedelta

import cv2
import numpy as np
import pytest

from cstl_edge.errors import StorageError
from cstl_edge.live.pipeline.perception import FrameResult, TrackObservation
from cstl_edge.live.segmentation.base import SceneState
from cstl_edge.live.sources.base import Frame
from cstl_edge.live.tracking.walk_filter import Reason
from cstl_edge.live.video.browser import BrowserEncoder
from cstl_edge.serve import clips as clips_module
from cstl_edge.serve.clips import ClipRing
from cstl_edge.serve.data_folder import claimed
from cstl_edge.serve.demo_site import CAMERAS, site_text
from cstl_edge.serve.messages import ClipRequest, Label, Watch, now
from cstl_edge.serve.notify import Systemd
from cstl_edge.serve.pictures import DIM, Pictures
from cstl_edge.serve.site import Site, Zone, check_site
from cstl_edge.serve.zones import Zones


def decoded(jpeg):
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_hears_of_the_service(tmp_path, monkeypatch, abstract):
    name = f"@cstl-edge-test-{tmp_path.name}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(f"\0{name[1:]}" if abstract else name)
        end.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        Systemd().send("READY=1", "STATUS=2 of 2 cameras online")
        assert end.recv(200) == b"READY=1\nSTATUS=2 of 2 cameras online"
    Systemd().send("WATCHDOG=1")  # systemd is gone: nothing to die of
    monkeypatch.delenv("NOTIFY_SOCKET")
    Systemd().send("WATCHDOG=1")


def test_one_service_at_a_time_uses_a_folder(tmp_path):
    site = Site(data=tmp_path / "data")
    with claimed(site):
        assert site.data.stat().st_mode & 0o777 == 0o700
        (site.spool / "half.mp4").write_bytes(b"x")
        with pytest.raises(StorageError, match="another cstl-edge serve uses"), claimed(site):
            pass
        assert (site.spool / "half.mp4").exists()
    with claimed(site):
        assert list(site.spool.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"), claimed(Site(data=tmp_path / "file/x")):
        pass


def test_pictures_come_as_often_as_wanted_and_end_by_themselves():
    clock = [0.0]
    pictures = Pictures("door", Zones(()), lambda: clock[0])
    assert pictures.due() == []
    pictures.watch(Watch("door", 5.0, "boxes", until_s=10.0))
    drawn = 0
    for _ in range(100):  # ten seconds at ten frames per second
        drawn += len(pictures.due())
        clock[0] += 0.1
    assert 45 <= drawn <= 55
    clock[0] += 1.0
    assert pictures.due() == []
    assert not pictures.watched
    pictures.watch(Watch("door", 5.0))
    pictures.watch(Watch("door", 0.0))
    assert not pictures.watched


def seen(width):
    """One frame with one person in the middle of a grey picture."""
    image = np.full((width // 2, width, 3), 100, np.uint8)
    box = (width / 2 - 20.0, width / 4 - 40.0, 40.0, 80.0)
    person = TrackObservation(1, box, np.full((80, 40), 255, np.uint8), Reason.CLIPPED, None)
    return FrameResult(Frame(0, image, 0.0), 0.0, SceneState.READY, [person])


def test_the_test_picture_shows_what_the_segmenter_sees():
    zone = Zone(name="all", polygon=((0, 0), (1, 0), (1, 1), (0, 1)))
    picture = Pictures("door", Zones((zone,))).draw(seen(640), {}, "segmentation")
    image = decoded(picture.jpeg).astype(int)
    assert abs(image[160, 320] - 100).max() < 15  # the person
    assert abs(image[300, 100] - 100 * DIM).max() < 15  # the rest
    assert picture.size == (320, 640)


def test_large_pictures_are_scaled_with_their_boxes():
    labels = {1: Label("Ada", "known")}
    picture = Pictures("door", Zones(())).draw(seen(2560), labels, "boxes")
    assert picture.size == (640, 1280)
    image = decoded(picture.jpeg).astype(int)
    assert abs(image[320, 630:651] - 100).max() > 20  # the box stands in the middle, half as large


def test_a_clip_is_cut_from_the_ring_in_the_background(tmp_path, monkeypatch):
    made, came = [], threading.Event()
    encoder = BrowserEncoder("VP8 (cv2)", "video/webm", ".webm")
    monkeypatch.setattr(clips_module, "browser_encoder", lambda: encoder)
    monkeypatch.setattr(clips_module, "SLACK_S", 5.0)
    monkeypatch.setattr(
        clips_module, "write_clip", lambda jpegs, fps, path, encoder: made.append((jpegs, fps))
    )
    sent = []
    ring = ClipRing(5.0, tmp_path, lambda clip: (sent.append(clip), came.set()))
    began = now()
    for number in range(200):  # twenty seconds: the first ten are gone
        image = np.full((40, 60, 3), number, np.uint8)
        ring.add(image, began + timedelta(seconds=number / 10))
    ring.request(ClipRequest("door", "a", began, began + timedelta(seconds=60)))
    assert came.wait(30)
    (clip,) = sent
    assert clip.path == str(tmp_path / "a.webm")
    assert made[0][1] == pytest.approx(10.0, rel=0.01)
    assert 95 <= len(made[0][0]) <= 105
    came.clear()
    ring.request(ClipRequest("door", "b", began, began + timedelta(seconds=1)))
    assert came.wait(30)
    assert (sent[1].path, sent[1].reason) == (None, "the pictures are gone")
    ring.close()


def test_the_site_of_the_demo_is_valid(tmp_path):
    path = tmp_path / "site.yaml"
    path.write_text(site_text(3, 8765), encoding="utf-8")
    site, problems = check_site(path)
    assert problems == []
    assert list(site.cameras) == list(CAMERAS)
    assert len({camera.source for camera in site.cameras.values()}) == 4
