"""State of one track: silhouettes to embed, mirroring, breaks of a window."""

import numpy as np

from cstl_edge.live.pipeline.perception import TrackObservation
from cstl_edge.live.pipeline.recognition import TrackState
from cstl_edge.live.tracking.walk_filter import Reason

LEFT_HALF = np.zeros((64, 44), np.uint8)
LEFT_HALF[:, :22] = 255
RIGHT_HALF = np.ascontiguousarray(LEFT_HALF[:, ::-1])


def observation(heading, reason=None, silhouette=LEFT_HALF):
    return TrackObservation(1, (0.0, 0.0, 44.0, 64.0), None, reason, silhouette, heading)


def test_walk_to_the_right_is_mirrored_with_its_held_frames():
    walker = TrackState(1, window=30, keep=True)
    assert walker.observe(observation(None, Reason.TOO_FEW), 0.0) == ([], False)
    fresh, broken = walker.observe(observation(0.5), 0.1)
    assert not broken
    assert len(fresh) == len(walker.silhouettes) == 2
    assert all(np.array_equal(silhouette, RIGHT_HALF) for silhouette in fresh)


def test_walk_to_the_left_or_the_camera_is_not_mirrored():
    for heading in (-0.5, 0.0, 0.1, None):
        fresh, _ = TrackState(1, window=30).observe(observation(heading), 0.0)
        assert np.array_equal(fresh[0], LEFT_HALF)


def test_turning_round_starts_a_new_window():
    walker = TrackState(1, window=30)
    sides = [(0.5, False), (0.05, False), (-0.05, False), (-0.5, True), (-0.5, False)]
    for step, (heading, breaks) in enumerate(sides):
        fresh, broken = walker.observe(observation(heading), step / 10)
        assert broken is breaks
        assert np.array_equal(fresh[0], LEFT_HALF if heading == -0.5 else RIGHT_HALF)
