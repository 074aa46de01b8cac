"""Scenario `end_to_end`: figures of a run, when a street holds, the search for most walkers."""

import dataclasses
import sys
import time

import numpy as np
import pytest

from cstl_edge.bench.backends.open import streaming_backends
from cstl_edge.bench.record import Case
from cstl_edge.bench.scenarios import end_to_end, synthetic_street
from cstl_edge.bench.scenarios.end_to_end import LEVELS, MOST_LATE_MS, PipelineResult, search_level
from cstl_edge.errors import ConfigError
from cstl_edge.live.sources.options import SourceOptions
from cstl_edge.live.sources.stream import LiveSource
from cstl_edge.live.sources.synthetic.source import PacedCamera


def passed(dropped=0.0, late_ms=10.0):
    return PipelineResult({"total": [1.0] * 98 + [late_ms] * 2}, {"dropped_share": dropped}, {})


@pytest.mark.parametrize(
    ("limit", "tries", "expected"),
    [(0, 9, 0), (3, 9, 0), (4, 9, 4), (7, 9, 4), (8, 9, 8), (11, 9, 8), (50, 9, 12), (50, 1, 8),
     (7, 1, 0)],
)  # fmt: skip
def test_the_levels_are_climbed_from_the_middle(limit, tries, expected):
    levels_tried = []

    def holds(walkers):
        levels_tried.append(walkers)
        return walkers <= limit

    assert search_level(holds, LEVELS, 8, tries) == expected
    assert levels_tried[0] == 8
    assert len(levels_tried) == len(set(levels_tried)) <= tries


def test_a_street_holds_with_few_drops_and_little_delay():
    assert passed().holds
    assert passed(dropped=0.01, late_ms=MOST_LATE_MS - 1).holds
    assert not passed(dropped=0.011).holds
    assert not passed(late_ms=MOST_LATE_MS).holds
    blind = PipelineResult({"total": []}, {"dropped_share": 0.0}, {})  # saw no frame in time
    assert not blind.holds


def test_the_clip_passes_every_stage(plain, monkeypatch):
    monkeypatch.setattr(end_to_end, "SHORT_S", (1.5, 2.3))
    (row,) = (row for row in end_to_end.rows(plain) if not row.skipped)
    assert row.contender == "onnxruntime float32, auto"
    assert (row.case.source, row.case.walkers) == ("walk.mp4", None)
    frames = len(row.samples["total"])
    assert frames == pytest.approx(30 * (2.3 - 1.5), abs=4)
    for stage in ("source", "segment", "track", "silhouette"):
        assert len(row.samples[stage]) == frames
    assert "learn" not in row.samples
    inner = sum(np.sum(row.samples[stage]) for stage in ("segment", "track", "silhouette"))
    assert np.sum(row.samples["total"]) >= inner
    assert row.values["frames_per_s"] > 0
    assert row.values["dropped_share"] == 0
    assert row.values["walkers_in_view"] >= 1
    assert "20 people" in row.details["gallery"]


def test_a_street_is_searched_for_the_most_walkers(plain, monkeypatch):
    def run(source, encoder, gallery, segmenter):
        walkers = int(source.uri.removeprefix("synthetic://").split(",")[0])
        source.close()
        return passed(dropped=0.0 if walkers < 5 else 0.02, late_ms=float(walkers))

    monkeypatch.setattr(end_to_end, "_pictures", lambda walkers: [np.zeros((4, 4, 3), np.uint8)])
    monkeypatch.setattr(end_to_end, "run_pipeline", run)
    case, fields = end_to_end._street(plain, None, None, "person-mask")
    assert fields["values"]["walkers"] == 4
    assert (case.walkers, case.paced_hz) == (4, 25.0)
    assert case.source == synthetic_street.street_uri(4)
    assert fields["samples"]["total"][-1] == 4.0
    tried = {one["walkers"]: one["holds"] for one in fields["details"]["tried"]}
    assert tried == {8: False, 4: True}


def test_where_nothing_holds_the_smallest_street_is_shown(plain, monkeypatch):
    monkeypatch.setattr(end_to_end, "_pictures", lambda walkers: [np.zeros((4, 4, 3), np.uint8)])
    monkeypatch.setattr(
        end_to_end, "run_pipeline", lambda source, *_: source.close() or passed(1.0)
    )
    case, fields = end_to_end._street(plain, None, None, "person-mask")
    assert fields["values"]["walkers"] == 0
    assert case.walkers == 4


def test_the_long_form_has_the_street_as_it_comes_too(plain, monkeypatch):
    monkeypatch.setattr(end_to_end, "run_pipeline", lambda source, *_: source.close() or passed())
    monkeypatch.setattr(end_to_end, "_street", lambda *_: (Case(), {}))
    monkeypatch.setattr(end_to_end, "open_source", lambda uri, **_: Closed())
    longer = dataclasses.replace(plain, short=False, full=True)
    rows = [row for row in end_to_end.rows(longer) if not row.skipped]
    shown = [row.case.source for row in rows if row.contender == "onnxruntime float32, plate"]
    assert shown == ["walk.mp4", None, end_to_end.ONE_BY_ONE]
    assert end_to_end.ONE_BY_ONE.startswith("synthetic://8?")


class Closed:
    """A source that only closes."""

    def close(self):
        pass


class Hasty(PacedCamera):
    """A camera that sends its pictures sixteen times as fast as it says."""

    def read(self):
        self._begun_s -= 15 / 16 / self.fps
        return super().read()


def test_frames_are_counted_and_timed_from_the_camera(plain):
    """What is not looked at is dropped, and counted from the first second on."""
    scene = synthetic_street.draw_street(1, seconds=1.6)
    (candidate, *_) = (
        one for one in streaming_backends(plain) if one.name == "onnxruntime float32"
    )
    encoder = candidate.open_encoder()
    with end_to_end._gallery(encoder) as gallery:
        assert gallery.templates == 80
        source = LiveSource("x", lambda: Hasty(scene, synthetic_street.FPS), SourceOptions())
        one = end_to_end.run_pipeline(source, encoder, gallery, "background")
    looked_at = len(one.samples["segment"])
    steady = len(one.samples["total"])
    assert looked_at + source.dropped == len(scene)
    assert 0 < steady <= looked_at
    assert min(one.samples["total"]) > 0
    dropped = one.values["dropped_share"] * steady / (1 - one.values["dropped_share"])
    assert dropped == pytest.approx(round(dropped))
    assert round(dropped) <= source.dropped
    assert "source" not in one.samples  # waiting for a camera is no work


def test_a_camera_sends_a_copy_of_each_picture_in_its_time():
    pictures = [np.full((2, 2, 3), n, np.uint8) for n in range(5)]
    one = PacedCamera(pictures, fps=100.0)
    one.open()
    start, got = time.monotonic(), []
    while (image := one.read()) is not None:
        got.append(image)
    assert time.monotonic() - start >= 4 / 100 - 1e-3
    assert [int(image[0, 0, 0]) for image in got] == [0, 1, 2, 3, 4]
    got[0][:] = 99
    assert pictures[0].max() == 0


def test_a_camera_that_is_stopped_sends_nothing_more():
    one = PacedCamera([np.zeros((2, 2, 3), np.uint8)] * 9, fps=0.1)
    one.open()
    assert one.read() is not None
    one.stop()
    assert one.read() is None


def test_everybody_crosses_together():
    scene = synthetic_street.draw_street(2, seconds=2.4)
    assert len(scene) == round(2.4 * synthetic_street.FPS)
    assert scene[0].shape == (360, 640, 3)
    empty = scene[0].astype(int)
    differ = [int((np.abs(image - empty).max(2) > 40).sum()) for image in scene]
    assert max(differ[:24]) < 200  # pixels: the street is empty for a second
    assert differ[-1] > 2000


def test_without_cv2_there_is_one_line(plain, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ConfigError, match=r"pip install .*\[cv\]"):
        next(iter(end_to_end.rows(plain)))
