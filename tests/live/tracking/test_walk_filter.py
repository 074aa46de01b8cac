"""Walk filter: walking people pass, every refused frame has its reason."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from cstl_edge.live.segmentation.base import Detection
from cstl_edge.live.tracking.walk_filter import Reason, WalkFilter, has_step_rhythm, leg_width


def person(legs: float = 0.5, height: int = 120, arms: float = 0.0) -> np.ndarray:
    """Return a mask: head and trunk over two legs, `legs` and `arms` 0..1 spread."""
    mask = np.zeros((height, height), np.uint8)
    middle, hip = height // 2, int(0.55 * height)
    mask[: int(0.15 * height), middle - height // 14 : middle + height // 14] = 255
    mask[int(0.15 * height) : hip, middle - height // 9 : middle + height // 9] = 255
    reach = int(arms * 0.4 * height)
    mask[int(0.2 * height) : int(0.3 * height), middle - reach : middle + reach] = 255
    for side in (-1, 1):
        for row in range(hip, height):
            column = middle + side * int(legs * 0.25 * height * (row - hip) / (height - hip))
            mask[row, column - height // 20 : column + height // 20 + 1] = 255
    columns = np.flatnonzero(mask.any(axis=0))
    return np.ascontiguousarray(mask[:, columns[0] : columns[-1] + 1])


def check(mask, x=100.0, time_s=0.0, walk_filter=None, tall=None, hidden=False, **more):
    h, w = mask.shape
    tall = tall or float(h)
    box = (x - w / 2, 200.0 - tall, w * tall / h, tall)
    merged, clipped = more.pop("merged", False), more.pop("clipped", False)
    detection = None if hidden else Detection(box, mask, clipped, **more)
    track = SimpleNamespace(id=1, merged=merged, detection=detection)
    return (walk_filter or WalkFilter()).check(track, time_s)


def step(time_s: float) -> np.ndarray:
    return person(0.5 + 0.45 * math.cos(2 * math.pi * time_s / 0.55))


def check_walk(fps, seconds, speed=0.0, mask=step, tall=lambda t: 120.0, walk_filter=None):
    """Return the filter's reasons; speed in body heights per second, mask and tall by time."""
    walk_filter = walk_filter or WalkFilter()
    times = [i / fps for i in range(int(seconds * fps))]
    return [check(mask(t), 100 + speed * 120 * t, t, walk_filter, tall(t)) for t in times]


def test_two_frames_of_half_a_person_cost_these_two_alone() -> None:
    early = check_walk(30.0, 2.0, speed=0.7, tall=lambda t: 62.0 if 0.45 < t < 0.52 else 120.0)
    assert set(early[:15]) == {Reason.TOO_FEW}
    assert set(early[17:]) == {None}
    later = check_walk(30.0, 2.0, speed=0.7, tall=lambda t: 62.0 if 1.15 < t < 1.22 else 120.0)
    assert [i for i, reason in enumerate(later) if reason is Reason.NOT_PERSON] == [35, 36]
    assert set(later[17:35] + later[37:]) == {None}


def test_who_crouches_for_a_moment_does_not_walk() -> None:
    reasons = check_walk(30.0, 2.0, speed=0.7, tall=lambda t: 62.0 if 1.0 < t < 1.3 else 120.0)
    assert None not in reasons[31:55]
    assert Reason.NOT_WALKING in reasons[31:55]


@pytest.mark.parametrize("speed", [-0.8, 0.0, 0.8])
def test_the_heading_is_the_speed_to_the_side(speed: float) -> None:
    walk_filter = WalkFilter()
    assert walk_filter.heading is None
    check_walk(20.0, 1.0, speed=speed, walk_filter=walk_filter)
    assert walk_filter.heading == pytest.approx(speed, abs=0.02)


@pytest.mark.parametrize("fps", [8.0, 10.0, 25.0, 30.0, 60.0])
def test_a_walker_passes_after_half_a_second(fps: float) -> None:
    reasons = check_walk(fps, 2.0, speed=0.7)
    assert reasons[0] is Reason.TOO_FEW
    assert set(reasons[int(0.6 * fps) + 1 :]) == {None}


def test_a_standing_person_is_refused_as_standing() -> None:
    reasons = check_walk(25.0, 2.0, mask=lambda t: person(0.1))
    assert set(reasons[20:]) == {Reason.STANDING}


@pytest.mark.parametrize(
    ("pan", "speed", "reason"), [(0.9, 0.0, Reason.STANDING), (0.7, 0.7, None)]
)
def test_who_stands_before_a_camera_that_pans_does_not_walk(pan, speed, reason) -> None:
    walk_filter, mask = WalkFilter(), person(0.1)
    for i in range(50):
        time_s = i / 25
        shift = pan * 120 * time_s
        x = 100 + shift + speed * 120 * time_s
        box = (x - mask.shape[1] / 2, 80.0, float(mask.shape[1]), 120.0)
        track = SimpleNamespace(id=1, merged=False, detection=Detection(box, mask, clipped=False))
        last = walk_filter.check(track, time_s, (shift, 0.0))
    assert last is reason
    assert walk_filter.heading == pytest.approx(speed, abs=0.02)


def test_stepping_on_the_spot_and_coming_closer_count_as_walking() -> None:
    assert set(check_walk(25.0, 2.0)[30:]) == {None}
    closer = check_walk(25.0, 2.0, mask=lambda t: person(0.1), tall=lambda t: 120 * 1.15**t)
    assert set(closer[20:]) == {None}


def test_a_runner_moves_but_does_not_walk() -> None:
    assert set(check_walk(25.0, 2.0, speed=3.0)[20:]) == {Reason.NOT_WALKING}


def test_an_acrobat_moves_but_does_not_walk() -> None:
    reasons = check_walk(
        25.0, 2.4, speed=0.625, tall=lambda t: 120 * (1 + 0.25 * math.sin(2 * math.pi * t))
    )
    assert set(reasons[30:]) == {Reason.NOT_WALKING}


def test_jumping_jacks_are_no_steps() -> None:
    def up(time_s: float) -> float:
        return 0.5 + 0.5 * math.sin(2 * math.pi * time_s)

    reasons = check_walk(
        25.0, 2.4, mask=lambda t: person(up(t), arms=up(t)), tall=lambda t: 120 * (1 + 0.2 * up(t))
    )
    assert None not in reasons
    assert Reason.NOT_WALKING in reasons


@pytest.mark.parametrize(
    ("frame_options", "reason"),
    [
        ({"clipped": True}, Reason.CLIPPED),
        ({"tall": 40.0}, Reason.TOO_SMALL),
        ({"merged": True}, Reason.MERGED),
        ({"hidden": True}, Reason.HIDDEN),
        ({"score": 0.2}, Reason.NOT_PERSON),
    ],
)
def test_one_frame_is_refused_with_its_reason(frame_options: dict, reason: Reason) -> None:
    assert check(person(), **frame_options) is reason


def test_a_small_walker_whose_box_jitters_is_not_too_small() -> None:
    walk_filter = WalkFilter(min_height_px=48)
    seen = [check(person(), tall=tall, walk_filter=walk_filter) for tall in (47, 48, 42, 40)]
    too_small = [reason is Reason.TOO_SMALL for reason in seen]
    assert too_small == [True, False, False, True]


def test_a_crouching_person_is_not_person_shaped() -> None:
    assert check(np.full((60, 90), 255, np.uint8), tall=80.0) is Reason.NOT_PERSON


def test_a_standing_person_passes_without_demand_walking() -> None:
    assert check(person(), walk_filter=WalkFilter(demand_walking=False)) is None


def test_one_frame_per_second_is_too_few() -> None:
    assert set(check_walk(1.0, 10.0, speed=0.7)) == {Reason.TOO_FEW}


def test_steps_have_a_rhythm_of_leg_width() -> None:
    assert leg_width(person(1.0)) > leg_width(person(0.0)) + 0.3
    times = np.arange(0, 1.2, 0.04)
    assert has_step_rhythm(times, 0.3 + 0.1 * np.cos(2 * np.pi * times / 0.5))
    assert not has_step_rhythm(times, np.full(times.size, 0.3))
    assert not has_step_rhythm(times, 0.3 + 0.1 * times)
