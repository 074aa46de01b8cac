"""Sets of clothed Walkers: naming, directions, bytes that depend on seeds alone, filmed walks."""

import numpy as np
import pytest

from cstl_edge.silhouette import SMALL
from cstl_edge.walkers.clothed import collection, film, person_network
from cstl_edge.walkers.clothed.collection import person_walks
from cstl_edge.walkers.clothed.film import FilmSettings, film_masks
from cstl_edge.walkers.clothed.session import make_session
from cstl_edge.walkers.person import make_person

RECORDINGS = {"nm": 2, "bg": 1, "cl": 1}


def walks(person=11, **settings):
    return list(person_walks(person, recordings=RECORDINGS, frames=5, **settings))


def test_walks_are_named_and_seen_from_opposite_pairs_of_directions():
    seen = walks(views=4)
    assert [name for name, _, _ in seen[::4]] == ["nm-01", "nm-02", "bg-01", "cl-01"]
    for start in range(0, len(seen), 4):
        views = {view for _, view, _ in seen[start : start + 4]}
        assert len(views) == 4
        assert all((view + 180) % 360 in views for view in views)
    assert all(each.shape == (5, *SMALL) and each.dtype == np.uint8 for _, _, each in seen)


def test_bytes_depend_on_the_seeds_alone():
    alone = {(n, v): s for n, v, s in walks(views_deg=(90,))}
    among = {(n, v): s for n, v, s in walks(views_deg=(30, 90, 270))}
    for key, silhouettes in alone.items():
        assert np.array_equal(silhouettes, among[key])
    assert not np.array_equal(alone["nm-01", 90], alone["nm-02", 90])
    other = {(n, v): s for n, v, s in walks(views_deg=(90,), seed=1)}
    assert not np.array_equal(alone["nm-01", 90], other["nm-01", 90])


def ellipse_network(crops):
    """A network that finds the same ellipse in every crop."""
    y, x = np.mgrid[:256, :256]
    inside = ((x - 128) / 30) ** 2 + ((y - 128) / 95) ** 2 < 1
    logits = np.where(inside, 5.0, -5.0).astype(np.float32)
    return np.repeat(logits[None], len(crops), 0), np.ones(len(crops), np.float32)


def session(seed=5, view=90.0):
    return make_session(seed, 1, 11, "nm", view)


def test_the_network_decides_the_masks():
    settings = FilmSettings(subtracted=0.0)
    masks = film_masks(make_person(11), session(), 3, ellipse_network, settings)
    wanted = ellipse_network(np.zeros((1, 256, 256, 3)))[0][0] > 0
    assert all(np.array_equal(mask > 0, wanted) for mask in masks)
    nothing = film_masks(make_person(11), session(), 2, lambda c: (
        np.full((len(c), 256, 256), -5.0, np.float32), np.zeros(len(c))), settings)  # fmt: skip
    assert not any(mask.any() for mask in nothing)


def test_subtraction_finds_most_of_the_person(monkeypatch):
    monkeypatch.setattr(film, "NEIGHBOURED", 0.0)
    monkeypatch.setattr(film, "POLED", 0.0)
    settings = FilmSettings(subtracted=1.0)
    found = []
    for seed in range(6):
        masks = film_masks(make_person(11), session(seed), 3, ellipse_network, settings)
        found += [np.ptp(np.flatnonzero(m.any(1))) / len(m) for m in masks if m.any()]
    assert len(found) >= 12
    assert 0.6 < np.median(found) < 0.95


def test_walks_in_which_nobody_is_found_are_rendered_without_pictures(monkeypatch):
    def blind(crops):
        return np.full((len(crops), 256, 256), -5.0, np.float32), np.zeros(len(crops))

    monkeypatch.setattr(person_network, "person_network", lambda: blind)
    monkeypatch.setattr(film, "SUBTRACTED", 0.0)
    monkeypatch.setattr(film.FilmSettings, "subtracted", 0.0, raising=False)
    filmed = walks(views_deg=(90,), filmed=1.0)
    assert all(len(s) >= collection.LEAST_FILMED * 5 for _, _, s in filmed)


@pytest.mark.parametrize("size", [(60, 40), (64, 64)])
def test_other_sizes_are_refused(size):
    with pytest.raises(ValueError, match="expected a size"):
        walks(views_deg=(90,), size=size)
