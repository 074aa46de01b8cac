"""Agreement of windows: a walk of two people is parted, and enrolment takes one of them."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from cstl_edge.live.events import ReasonCode
from cstl_edge.live.pipeline.agreement import Agreement
from cstl_edge.live.pipeline.options import PipelineOptions, RunSummary, TrackRecord
from cstl_edge.live.pipeline.perception import FrameResult, TrackObservation
from cstl_edge.live.pipeline.recognition import RecognitionStage
from cstl_edge.live.segmentation.base import SceneState
from cstl_edge.live.sources.base import Frame
from cstl_edge.live.sources.synthetic.source import SyntheticSource
from cstl_edge.runtime import load
from cstl_edge.runtime.base import Embedded, EncoderInfo
from cstl_edge.silhouette import align

TABLE = {"sizes": [1, 10], "fpir": [0.01, 0.1], "threshold": [[0.5, 0.6], [0.4, 0.5]]}
PICTURE = np.zeros((360, 640, 3), np.uint8)
BOX = (100.0, 100.0, 40.0, 100.0)


class Means:
    """An encoder whose embedding is the mean grey of a window, in every part."""

    info = EncoderInfo("stand-in", "cpu", "float32", 1, "s", "0" * 64, (64, 44), 2, 1, 4, TABLE)

    def frames(self, silhouettes):  # [m, p, c]
        mean = silhouettes.reshape(len(silhouettes), -1).mean(1) / 255
        return np.repeat(mean[:, None, None], 2, axis=1).astype(np.float32)

    def head(self, features, lengths):
        means = [f[:n].mean(0) for f, n in zip(features, lengths, strict=True)]  # [p, c]
        embedding = np.repeat(np.stack(means), 4, axis=2).astype(np.float32)
        return Embedded(embedding, np.zeros((len(means), 2), np.int32))


def info(**more) -> EncoderInfo:
    return replace(Means.info, **more)


def walk(stage: RecognitionStage, grey: int, frames: range) -> list:
    """Show a walker of one grey to the stage; return the events."""
    silhouette, events = np.full((64, 44), grey, np.uint8), []
    for i in frames:
        seen = TrackObservation(1, BOX, None, None, silhouette, -0.5)
        frame = Frame(i, PICTURE, i / 25)
        born = [1] if i == 0 else []
        events += stage.process(FrameResult(frame, 0.0, SceneState.READY, [seen], born))
    return events


def stage_of(info: EncoderInfo) -> RecognitionStage:
    encoder = Means()
    encoder.info = info
    return stage_with(encoder)


def stage_with(encoder) -> RecognitionStage:
    return RecognitionStage("x", encoder, None, PipelineOptions(), RunSummary(), keep=True)


def test_windows_beyond_the_distance_of_strangers_are_of_another() -> None:
    agreement = Agreement(info(impostors=TABLE))
    assert agreement.limit == pytest.approx(0.5)
    windows = np.zeros((3, 2, 4), np.float32)
    assert not agreement.is_other(windows, np.full((2, 4), 0.2, np.float32))
    assert agreement.is_other(windows, np.full((2, 4), 0.3, np.float32))
    assert not agreement.is_other(windows[:0], np.full((2, 4), 9.0, np.float32))


def test_the_largest_group_that_agrees_is_one_person() -> None:
    agreement = Agreement(info(impostors=TABLE))
    windows = np.zeros((5, 2, 4), np.float32)
    windows[[1, 4]] = 2.0
    assert agreement.of_one_person(windows).tolist() == [True, False, True, True, False]
    assert agreement.of_one_person(windows[:1]).tolist() == [True]


def test_a_model_without_a_table_says_nothing() -> None:
    agreement = Agreement(info(impostors=None))
    assert agreement.limit is None
    assert not agreement.is_other(np.zeros((1, 2, 4), np.float32), np.full((2, 4), 99, np.float32))
    assert agreement.of_one_person(np.arange(16, dtype=np.float32).reshape(2, 2, 4)).all()


def test_a_walk_of_two_people_is_parted_and_says_so() -> None:
    stage = stage_of(Means.info)
    events = walk(stage, 220, range(90)) + walk(stage, 20, range(90, 180))
    parted = [event for event in events if event.reason_code is ReasonCode.MIXED]
    assert len(parted) == 1
    assert "two people in one track" in (parted[0].detail or "")
    assert 90 / 25 < (parted[0].time_s or 0) < 90 / 25 + 1.5
    stage.close_all()
    greys = [set(record.silhouettes[:, 0, 0].tolist()) for record in stage.records]
    assert greys == [{220}, {20}]
    for record, grey in zip(stage.records, (220, 20), strict=True):
        np.testing.assert_allclose(record.embeddings, grey / 255, atol=0.01)


def outlines(seed: int, count: int) -> list[np.ndarray]:
    """Return silhouettes of a walker of a street, as if they walked to the left."""
    street = SyntheticSource(1, seed=seed)
    first, found = round((street.people[0].start_s or 0) * street.fps) + 40, []
    for index in range(first, first + count):
        (truth,) = street.truth(index)
        x, y, w, h = truth.box
        mask = np.where(street.labels(index)[y : y + h, x : x + w] > 0, 255, 0).astype(np.uint8)
        turned = mask[:, ::-1] if truth.spec.view_deg > 180 else mask
        found.append(align(np.ascontiguousarray(turned), (64, 44)))
    return found


def test_the_shipped_model_tells_a_swap_of_two_walkers_and_takes_nobody_for_two() -> None:
    with closing(load(threads=1)) as encoder:
        first, second = outlines(1, 80), outlines(2, 45)
        for walk, parted in ((first[:40] + second, [True]), (first, [])):
            stage = stage_with(encoder)
            events = []
            for i, silhouette in enumerate(walk):
                seen = TrackObservation(1, BOX, None, None, silhouette, -0.5)
                born = [1] if i == 0 else []
                frame = Frame(i, PICTURE, i / 25)
                events += stage.process(FrameResult(frame, 0.0, SceneState.READY, [seen], born))
            mixed = [e for e in events if e.reason_code is ReasonCode.MIXED]
            assert [40 / 25 < (e.time_s or 0) < 40 / 25 + 1.5 for e in mixed] == parted


def test_a_walk_of_one_person_stays_whole() -> None:
    stage = stage_of(Means.info)
    events = walk(stage, 140, range(90)) + walk(stage, 170, range(90, 180))
    assert not any(event.reason_code is ReasonCode.MIXED for event in events)
    stage.close_all()
    assert [record.frames for record in stage.records] == [180]


def test_windows_of_a_minority_are_left_out_of_a_record() -> None:
    """Without votes on the way, as after a break: the record names what it leaves out."""
    stage = stage_of(Means.info)
    walk(stage, 220, range(90))
    state = stage._tracks[1]
    state.windows.append(replace(state.windows[-1], embedding=np.zeros((2, 4), np.float32)))
    stage.close_all()
    (record,) = stage.records
    np.testing.assert_allclose(record.embeddings, 220 / 255, atol=0.01)
    assert "1 windows left out: two people in one track" in record.account


def test_a_track_that_ends_in_doubt_says_so() -> None:
    stage = stage_of(Means.info)
    walk(stage, 140, range(5))
    frame = Frame(5, PICTURE, 0.2)
    result = FrameResult(frame, 0.0, SceneState.READY, closed=[1, 7], doubtful=[1, 7])
    (event,) = stage.process(result)
    assert (event.event, event.reason_code) == ("closed", ReasonCode.IN_DOUBT)
    assert "ended: may have become another person" in (event.detail or "")


def record(grey: float, started_s: float | None, ended_s: float | None) -> TrackRecord:
    embeddings = np.full((2, 2, 4), grey, np.float32)
    return TrackRecord(
        1, np.zeros((0, 64, 44), np.uint8), embeddings, None, 30, {}, "", None, started_s, ended_s
    )


@pytest.mark.parametrize(
    ("other", "one"),
    [
        (record(0.25, 3, 5), True),  # the distance of greys: the limit here is 0.5, two fifths 0.2
        (record(0.29, 3, 5), True),
        (record(0.31, 3, 5), False),
        (record(0.25, 1.9, 5), False),  # seen at the same moment
        (record(0.25, None, None), False),
    ],
)
def test_who_came_twice_is_one_person_where_that_is_sure(other, one):
    agreement = Agreement(info(impostors={**TABLE, "fpir": [0.001, 0.1]}))
    assert agreement.limit == pytest.approx(0.5)
    assert agreement.are_of_one_person([record(0.2, 0, 2), other]) is one


def test_three_walks_are_of_one_person_where_every_two_are():
    agreement = Agreement(info(impostors={**TABLE, "fpir": [0.001, 0.1]}))
    chain = [record(0.2 + 0.08 * i, 3 * i, 3 * i + 2) for i in range(3)]
    assert agreement.are_of_one_person(chain[:2])
    assert not agreement.are_of_one_person(chain)
    assert not Agreement(info(impostors=None)).are_of_one_person(chain[:2])
