"""Synthetic street: the same for the same seed, with ground truth that fits the pictures."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from cstl_edge.errors import ConfigError
from cstl_edge.live.sources.open import open_source
from cstl_edge.live.sources.stream import LiveSource
from cstl_edge.live.sources.synthetic.cast import Habits, scheduled, street_walkers
from cstl_edge.live.sources.synthetic.scene import PinholeCamera, empty_street
from cstl_edge.live.sources.synthetic.source import SyntheticSource, WalkerSpec
from cstl_edge.walkers import generate

ONE = WalkerSpec(11, "ada", "nm", session=3, view_deg=90.0, start_s=0.2, distance_m=6.0)
OTHER = WalkerSpec(12, "bob", "bg", session=4, view_deg=270.0, start_s=0.2, distance_m=8.0)


@pytest.fixture(scope="module")
def street() -> SyntheticSource:
    return SyntheticSource([ONE, OTHER], seed=5)


@pytest.fixture(scope="module")
def background(street: SyntheticSource) -> np.ndarray:
    """Return the street without people, float [H, W, 3]."""
    return empty_street(PinholeCamera(street.size), 5).astype(float)


def test_a_street_reads_like_a_file() -> None:
    source = open_source("synthetic://1?seed=4&fps=10&seconds=2&size=320x180")
    assert isinstance(source, SyntheticSource)
    assert (source.size, source.fps, source.frames, source.live) == ((180, 320), 10.0, 20, False)
    frames = list(source)
    assert [f.index for f in frames] == list(range(20))
    assert [f.time_s for f in frames] == [i / 10 for i in range(20)]
    assert (frames[0].image.shape, frames[0].image.dtype) == ((180, 320, 3), np.uint8)


def test_the_same_seed_gives_the_same_pictures_from_anywhere() -> None:
    address = "synthetic://1?seed=4&fps=10&seconds=3&size=320x180"
    whole = {f.index: f.image for f in open_source(address)}
    part = list(open_source(address, start_s=1.5, stop_s=2.5))
    assert [f.index for f in part] == list(range(15, 25))
    assert all((f.image == whole[f.index]).all() for f in part)
    again = open_source(address).reopen()
    assert all((f.image == whole[f.index]).all() for f in again)
    other = next(open_source(address.replace("seed=4", "seed=5"))).image
    assert (other != whole[0]).mean() > 0.5


def test_the_empty_street_is_empty_at_first_and_at_last(street: SyntheticSource) -> None:
    assert street.frames is not None
    assert street.truth(0) == []
    assert street.truth(street.frames - 1) == []
    assert not street.labels(0).any()


def test_the_truth_lies_where_the_picture_changed(street, background) -> None:
    for index in (40, 70, 100):
        change = np.abs(street.image(index) - background).sum(2) > 60
        labels, truth = street.labels(index), street.truth(index)
        assert {t.walker + 1 for t in truth} == set(np.unique(labels)) - {0}
        assert change[labels > 0].mean() > 0.85
        for t in truth:
            x, y, w, h = t.box
            walker_pixels = labels == t.walker + 1
            assert walker_pixels[y : y + h, x : x + w].sum() == walker_pixels.sum()
            assert walker_pixels[y].any()
            assert walker_pixels[:, x + w - 1].any()
            assert (t.spec.name, t.spec.person_seed, t.spec.condition) in {
                ("ada", 11, "nm"),
                ("bob", 12, "bg"),
            }


def test_walkers_go_where_their_view_says(street: SyntheticSource) -> None:
    boxes = {i: {t.spec.name: t.box for t in street.truth(i)} for i in (50, 80)}
    assert boxes[80]["ada"][0] < boxes[50]["ada"][0] - 40  # the left side to the camera: leftwards
    assert boxes[80]["bob"][0] > boxes[50]["bob"][0] + 30


def test_approaching_walkers_grow() -> None:
    source = SyntheticSource([WalkerSpec(11, view_deg=0.0, start_s=0.0)], seed=1)
    (walker,) = source._actors
    moments = [round(share * walker.frames) for share in (0.0, 0.3, 0.6, 0.8)]
    heights = [source.truth(i)[0].box[3] for i in moments]
    assert heights == sorted(heights)
    assert heights[-1] > 1.5 * heights[0]


def test_the_nearer_walker_hides_the_farther(street: SyntheticSource) -> None:
    least = {"ada": 1.0, "bob": 1.0}
    for index in range(40, 140):
        for t in street.truth(index):
            if 5 < t.box[0] < 600 and t.box[0] + t.box[2] < 635:  # away from the borders
                least[str(t.spec.name)] = min(least[str(t.spec.name)], t.visible)
    assert least["ada"] == 1.0
    assert least["bob"] < 0.7


def test_entering_walkers_are_clipped_by_the_border() -> None:
    source = SyntheticSource([ONE], seed=1)
    seen = [t for i in range(30) for t in source.truth(i)]
    assert seen[0].visible < 0.6
    assert seen[0].box[0] + seen[0].box[2] == 640


def test_outlines_are_those_of_the_walkers() -> None:
    """A walker alone in the picture has the silhouette that `walkers` makes for that view."""
    source = SyntheticSource([ONE], seed=1)
    index = 80
    x, y, w, h = source.truth(index)[0].box
    seen = source.labels(index)[y : y + h, x : x + w] > 0
    actor = source._actors[0]
    sprites = generate.sprites(generate.person(11), actor.recording, actor.frames)
    sprite = sprites[index - actor.first_index]
    rows = np.linspace(0, sprite.mask.shape[0] - 1, h).round().astype(int)
    columns = np.linspace(0, sprite.mask.shape[1] - 1, w).round().astype(int)
    expected = sprite.mask[np.ix_(rows, columns)] > 0
    assert (seen & expected).sum() / (seen | expected).sum() > 0.9


def test_clothes_differ_from_background(street: SyntheticSource, background: np.ndarray) -> None:
    grey, background = street.image(70).astype(float).mean(2), background.mean(2)
    for t in street.truth(70):
        walker_pixels = street.labels(70) == t.walker + 1
        assert np.abs(grey[walker_pixels] - background[walker_pixels]).mean() > 25


def test_shadows_fall_on_the_ground(street: SyntheticSource, background: np.ndarray) -> None:
    ratio = street.image(70).astype(float).mean(2) / background.mean(2)
    assert 200 < (ratio[street.labels(70) == 0] < 0.85).sum() < 20_000


def test_walkers_of_a_street_differ_and_enter_one_after_another() -> None:
    cast = street_walkers(6, seed=2)
    assert [w.condition for w in cast] == ["nm", "bg", "nm", "nm", "bg", "nm"]
    assert len({w.person_seed for w in cast}) == 6
    assert min(w.person_seed for w in cast) >= 1_000_000
    entrances = [w.start_s for w in scheduled([*cast, ONE], seed=2)]
    assert entrances[-1] == ONE.start_s
    assert all(1.9 < gap < 4.1 for gap in np.diff(np.array(entrances[:6], float)))


def test_streets_of_another_size_have_other_people() -> None:
    few, many = ({w.person_seed for w in street_walkers(n, seed=0)} for n in (4, 8))
    assert not few & many


def test_people_of_a_dense_street_enter_within_seconds() -> None:
    people = SyntheticSource(8, seed=1, habits=Habits(dense=True)).people
    entrances = [person.start_s for person in people]
    assert all(0.29 < gap < 1.01 for gap in np.diff(np.array(entrances, float)))


def test_who_turns_back_leaves_where_they_came_in() -> None:
    source = SyntheticSource([replace(ONE, turns_at=0.4)], seed=1)
    seen = {i: t.box[0] for i in range(source.frames or 0) for t in source.truth(i)}
    first, last = min(seen), max(seen)
    least = min(seen.values())
    assert min(seen[first], seen[last]) > 500
    assert 100 < least < 500
    turn = min(seen, key=lambda i: seen[i])
    assert abs(turn - (first + last) / 2) < 0.15 * (last - first)


def test_who_stands_still_goes_on_afterwards() -> None:
    stop = SyntheticSource([replace(ONE, stands_s=2.0)], seed=1)
    plain = SyntheticSource([ONE], seed=1)
    assert stop.frames == (plain.frames or 0) + 50
    boxes = [t.box for i in range(stop.frames or 0) for t in stop.truth(i)]
    assert max(boxes.count(box) for box in boxes) >= 50
    assert boxes[-1] == [t.box for i in range(plain.frames or 0) for t in plain.truth(i)][-1]


def test_a_pole_hides_who_is_behind_it() -> None:
    plain, poles = (SyntheticSource([ONE], seed=1, poles=n) for n in (0, 3))
    visible = [
        [t.visible for i in range(30, 100) for t in source.truth(i)] for source in (plain, poles)
    ]
    assert min(visible[1]) < 0.8 < min(visible[0])
    still = np.abs(poles.image(0).astype(float) - poles.image(60)).mean(2)
    for pole in poles._poles:
        assert still[:, pole.columns].mean() < 6


def test_habits_stand_in_the_address() -> None:
    source = open_source("synthetic://4?dense=1&poles=2&turning=1&standing=1&carrying=1")
    assert isinstance(source, SyntheticSource)
    assert {person.condition for person in source.people} == {"bg"}
    assert [person.turns_at is not None for person in source.people] == [True, False] * 2
    assert [person.stands_s > 0 for person in source.people] == [False, True] * 2


def test_a_live_street_keeps_its_pace() -> None:
    address = "synthetic://1?fps=40&seconds=0.5&size=320x180&live=1"
    with open_source(address) as source:
        assert isinstance(source, LiveSource)
        frames = list(source)
    assert frames[-1].index == 19
    assert len(frames) + source.dropped == 20
    assert frames[-1].time_s - frames[0].time_s > 0.3


def test_a_slow_reader_of_a_live_street_drops_frames() -> None:
    with open_source("synthetic://0?fps=50&seconds=60&size=320x180&live=1") as source:
        next(source)
        time.sleep(0.15)
        next(source)
        next(source)
        assert source.dropped > 2


@pytest.mark.parametrize(
    "street",
    ["51", "2?fps=0", "2?fps=nan", "2?size=9x9", "2?size=big", "2?seconds=-1", "", "2?poles=99"],
)
def test_impossible_streets_are_refused(street: str) -> None:
    with pytest.raises(ConfigError):
        open_source(f"synthetic://{street}")


def test_a_walker_who_never_enters_the_picture_is_refused() -> None:
    with pytest.raises(ConfigError, match="path through the picture"):
        SyntheticSource([WalkerSpec(1, view_deg=0.0, offset_m=90.0)])
    with pytest.raises(ConfigError, match="condition"):
        SyntheticSource([WalkerSpec(1, condition="zz")])


def test_a_live_street_that_loops_does_not_end() -> None:
    address = "synthetic://1?fps=50&seconds=0.2&size=320x180&live=1&loop=1"
    with open_source(address) as source:
        seen = [next(source).index for _ in range(25)]  # more than twice its length
    assert seen == sorted(set(seen))
    with pytest.raises(ConfigError, match="live=1"):
        open_source("synthetic://1?loop=1")
