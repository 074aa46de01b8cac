"""Generator of Walkers: equal seeds give equal bytes, and a picture shows what was drawn."""

import numpy as np
import pytest

from cstl_edge.silhouette import LARGE
from cstl_edge.walkers import generate
from cstl_edge.walkers.body import bone_transforms, dress
from cstl_edge.walkers.pose import ONE_STRIDE, basis, fourier
from cstl_edge.walkers.render import render_walk, timeline

OFF = ("noise", "azimuth_deg", "roll_deg", "elevation_deg", "drop_rate")
PLAIN = {**dict.fromkeys(OFF, 0.0), "distance_m": 60.0, "height_px": 144}


def plain(seed: int, condition: str = "nm", view_deg: float = 90.0, **overrides: object):
    return generate.recording(seed, condition, view_deg, **{**PLAIN, **overrides})


def test_same_seeds_give_the_same_bytes():
    for condition in generate.CONDITIONS:
        walks = [
            generate.silhouettes(generate.person(4), generate.recording(9, condition, 54), 8)
            for _ in range(2)
        ]
        assert walks[0].tobytes() == walks[1].tobytes()


def test_other_seeds_give_other_people_and_walks():
    who, walk = generate.person(4), plain(9)
    base = generate.silhouettes(who, walk, 8)
    assert not np.array_equal(base, generate.silhouettes(generate.person(5), walk, 8))
    assert not np.array_equal(base, generate.silhouettes(who, plain(10), 8))


@pytest.mark.parametrize("size", [(64, 44), LARGE])
@pytest.mark.parametrize("condition", generate.CONDITIONS)
def test_silhouettes_have_the_form_of_the_network_input(size, condition):
    for view in (0, 90, 162):
        walk = generate.recording(2, condition, view)
        silhouettes = generate.silhouettes(generate.person(1), walk, 9, size)
        assert (silhouettes.shape, silhouettes.dtype) == ((9, *size), np.uint8)
        assert (silhouettes > 127).any(2)[:, [0, -1]].all()
        fill = (silhouettes > 127).mean((1, 2))
        assert 0.08 < fill.min() <= fill.max() < 0.85


def test_body_seed_fixes_the_body_alone():
    one, other = generate.person(1, body_seed=7), generate.person(2, body_seed=7)
    assert np.array_equal(one.body.shape, other.body.shape)
    assert one.body.leg == other.body.leg
    assert not np.array_equal(one.gait.style, other.gait.style)
    assert generate.body_height_m(one) == generate.body_height_m(other)
    own = generate.person(1)
    assert np.array_equal(own.gait.style, one.gait.style)
    assert not np.array_equal(own.body.shape, one.body.shape)


def test_people_are_of_human_size_and_walk_at_human_speed():
    people = [generate.person(i) for i in range(40)]
    heights = [generate.body_height_m(p) for p in people]
    assert 1.4 < min(heights) < max(heights) < 2.2
    speeds = [generate.speed_mps(p, generate.recording(3)) for p in people]
    assert 0.6 < min(speeds) < max(speeds) < 2.4
    assert 0.9 < np.mean(speeds) < 1.7


def test_elbows_bend_forwards_and_not_too_far():
    for seed in range(20):
        walker = dress(generate.person(seed), generate.recording(seed))
        for name in ("LeftForeArm", "RightForeArm"):
            sign = 1 if name[0] == "L" else -1
            waves = fourier(ONE_STRIDE) @ walker.coeffs[basis().joints[name]]
            bend = waves @ (np.array([0.0, -0.98, -0.2]) * sign)
            assert 0.0 < bend.min() <= bend.max() < 1.75


def clean_masks(who: int, walk: generate.Recording, frames: int):
    return [sprite.mask for sprite in generate.sprites(generate.person(who), walk, frames)]


def area(condition: str, who: int, **overrides: object) -> float:
    walk = plain(who, condition, 90.0, start_phase=0.2, **overrides)
    return float(np.mean([np.count_nonzero(mask) for mask in clean_masks(who, walk, 12)]))


def test_bags_and_coats_make_walkers_larger():
    for who in range(4):
        normal = area("nm", who)
        for bag in generate.BAGS:
            assert area("bg", who, bag=bag) > normal
        assert area("cl", who, coat_bulk=0.03, coat_hem=0.8) > normal * 1.05


def test_a_backpack_sits_on_the_back_between_shoulders_and_hips():
    who = generate.person(3)
    frames = render_walk(who, plain(5, "bg", 90.0, bag="backpack"), 6).masks.astype(int)
    bare = plain(5, "nm", 90.0, posture=np.zeros(4, np.float32))
    added = np.argwhere((frames - render_walk(who, bare, 6).masks).sum(0) > 255 * 4)
    rows, columns = added.mean(0)
    assert 25 < rows < 90  # of 16 (crown) .. 160 (soles)
    assert columns > frames.shape[2] / 2  # she walks to the left, her back is on the right


def test_the_carrying_arm_swings_less():
    def swing(bag: str) -> float:
        walk = plain(5, "bg", bag=bag, bag_side="Left") if bag else plain(5)
        hand, total = basis().bones.index("LeftHand"), 0.0
        for who in range(8):
            walker = dress(generate.person(who), walk)
            _, place = bone_transforms(walker, ONE_STRIDE.astype(np.float32))
            total += float(np.ptp(place[hand][:, 2]))
        return total

    assert swing("hand") < 0.75 * swing("")
    assert swing("side") < swing("")


def test_opposite_views_mirror_each_other():
    who = generate.person(6)
    for view in (0, 36):
        front = render_walk(who, plain(2, "nm", view), 4).masks > 127
        back = render_walk(who, plain(2, "nm", view + 180), 4).masks[:, :, ::-1] > 127
        overlap = (front & back).sum() / (front | back).sum()
        assert overlap > 0.85


def test_the_side_view_repeats_with_the_stride():
    who = generate.person(8)
    for fps in (10.0, 25.0):
        walk = plain(2, fps=fps)
        seen = generate.silhouettes(who, walk, 64).reshape(64, -1).astype(float)
        seen -= seen.mean(0)
        lags = np.array([(seen[:-k] * seen[k:]).mean() for k in range(1, 45)])
        stride = generate.stride_time_s(who, walk) * fps
        near = slice(round(stride * 0.8) - 1, round(stride * 1.2))
        best = round(stride * 0.8) + int(lags[near].argmax())
        assert abs(best - stride) <= 0.12 * stride + 1


def test_frame_rate_changes_the_phase_step_only():
    who = generate.person(8)
    slow, fast = plain(2, fps=10.0), plain(2, fps=20.0)
    phase_slow, _ = timeline(who, slow, dress(who, slow), 10)
    phase_fast, _ = timeline(who, fast, dress(who, fast), 20)
    gap = np.abs(phase_slow - phase_fast[::2])
    assert np.minimum(gap, 1 - gap).max() < 0.12


@pytest.mark.parametrize("height", [50, 128, 400])
def test_clean_masks_have_the_requested_height(height):
    for mask in clean_masks(2, plain(1, height_px=height), 5):
        assert set(np.unique(mask)) == {0, 255}
        assert abs(mask.shape[0] - height) <= 0.04 * height + 2
        assert mask[[0, -1]].any(1).all()
        assert mask[:, 0].any()


def test_walkers_who_come_closer_grow():
    walk = plain(1, view_deg=0.0, distance_m=6.0, elevation_deg=8.0)
    heights = [mask.shape[0] for mask in clean_masks(2, walk, 60)]
    assert heights[-1] > 1.3 * heights[0]


def test_sprites_walk_at_the_returned_speed():
    who, walk = generate.person(2), plain(1, fps=20.0)
    sprites = generate.sprites(who, walk, 401)  # within a stride they hurry and linger
    speed = (sprites[-1].travel_m - sprites[0].travel_m) / 20.0
    assert speed == pytest.approx(generate.speed_mps(who, walk), rel=0.02)
    steps = np.diff([sprite.travel_m for sprite in sprites])
    assert steps.min() > 0
    assert all(0 < s.anchor_px < s.mask.shape[1] for s in sprites)
