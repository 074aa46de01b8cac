"""Single walks: taken out, given to somebody else, ruled out by a correction."""

import numpy as np
import pytest

from cstl_edge.errors import GalleryError
from cstl_edge.gallery.gallery import Gallery
from cstl_edge.gallery.match import NoMatch, RuledOut, SeenWalk


@pytest.fixture
def gallery(path, model, alice):
    with Gallery.open(path, model) as opened:
        yield opened


def bytes_of(path):
    return b"".join(file.read_bytes() for file in path.parent.iterdir())


def test_one_walk_is_taken_out_without_residue(gallery, walker, path):
    wrong = walker()
    gallery.enroll("alice", wrong, consent="second-walk")
    first, second = gallery.walks("Alice")
    assert gallery.remove_walk("alice", second) == 3
    assert gallery.walks("alice") == (first,)
    assert gallery.identify(wrong, threshold=0.5).name is None
    assert b"second-walk" not in bytes_of(path)
    assert gallery.verify() == []


def test_the_only_walk_and_walks_of_others_stay(gallery, walker):
    gallery.enroll("bob", walker(), consent="yes")
    with pytest.raises(GalleryError, match="the only walk of 'alice'"):
        gallery.remove_walk("alice", *gallery.walks("alice"))
    with pytest.raises(GalleryError, match="'alice' has no such walk"):
        gallery.remove_walk("alice", *gallery.walks("bob"))


def test_a_merge_is_undone(gallery, walker, alice):
    walk = walker()
    gallery.enroll("twin", walk, consent="note-of-twin", retention_days=30)
    expires, walks = gallery.show("twin").expires_utc, gallery.walks("twin")
    gallery.merge("alice", "twin")
    assert gallery.split("alice", walks, "twin", expires) == 3
    assert gallery.show("twin").expires_utc == expires
    assert gallery.show("twin").consent == "note-of-twin"
    assert gallery.identify(walk, threshold=0.5).name == "twin"
    assert gallery.identify(alice, threshold=0.5).name == "alice"
    assert gallery.verify() == []


def test_walks_are_not_given_to_a_name_in_use_nor_all_of_them(gallery, walker):
    gallery.enroll("bob", walker(), consent="yes")
    gallery.enroll("alice", walker(), consent="yes")
    with pytest.raises(GalleryError, match="enrolled already"):
        gallery.split("alice", gallery.walks("alice")[1:], "bob")
    with pytest.raises(GalleryError, match="no other walks"):
        gallery.split("alice", gallery.walks("alice"), "eve")


def test_a_walk_that_was_ruled_out_is_never_given_that_name_again(gallery, walker, alice):
    gallery.enroll("bob", walker(), consent="yes")
    seen = SeenWalk.of_windows(alice + np.float32(0.05))
    assert gallery.identify(seen, threshold=5.0).name == "alice"
    no_alice = [RuledOut("alice", seen.mean)]
    decision = gallery.identify(seen, threshold=0.5, ruled_out=no_alice)
    assert (decision.name, decision.reason) == (None, NoMatch.CORRECTED)
    assert decision.runner_up is None
    assert gallery.identify(seen, threshold=50.0, ruled_out=no_alice).name == "bob"
    own = SeenWalk.of_windows(alice)
    assert gallery.identify(own, threshold=0.5, ruled_out=no_alice).name == "alice"


def test_with_everybody_ruled_out_there_is_no_distance(gallery, alice):
    seen = SeenWalk.of_windows(alice + np.float32(0.05))
    no_alice = [RuledOut("alice", seen.mean), RuledOut("gone", seen.mean)]
    decision = gallery.identify(seen, threshold=5.0, ruled_out=no_alice)
    assert (decision.name, decision.distance, decision.reason) == (None, None, NoMatch.CORRECTED)
