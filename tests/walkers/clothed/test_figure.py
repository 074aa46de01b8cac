"""Figures: strides that do not slide, flat soles, cloth and bags that add to the outline."""

from dataclasses import replace

import numpy as np
import pytest

from cstl_edge.walkers.clothed.activity import act
from cstl_edge.walkers.clothed.figure import bone_places, dress, ground_speed_mps
from cstl_edge.walkers.clothed.footage import render_session
from cstl_edge.walkers.clothed.outfit import LAYER_FORMS, Bag, Shell
from cstl_edge.walkers.clothed.session import make_session
from cstl_edge.walkers.clothed.walk import INDEX, SEGMENTS, directions, make_walk, walk_basis
from cstl_edge.walkers.person import make_person
from cstl_edge.walkers.pose import ONE_STRIDE, basis

PHASES = ONE_STRIDE.astype(np.float32)


def plain_session(seed=3, view=90.0, **changes):
    """A session without cloth that hangs, bags, turns or activities."""
    session = make_session(seed, 1, 7, "nm", view)
    bare = {"layer": "", "jacket": None, "skirt": None, "hood": "", "hat": "", "bags": ()}
    outfit = replace(session.outfit, **(bare | changes))
    return replace(session, outfit=outfit, activity="", turn_deg_s=0.0, pace_end=1.0)


def area(session, frames=6):
    return np.count_nonzero(render_session(make_person(7), session, frames).masks) / frames


def test_speeds_are_those_of_people():
    speeds = [ground_speed_mps(dress(make_person(i), make_session(i, 1, i, "nm", 90.0)))
              for i in range(40)]  # fmt: skip
    assert 1.0 < np.mean(speeds) < 1.45
    assert min(speeds) > 0.5
    assert max(speeds) < 2.3


def test_ranges_of_motion_are_those_of_adults():
    knees, thighs = [], []
    for person in range(40):
        lines, _ = directions(make_walk(person, 0).coeffs, PHASES)
        thigh, shank = (np.degrees(np.arctan2(lines[INDEX[name], :, 2], -lines[INDEX[name], :, 1]))
                        for name in ("LeftUpLeg", "LeftLeg"))  # fmt: skip
        knees.append(np.ptp(thigh - shank))
        thighs.append(np.ptp(thigh))
    assert np.mean(knees) == pytest.approx(56.1, rel=0.1)  # 138 adults: 56.1 and 44.0 degrees
    assert np.mean(thighs) == pytest.approx(44.0, rel=0.1)


def test_standing_feet_are_flat():
    figure = dress(make_person(7), plain_session())
    _, place = bone_places(figure, PHASES)
    names = basis().bones
    drop = place[names.index("LeftFoot")] - place[names.index("LeftToeBase")]
    at_rest = figure.heads[names.index("LeftFoot")] - figure.heads[names.index("LeftToeBase")]
    flat = slice(4, 9)  # phases 0.12 to 0.28
    assert abs(drop[flat, 1].mean() - at_rest[1]) < 0.02


def test_lines_are_unit_vectors_whatever_the_hands_do():
    for activity in ("", "phone", "pockets", "folded", "aside"):
        session = replace(plain_session(), activity=activity)
        lines, sway = directions(make_walk(7, 1).coeffs, PHASES)
        assert lines.shape == (len(SEGMENTS), len(PHASES), 3)
        assert np.abs(np.linalg.norm(act(lines, session), axis=-1) - 1).max() < 1e-4
        assert np.abs(sway).max() < 0.1


def test_shifted_people_walk_like_others_that_training_never_sees():
    stored = walk_basis()
    assert stored["shifted"].shape == (6, *stored["mean"].shape)
    mean = stored["mean"].ravel()
    components = stored["components"].reshape(len(stored["components"]), -1)
    for person in range(5):
        shifted = make_walk(person, 0, shifted=True).coeffs.ravel() - mean
        usual = make_walk(person, 0).coeffs.ravel() - mean
        outside = [np.linalg.norm(x - components.T @ (components @ x)) for x in (shifted, usual)]
        assert outside[0] > 1.1 * outside[1]


def test_layers_skirts_and_bags_add_to_the_outline():
    bare = area(plain_session())
    for layer, (bulk, hem, flare) in LAYER_FORMS.items():
        shell = Shell(bulk[1], hem[1], flare[1], 0.7, 0.03)
        assert area(plain_session(layer=layer, jacket=shell)) > 1.02 * bare
    assert area(plain_session(skirt=Shell(0.01, 0.6, 0.08, 0.6, 0.03))) > 1.02 * bare
    for kind in ("backpack", "shoulder", "hand", "shopping", "trolley", "box", "tote", "duffel"):
        assert area(plain_session(bags=(Bag(kind, "Left", 1.0),), layer="")) > 1.01 * bare
    for hat in ("fedora", "cap", "brim", "fedora_cocked"):
        sessions = (plain_session(hat=h, hair="") for h in (hat, ""))
        worn, bare_head = (render_session(make_person(7), s, 1).masks[0, :45] for s in sessions)
        assert np.count_nonzero(worn != bare_head) > 3


def test_a_turning_walk_changes_its_width():
    straight = render_session(make_person(7), plain_session(view=0.0), 24).masks
    session = replace(plain_session(view=0.0), turn_deg_s=60.0)
    turning = render_session(make_person(7), session, 24).masks
    step = [np.ptp(np.flatnonzero(m[-1][100:].any(0))) for m in (straight, turning)]
    assert step[1] > step[0]
    middle = [m[12] for m in (straight, turning)]
    assert np.mean(middle[0] != middle[1]) < 0.01


def test_frames_of_at_least_one():
    with pytest.raises(ValueError, match="at least 1 frame"):
        render_session(make_person(7), plain_session(), 0)
