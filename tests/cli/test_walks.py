"""Walks of a source: an end by itself at a camera, a choice between walkers, an annotated video."""

import json
import re
import stat
import threading

import cv2
import numpy as np
import pytest
from command_line import call
from pooled_encoder import PooledEncoder
from short_walk import write_short_walk

from cstl_edge.cli import console, walks
from cstl_edge.cli.console import Progress, described, progress, time_left
from cstl_edge.cli.walks import Observers, SourceChoice, collect_walks, learning, reading
from cstl_edge.errors import DataError, GalleryError, SourceUnavailable
from cstl_edge.live.pipeline.collect import collect
from cstl_edge.live.pipeline.options import PipelineOptions
from tests.live.pipeline.test_run import Street

STREET = ["--segmenter", "background"]
TWO = "synthetic://3?seed=3&fps=15&seconds=9"  # two of them walk long enough
CAMERA = "synthetic://1?seed=4&fps=15&live=1"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.slow
def test_several_walkers_are_listed_with_pictures_and_chosen_by_number(folder):
    enroll = ["enroll", "Bob", TWO, "--consent", "x", *STREET]
    done = call(*enroll, "--json", cwd=folder)
    assert done.returncode == 3
    assert "--track N" in json.loads(done.stdout)["error"]["remedy"]
    lines = [line for line in done.stderr.splitlines() if line.startswith("track ")]
    tracks = [
        int(re.match(r"track (\d+): \d+ usable frames, [\d.]+ to", line)[1]) for line in lines
    ]
    assert len(tracks) == 2
    for line in lines:
        picture = folder / line.rpartition(", ")[2]
        assert stat.S_IMODE(picture.stat().st_mode) == 0o600
        assert cv2.imread(str(picture)).shape[0] == 200
    record = json.loads(call(*enroll, "--track", tracks[0], "--json", cwd=folder).stdout)
    assert record["templates"] >= 1
    refused = call(*enroll, "--track", 99, "--force", cwd=folder)
    assert refused.returncode == 3
    assert "no usable walk of track 99" in refused.stderr
    seen = folder / "seen.mp4"
    identify = ["identify", TWO, *STREET, "--annotate", seen, "--pictures", folder / "sheets"]
    events = json.loads(call(*identify, "--json", cwd=folder).stdout)
    assert [event["track"] for event in events] == tracks
    assert "Bob" in [event["person"] for event in events]
    (video,) = folder.glob("seen.*")  # .webm where there is no ffmpeg
    assert cv2.VideoCapture(str(video)).get(cv2.CAP_PROP_FRAME_COUNT) == 135
    assert len([*(folder / "sheets").iterdir()]) == 2
    again = call(*identify, cwd=folder)
    assert (again.returncode, "--overwrite" in again.stderr) == (2, True)


@pytest.mark.slow
def test_enroll_at_a_camera_ends_by_itself(folder):
    done = call("enroll", "Ada", CAMERA, "--consent", "x", *STREET, "--seconds", 50, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("walk past the camera now")
    record = json.loads(done.stdout)
    assert walks.ENOUGH_WINDOWS - 1 <= record["templates"] <= walks.ENOUGH_WINDOWS


def test_nobody_at_a_camera_ends_with_the_time(folder):
    done = call("identify", CAMERA, *STREET, "--seconds", 1, "--gallery", folder / "none.db")
    assert done.returncode == 6
    call("enroll", "Ada", TWO, "--consent", "x", *STREET, "--track", 2, cwd=folder)
    done = call("identify", CAMERA, *STREET, "--seconds", 1)
    assert done.returncode == 3
    assert "within 1 s" in done.stderr


@pytest.mark.parametrize(
    ("address", "live"),
    [
        ("0", True),
        ("rtsp://h/1", True),
        ("walk.mp4", False),
        ("synthetic://1", False),
        (CAMERA, True),
    ],
)
def test_a_camera_is_looked_at_for_a_while_and_a_recording_to_its_end(address, live):
    limit = SourceChoice(address).limit()
    assert (limit.seconds, limit.windows) == ((60.0, 6) if live else (None, None))
    options = SourceChoice(address, "90", "h", 12.5).options(wait=True)
    assert (options.rotate, options.flip, options.fps, options.wait) == (90, "h", 12.5, True)


def test_progress_is_silent_off_a_terminal_and_under_json(monkeypatch, capsys):
    with progress("work", steps=2) as bar:
        bar("first")
        bar.count(1, 2)
        bar.describe("second")
    monkeypatch.setattr(console.sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(console.sys, "argv", ["cstl-edge", "eval", "--json"])
    with progress("work") as bar:
        bar("first")
    assert capsys.readouterr() == ("", "")


def test_progress_draws_what_is_done_and_the_time_left():
    from rich.progress import Progress as Bars

    bars = Bars(disable=True)
    bar = Progress("export", 4, bars)
    for step in ("tracing", "comparing", "writing"):
        bar(step)
    (task,) = bars.tasks
    assert (task.description, task.completed, task.total) == ("writing", 2, 4)
    bar.bar("head", "head: tactics", 0.5, 1.0)
    bar.count(3, 4)
    assert [t.completed for t in bars.tasks] == [3, 0.5]
    assert time_left(3725.0, 1.0) == "1:02:05 left"


def test_records_are_printed_for_people():
    record = {"cpu_time": 652835028992.0, "walks": (), "kept": None, "done": True}
    assert described(record) == ["cpu time: 6.528e+11", "walks: none", "kept: not set", "done: yes"]
    nested = described({"walks": ({"view": "left", "origin": {"camera": None, "rate": 25.0}},)})
    assert nested == ["walks:", "  view left, rate 25"]
    assert "'" not in "".join(nested)


def test_contact_sheet_spreads_its_pictures_over_the_walk(tmp_path):
    from cstl_edge.live.annotate import WalkerView
    from cstl_edge.live.contact_sheet import MOST_PICTURES, ContactSheets

    sheets = ContactSheets()
    for step in range(100):
        frame = np.full((100, 200, 3), step, np.uint8)
        sheets.see(frame, [WalkerView((float(step), 20.0, 20.0, 60.0), "", track=7)])
    sheet = cv2.imread(str(sheets.write(tmp_path, 7)))
    assert sheet.shape == (200, 120 * sheet.shape[1] // 120, 3)
    middles = sheet[100, 60::120, 0]
    assert 3 <= len(middles) <= MOST_PICTURES
    assert np.ptp(middles.astype(int)) >= 50
    assert sheets.write(tmp_path, 8) is None


def our_threads():
    names = "cstl-edge-reader", "cstl-edge-perception"
    return {thread for thread in threading.enumerate() if thread.name in names}


@pytest.fixture
def no_thread_is_left():
    before = our_threads()
    yield
    for thread in our_threads() - before:
        thread.join(30)
    assert our_threads() <= before


@pytest.mark.usefixtures("no_thread_is_left")
def test_a_recording_is_read_and_learned_before_it_is_looked_at(tmp_path):
    for frame in Street(100):
        cv2.imwrite(str(tmp_path / f"{frame.index}.png"), frame.image)
    options = PipelineOptions("background")
    with (
        reading(SourceChoice(str(tmp_path))) as choice,
        learning(choice, PooledEncoder(), options) as begun,
    ):
        assert begun.ahead is not None
        assert begun.begun is not None
        walks = collect_walks(begun, PooledEncoder(), options, Observers())
    plain = collect(tmp_path, PooledEncoder(), options)
    assert [(w.track, w.frames) for w in walks] == [(w.track, w.frames) for w in plain]
    for one, other in zip(walks, plain, strict=True):
        np.testing.assert_array_equal(one.silhouettes, other.silhouettes)
        np.testing.assert_array_equal(one.embeddings, other.embeddings)


@pytest.mark.usefixtures("no_thread_is_left")
def test_what_happens_meanwhile_ends_the_reading(tmp_path):
    clip = write_short_walk(tmp_path / "walk.mp4")
    with (
        pytest.raises(GalleryError, match="gone"),
        reading(SourceChoice(str(clip))) as choice,
        learning(choice, PooledEncoder(), PipelineOptions("background")),
    ):
        raise GalleryError("gone")


@pytest.mark.usefixtures("no_thread_is_left")
def test_a_recording_that_cannot_be_read_is_an_error_where_it_is_looked_at(tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video" * 100)
    options = PipelineOptions("background")
    for name, error in (("missing.mp4", SourceUnavailable), ("broken.mp4", DataError)):
        with (
            reading(SourceChoice(str(tmp_path / name))) as choice,
            learning(choice, PooledEncoder(), options) as begun,
        ):
            assert begun.begun is None
            with pytest.raises(error, match=name):
                collect_walks(begun, PooledEncoder(), options, Observers())


def test_a_camera_is_opened_when_everything_else_is_ready():
    with reading(SourceChoice("synthetic://1")) as choice:
        assert choice.ahead is None
        with learning(choice, PooledEncoder(), PipelineOptions("background")) as begun:
            assert begun is choice
