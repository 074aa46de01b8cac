"""Messages: each survives the pipe; the queue before it is bounded and loses no end of a track."""

import dataclasses
import pickle
from typing import get_args

import numpy as np
import pytest

from cstl_edge.live.segmentation.base import SceneState
from cstl_edge.live.tracking.walk_filter import Reason
from cstl_edge.serve import messages as m
from cstl_edge.serve.outbound import MAX_OBSERVATIONS, MAX_WAITING, Outbound

NOW = m.now()


def observation(frame, run="r", **fields):
    return m.Observation(
        "door", run, frame, NOW, frame / 10, 0.0, (360, 640), SceneState.READY, **fields
    )


def picture(sequence, camera="door"):
    return m.LivePicture(camera, b"jpeg", NOW, sequence, "boxes", (360, 640))


EXAMPLES = [
    observation(
        3,
        tracks=(m.SeenTrack(1, (1.0, 2.0, 3.0, 4.0), Reason.CLIPPED, np.ones((64, 44), np.uint8)),),
        born=(1,),
    ),
    m.TracksEnded("door", "r", (1,)),
    m.CameraState("door", "offline", "source_offline", "no frame for 20 s"),
    m.Labels("door", {1: m.Label("Ada", "known")}),
    m.Watch("door", 5.0),
    picture(1),
    m.SnapshotRequest("door", "r", 1, "id"),
    m.TrackSnapshot("door", 1, "id", b"jpeg"),
    m.ClipRequest("door", "id", NOW, NOW),
    m.Clip("door", "id", None, reason="gone"),
    m.Stats("front", NOW, {"rss_bytes": 1.0}, {"draw": (1.0,)}),
    m.Command("1", "people.rename", {"person": "Ada"}, "admin"),
    m.Reply("1", True, {"a": 1}),
    m.EventMessage(1, {"event": "born"}),
    m.ServiceState(NOW, (m.ProcessState("front", "running"),), {}),
    m.Attach("front"),
    m.Detach("front"),
    m.Reload(None),
    m.LastWords("front", "out of memory", 1),
    m.Stop(4.0),
]


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_a_message_survives_the_pipe_unchanged(message):
    again = pickle.loads(pickle.dumps(message))
    for field in dataclasses.fields(message):
        if field.name != "tracks":
            assert getattr(again, field.name) == getattr(message, field.name)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(again, dataclasses.fields(message)[0].name, "other")
    if isinstance(message, m.Observation):
        before, after = message.tracks[0], again.tracks[0]
        np.testing.assert_array_equal(before.silhouette, after.silhouette)


def test_every_kind_of_message_is_tested():
    assert {type(example) for example in EXAMPLES} == set(get_args(m.Message))


def test_only_the_newest_picture_waits():
    queue = Outbound()
    for sequence in range(9):
        queue.put(picture(sequence))
        queue.put(picture(sequence, "yard"))
    taken = [queue.take(0), queue.take(0)]
    assert {(p.camera, p.sequence) for p in taken} == {("door", 8), ("yard", 8)}
    assert len(queue) == 0
    assert queue.dropped == 16


def test_wishes_for_two_overlays_both_wait():
    queue = Outbound()
    queue.put(m.Watch("door", 5.0, "boxes"))
    queue.put(m.Watch("door", 1.0, "segmentation"))
    queue.put(m.Watch("door", 2.0, "segmentation"))
    assert {(w.overlay, w.fps) for w in (queue.take(0), queue.take(0))} == {
        ("boxes", 5.0),
        ("segmentation", 2.0),
    }


def test_observations_give_way_but_births_and_ends_do_not():
    queue = Outbound()
    total = MAX_OBSERVATIONS + 25
    for frame in range(total):
        queue.put(observation(frame, born=(frame,), closed=(frame - 1,) if frame else ()))
    queue.put(m.TracksEnded("door", "r", (99,)))
    taken = []
    while (message := queue.take(0)) is not None:
        taken.append(message)
    seen = [o for o in taken if isinstance(o, m.Observation)]
    assert [o.frame for o in seen] == list(range(25, total))
    assert [number for o in seen for number in o.born] == list(range(total))
    assert [number for o in seen for number in o.closed] == list(range(total - 1))
    assert isinstance(taken[-1], m.TracksEnded)
    assert queue.dropped_observations == 25


def test_births_of_another_life_are_not_carried_over():
    queue = Outbound()
    queue.put(observation(0, born=(7,), run="old"))
    for frame in range(MAX_OBSERVATIONS):
        queue.put(observation(frame, run="new"))
    first = queue.take(0)
    assert (first.run, first.born) == ("new", ())


def test_a_closed_or_full_queue_says_so():
    queue = Outbound()
    for number in range(MAX_WAITING):
        assert queue.put(m.Reply(str(number), True))
    assert not queue.put(m.Reply("one more", True))
    queue.close()
    assert not queue.put(m.Watch("door", 1.0))
    assert queue.take(0).id == "0"
