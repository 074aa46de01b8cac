"""A street with four sides: the same people, at one side at a time, in the same clothes."""

import itertools

import numpy as np
import pytest

from cstl_edge.errors import ConfigError
from cstl_edge.live.sources.open import open_source
from cstl_edge.live.sources.synthetic import sides
from cstl_edge.live.sources.synthetic.sides import LoopingCamera, plan_sides, side_of_street


def test_everybody_passes_every_side_once_and_is_nowhere_twice():
    plan = plan_sides(5, 3)
    by_person = {}
    for side, walks in enumerate(plan.walks):
        assert len(walks) == 5
        street = side_of_street(side, 5, seed=3)
        for spec, actor in zip(street.people, street._actors, strict=True):
            stay = spec.start_s, spec.start_s + actor.frames / street.fps
            by_person.setdefault(spec.person_seed, []).append(stay)
            assert stay[1] < plan.period_s
    assert len(by_person) == 5
    for stays in by_person.values():
        assert all(a[1] < b[0] for a, b in itertools.pairwise(sorted(stays)))


def test_clothes_are_the_same_on_every_side():
    cloths = [{a.spec.person_seed: a._cloth for a in side_of_street(s, 3)._actors} for s in (0, 2)]
    for person, cloth in cloths[0].items():
        np.testing.assert_array_equal(cloth, cloths[1][person])


def test_a_live_side_begins_again_by_the_clock(monkeypatch):
    street = side_of_street(1, 1, seed=2)
    now = [1000.0]
    monkeypatch.setattr(sides.time, "time", lambda: now[0])
    monkeypatch.setattr(type(street), "image", lambda self, index: index)
    camera = LoopingCamera(street)
    first = camera.read()
    assert first == 10_000 % street.frames
    now[0] += 0.1
    assert camera.read() == (first + 1) % street.frames
    now[0] += street.frames / street.fps
    assert camera.read() == (first + 1) % street.frames
    camera.stop()
    now[0] -= 60
    assert camera.read() is None


@pytest.mark.parametrize("address", ["street?side=4", "street?sides=1", "street?people=99", "lane"])
def test_impossible_streets_are_refused(address):
    with pytest.raises(ConfigError):
        open_source(f"synthetic://{address}")


def test_a_recording_of_a_side_has_one_period():
    with open_source("synthetic://street?side=2&people=1&seed=2&fps=5") as source:
        assert source.frames == round(plan_sides(1, 2).period_s * 5)


def test_people_turn_back_at_the_gate():
    through, gate = plan_sides(3, 2), plan_sides(3, 2, gate=True)
    assert all(walk.turns_at is not None for walk in gate.walks[0])
    assert all(walk.turns_at is None for side in gate.walks[1:] for walk in side)
    assert [[w.person_seed for w in side] for side in gate.walks] == [
        [w.person_seed for w in side] for side in through.walks
    ]
    with open_source("synthetic://street?side=0&people=1&seed=2&fps=5&gate=1") as source:
        assert source.frames == round(plan_sides(1, 2, gate=True).period_s * 5)
