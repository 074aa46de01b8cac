"""Enrolment of a walk or a name that is there already."""

import numpy as np
import pytest

from cstl_edge.errors import GalleryError
from cstl_edge.gallery.gallery import Gallery
from cstl_edge.gallery.looks import look_key

IMPOSTORS = {"sizes": [1, 20], "fpir": [0.001, 0.1], "threshold": [[0.5, 0.7], [0.4, 0.6]]}


@pytest.fixture
def gallery(path, model, alice):
    model.impostors = IMPOSTORS
    with Gallery.open(path, model) as opened:
        yield opened


@pytest.mark.parametrize("name", ["bob", "alice"])
@pytest.mark.parametrize("windows", [slice(None), slice(1, 2)])
def test_a_walk_is_enrolled_once(gallery, alice, name, windows):
    with pytest.raises(GalleryError, match=r"this is already alice \(distance 0.00\).*--force"):
        gallery.enroll(name, alice[windows], consent="yes")
    assert [(p.name, p.templates) for p in gallery.people()] == [("alice", 3)]
    gallery.enroll(name, alice[windows], consent="yes", force=True)
    assert gallery.templates == 3 + len(alice[windows])


def test_a_walk_that_the_gallery_takes_for_somebody_is_not_somebody_else(gallery, alice, rng):
    again = alice + 0.1 * rng.standard_normal(alice.shape).astype(np.float32)
    with pytest.raises(GalleryError, match=r"this is already alice \(distance 0\.\d\d, below"):
        gallery.enroll("bob", again, consent="yes")
    gallery.enroll("alice", again, consent="yes")  # another walk of hers
    gallery.enroll("bob", again + 0.01, consent="yes", force=True)


def test_walks_of_strangers_are_enrolled(gallery, walker):
    for i in range(5):
        gallery.enroll(f"p{i}x", walker(), consent="yes")


@pytest.mark.parametrize(
    "twin",
    ["\u0410lice", "al ice", "A-LICE", "al\u0456ce", "al1ce", "\u00e0lice", "ali\u0441e"],
)
def test_a_name_that_looks_like_another_is_refused(gallery, walker, twin):
    with pytest.raises(GalleryError, match=r"looks like 'alice'.*--force"):
        gallery.enroll(twin, walker(), consent="yes")
    gallery.enroll(twin, walker(), consent="yes", force=True)
    assert len(gallery.people()) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [("alice", "alicia"), ("\u5f20\u4e09", "\u5f20\u56db"), ("\u0915\u093f", "\u0915\u0940"),
     ("Ann", "Anna"), ("\U0001f600", "\U0001f601"), ("p1", "p2"), ("W-3", "W3a"), ("1-12", "11-2")],
)  # fmt: skip
def test_other_names_look_different(one, other):
    assert look_key(one) != look_key(other)
