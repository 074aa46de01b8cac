"""Gallery: enrolment, identification, listing, removal, retention, threads."""

import threading
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest

from cstl_edge.errors import ConfigError, DataError, GalleryError
from cstl_edge.gallery.gallery import Gallery
from cstl_edge.gallery.templates import cut_windows

IMPOSTORS = {"sizes": [1, 20], "fpir": [0.001, 0.1], "threshold": [[0.5, 0.7], [0.4, 0.6]]}


class Clock:
    """A wall clock that is set by hand."""

    now = datetime(2026, 11, 22, tzinfo=timezone.utc)

    def __call__(self):
        return self.now

    def pass_days(self, days):
        self.now += timedelta(days=days)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def gallery(path, model, clock):
    with Gallery.open(path, model, clock=clock) as opened:
        yield opened


def test_enrolled_people_are_recognised_and_strangers_are_not(gallery, walker):
    walks = {name: walker(4) for name in ("alice", "bob", "carol")}
    for name, walk in walks.items():
        assert gallery.enroll(name, walk[:3], consent="yes") == 3
    for name, walk in walks.items():
        decision = gallery.identify(walk[3], threshold=0.5)
        assert decision.name == decision.nearest == name
        assert decision.margin > 0
        assert decision.people == 3
        assert decision.runner_up in walks.keys() - {name}
    stranger = gallery.identify(walker(1), threshold=0.5)
    assert (stranger.name, stranger.reason) == (None, "nearest is too far")
    assert gallery.templates == 9


def test_enrolled_people_are_there_after_reopening(path, model, alice):
    with Gallery.open(path, model, create=False) as gallery:
        assert gallery.identify(alice[1], threshold=0.1).distance < 1e-3  # float16
    with Gallery.open(path) as gallery:  # identifying embeddings needs no model
        assert gallery.identify(alice[1], threshold=0.1).name == "alice"


def test_the_model_gives_the_threshold_of_a_small_gallery(path, model, alice):
    model.impostors = IMPOSTORS
    with Gallery.open(path, model) as gallery:
        decision = gallery.identify(alice[0], fpir=0.1)
        assert (decision.name, decision.threshold_source) == ("alice", "model")
        assert (decision.threshold, decision.fpir) == (pytest.approx(0.7), 0.1)
        assert "below the model's table" in gallery.identify(alice[0], fpir=1e-5).note


def test_the_gallery_gives_the_threshold_of_a_large_one(gallery, walker):
    for i in range(21):
        gallery.enroll(f"p{i}", walker(), consent="yes")
    decision = gallery.identify(walker(), fpir=0.1)
    assert (decision.threshold_source, decision.people) == ("gallery", 21)
    assert decision.threshold > 0


def test_without_calibration_everybody_is_unknown(gallery, alice):
    decision = gallery.identify(alice[0])
    assert (decision.name, decision.reason) == (None, "no calibration")
    assert (decision.threshold, decision.threshold_source) == (None, "none")
    assert (decision.nearest, decision.people) == ("alice", 1)


def test_an_empty_gallery_answers_unknown(gallery, walker):
    decision = gallery.identify(walker())
    assert (decision.name, decision.reason, decision.people) == (None, "gallery is empty", 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e6, 1e39])
def test_an_embedding_that_is_not_finite_neither_matches_nor_is_stored(gallery, alice, bad):
    walk = alice.astype(np.float64)
    walk[1, 2, 3] = bad
    decision = gallery.identify(walk, threshold=100.0)
    assert (decision.name, decision.reason) == (None, "embedding is not finite")
    with pytest.raises(DataError, match="not finite"):
        gallery.enroll("bob", walk, consent="yes")
    assert [person.name for person in gallery.people()] == ["alice"]


@pytest.mark.parametrize(
    ("option", "value"),
    [("fpir", value) for value in (0, 1, -0.1, 1.5, np.nan)]
    + [("threshold", value) for value in (0, -1, np.nan, np.inf)],
)
def test_a_rate_is_between_0_and_1_and_a_threshold_a_distance(gallery, walker, option, value):
    with pytest.raises(ConfigError, match=option):
        gallery.identify(walker(), **{option: value})


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((4,), "f4"), ((0, 4, 4), "f4"), ((4, 4), "u1"), ((4, 4), "i8"), ((1, 1), "U1")],
)
def test_arrays_of_another_form_are_refused(gallery, shape, dtype):
    with pytest.raises(DataError, match="expected embeddings"):
        gallery.identify(np.zeros(shape, dtype))


def test_silhouettes_are_encoded_in_windows(gallery, model, rng):
    walk = rng.integers(0, 256, (75, 64, 44), dtype=np.uint8)
    assert gallery.enroll("alice", walk, consent="yes") == 3
    assert model.shapes == [(3, 30, 64, 44)]
    assert gallery.identify(walk, threshold=0.1).name == "alice"


def test_windows_cover_a_walk():
    for frames in (15, 29, 30, 31, 60, 75, 1000):
        numbered = np.arange(frames, dtype=np.uint16)[:, None, None]
        windows = cut_windows(numbered)
        assert windows.shape[:2] == (-(-frames // 30), min(frames, 30))
        assert set(windows.ravel()) == set(range(frames))
        assert (np.diff(windows[:, :, 0, 0].astype(int)) == 1).all()


def test_too_few_usable_frames_are_refused_with_their_number(gallery):
    walk = np.full((40, 64, 44), 255, np.uint8)
    walk[:26] = 0
    with pytest.raises(DataError, match="14 usable frames of 40, need 15"):
        gallery.enroll("alice", walk, consent="yes")
    walk[25] = 255
    assert gallery.enroll("alice", walk, consent="yes") == 1


def test_enrolling_needs_the_model(path, walker):
    with Gallery.open(path) as gallery:
        with pytest.raises(GalleryError, match="open the gallery with model="):
            gallery.enroll("alice", walker(), consent="yes")
        with pytest.raises(GalleryError, match="silhouettes need a model"):
            gallery.identify(np.ones((30, 64, 44), np.uint8))


def test_models_are_not_mixed(path, model, other_model, walker):
    with Gallery.open(path, other_model) as early, Gallery.open(path, model) as gallery:
        gallery.enroll("alice", walker(), consent="yes")
        with pytest.raises(GalleryError, match="model aaaaaaaaaaaa, this is model bbbbbbbbbbbb"):
            early.enroll("bob", walker(), consent="yes")
        with pytest.raises(GalleryError, match="re-enroll, or use model aaaaaaaaaaaa"):
            early.identify(walker())
        with pytest.raises(GalleryError, match="re-enroll"):
            Gallery.open(path, other_model)
        gallery.remove("alice")
        early.enroll("bob", walker(), consent="yes")  # an empty gallery is nobody's


def test_dimensions_are_not_mixed(gallery, alice):
    for form in ((2, 4, 5), (5, 4)):
        with pytest.raises(GalleryError, match=r"4 x 4 \(parts x dimensions\), these"):
            gallery.enroll("bob", np.ones(form, np.float32), consent="yes")
        with pytest.raises(GalleryError, match="4 x 4"):
            gallery.identify(np.ones(form, np.float32))


def test_a_name_in_use_adds_to_that_person(gallery, walker, clock):
    gallery.enroll("Alice", walker(2), consent="first")
    clock.pass_days(1)
    gallery.enroll(" Alice ", walker(3), consent="second")
    for twin in ("alice", "ALICE", "\uff21lice"):
        with pytest.raises(GalleryError, match="'Alice' is enrolled already"):
            gallery.enroll(twin, walker(), consent="yes")
    alice = gallery.show("alice")
    assert (alice.templates, alice.consent) == (5, "second")
    assert [visit.consent for visit in alice.enrolments] == ["first", "second"]
    assert alice.created_utc == "2026-11-22T00:00:00Z"
    assert alice.weights_sha256 == "a" * 64


@pytest.mark.parametrize(
    "wrong", [{"name": "a\nb"}, {"name": "unknown"}, {"consent": " "}, {"retention_days": 0}]
)
def test_a_refused_enrolment_stores_nothing(gallery, walker, wrong):
    with pytest.raises(ConfigError):
        gallery.enroll(**{"name": "alice", "walk": walker(), "consent": "yes", **wrong})
    assert gallery.people() == ()
    assert gallery.templates == 0


def test_a_name_that_is_not_enrolled_is_refused(gallery):
    for method in (gallery.show, gallery.remove):
        with pytest.raises(GalleryError, match="nobody is enrolled as 'alice'"):
            method("alice")
        with pytest.raises(ConfigError):
            method("\ud800")


def test_a_removed_person_never_matches(gallery, alice, walker):
    gallery.enroll("bob", walker(), consent="yes")
    assert gallery.identify(alice, threshold=0.5).name == "alice"
    assert gallery.remove("ALICE") == 3
    assert gallery.identify(alice, threshold=0.5).name is None
    assert [person.name for person in gallery.people()] == ["bob"]
    assert gallery.templates == 3


def test_expired_people_never_match(gallery, walker, clock):
    walk = walker()
    gallery.enroll("alice", walk, consent="yes", retention_days=10)
    clock.pass_days(9.9)
    assert gallery.identify(walk, threshold=0.5).name == "alice"
    clock.pass_days(0.1)  # nobody has written: the clock alone ends it
    assert gallery.identify(walk, threshold=0.5).reason == "gallery is empty"
    assert gallery.show("alice").expired
    clock.pass_days(-1)  # and the clock, set right, brings it back
    assert gallery.identify(walk, threshold=0.5).name == "alice"


@pytest.mark.parametrize(
    "purges",  # days since the last one, and who is erased
    [
        [(0, ()), (10, ()), (0.9, ()), (0.1, ("alice",)), (0, ())],
        [*[(1000, ()), (-1000, ())] * 3, (10, ()), (1, ("alice",))],  # each return takes it back
        [(1000, ()), (-980, ()), (1, ("alice",))],  # the clock is right again: expired by now
    ],
    ids=["twice", "a clock that jumps ahead erases nobody", "a note from the future is no look"],
)
def test_a_purge_erases_only_what_an_earlier_one_noted(gallery, walker, clock, purges):
    gallery.enroll("alice", walker(), consent="yes", retention_days=10)
    gallery.enroll("bob", walker(), consent="yes")
    for days, erased in purges:
        clock.pass_days(days)
        assert gallery.purge() == erased
    assert [person.name for person in gallery.people()] == ["bob"]


def test_retention_is_renewed_only_explicitly(gallery, walker, clock):
    gallery.enroll("alice", walker(), consent="yes", retention_days=10)
    clock.pass_days(5)
    gallery.enroll("alice", walker(), consent="again")
    assert gallery.show("alice").expires_utc == "2026-12-02T00:00:00Z"
    clock.pass_days(5)
    gallery.purge()
    with pytest.raises(GalleryError, match="retention of 'alice' ended at 2026-12-02"):
        gallery.enroll("alice", walker(), consent="again")
    gallery.enroll("alice", walker(), consent="again", retention_days=30)
    clock.pass_days(2)
    assert gallery.purge() == ()
    assert not gallery.show("alice").expired


def test_a_live_thread_sees_what_another_connection_enrols(path, model, walker):
    walks = [walker(1) for _ in range(20)]
    seen, failures = [], []

    def watch(gallery, stop):
        try:
            while not stop.is_set() or len(seen) < 2:
                people = gallery.identify(walks[0], threshold=0.5).people
                if not seen or people != seen[-1]:
                    seen.append(people)
        except Exception as err:  # the test reports it
            failures.append(err)

    with Gallery.open(path, model) as live, Gallery.open(path, model) as desk:
        stop = threading.Event()
        thread = threading.Thread(target=watch, args=(live, stop))
        thread.start()
        for i, walk in enumerate(walks):
            desk.enroll(f"p{i}", walk, consent="yes")
            live.enroll(f"q{i}", walk + 9, consent="yes")
        stop.set()
        thread.join(30)
        assert not thread.is_alive()
        assert not failures
        assert live.identify(walks[19], threshold=0.5).people == 40
        assert live.identify(walks[19], threshold=0.5).name == "p19"
    assert seen == sorted(seen)


def test_a_closed_gallery_raises_gallery_error(path, model, walker):
    gallery = Gallery.open(path, model)
    gallery.close()
    gallery.close()
    with pytest.raises(GalleryError, match="open the gallery again"):
        gallery.people()
    with pytest.raises(GalleryError, match="open the gallery again"):
        gallery.enroll("alice", walker(), consent="yes")
