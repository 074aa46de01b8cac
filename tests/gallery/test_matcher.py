"""Means of cameras in matching: who counts, how often, and what it changes."""

import numpy as np
import pytest
from gallery_index import index_of

from cstl_edge.distance import Distance, blended_mean, whitening_of
from cstl_edge.gallery.crowds import crowds, means_of_people
from cstl_edge.gallery.gallery import Gallery
from cstl_edge.gallery.match import SeenWalk
from cstl_edge.gallery.matcher import LEAST_DEGREES, UNNAMED
from cstl_edge.gallery.records import WalkOrigin

PARTS, DIMENSIONS = 4, 4


@pytest.fixture
def model(model, rng):
    """Make the stand-in compare by cosine, with statistics of made-up people."""
    people = np.repeat(np.arange(30), 4)
    sample = rng.normal(size=(30, 1, PARTS, DIMENSIONS)).repeat(4, axis=1).reshape(120, PARTS, -1)
    sample = sample + 0.2 * rng.normal(size=sample.shape)
    mean = np.zeros((PARTS, DIMENSIONS), np.float32)
    model.distance = Distance("cosine", None, mean, whitening_of(sample, people))
    return model


@pytest.fixture
def person(rng):
    """Make a person: a function of a camera's offset that returns a walk [3, p, d]."""

    def make():
        own = rng.normal(size=(1, PARTS, DIMENSIONS))

        def walk(offset=0.0):
            noise = 0.1 * rng.normal(size=(3, PARTS, DIMENSIONS))
            return (own + noise + offset).astype(np.float32)

        return walk

    return make


def enrolled(path, model, people, offset, camera):
    gallery = Gallery.open(path, model)
    for number, walk in enumerate(people):
        origin = WalkOrigin(camera=camera)
        gallery.enroll(f"p{number}", walk(offset), consent="yes", origin=origin)
    return gallery


def test_each_side_is_centred_by_its_own_camera(path, model, person):
    """Two cameras that shift embeddings apart: without their means nobody is near."""
    people = [person() for _ in range(6)]
    with enrolled(path, model, people, 1.0, "street") as gallery:
        before = gallery.distances(people[0](-1.0), camera="door")
        for walk in people:
            gallery.learn(walk(-1.0), "door")
        after = gallery.distances(people[0](-1.0), camera="door")
        assert after["p0"] < min(0.35, before["p0"] - 0.1)
        assert min(after, key=after.get) == "p0"
        assert min(d for name, d in after.items() if name != "p0") > after["p0"] + 0.1
        assert gallery.identify(people[0](-1.0), threshold=0.4, camera="door").name == "p0"


def test_distances_are_those_of_the_definition(path, model, person):
    people = [person() for _ in range(4)]
    with enrolled(path, model, people, 1.0, None) as gallery:
        templates = list(_templates(gallery))
        own = np.mean([walk.mean(axis=0) for walk in templates], axis=0, dtype=np.float32)
        prior = blended_mean(own, 4, model.distance.mean)  # of all cameras, which is this one
        mean = blended_mean(own, 4, prior)
        query = people[2](1.0)
        found = gallery.distances(query)
    for name, own in zip(found, templates, strict=True):
        entries = np.concatenate([own, own.mean(axis=0, keepdims=True)])
        expected = model.distance.pairwise(query.mean(axis=0, keepdims=True), entries, mean).min()
        assert found[name] == pytest.approx(expected, abs=1e-4)


def _templates(gallery):
    """Return the templates of every person, before they are searched."""
    snapshot = gallery._store.load()
    ends = [*snapshot.index.starts[1:], snapshot.index.templates.shape[2]]
    for start, end in zip(snapshot.index.starts, ends, strict=True):
        yield snapshot.index.templates[:, :, start:end].transpose(2, 0, 1)


def test_a_walk_counts_once_however_often_it_is_identified(path, model, person):
    people = [person() for _ in range(4)]
    with enrolled(path, model, people, 0.0, "street") as gallery:
        walk = person()(0.0)
        for windows in (1, 2, 3):
            gallery.identify(walk[:windows], threshold=0.01, camera="door")
        gallery.identify(person()(0.0), threshold=0.01, camera="door")
        assert gallery.camera_means.load("door", model.weights_sha256).people == 2


def test_somebody_who_is_named_counts_once_and_not_where_they_were_enrolled(path, model, person):
    people = [person() for _ in range(4)]
    with enrolled(path, model, people, 0.0, "street") as gallery:
        for _ in range(3):
            assert gallery.identify(people[1](), threshold=0.3, camera="street").name == "p1"
        assert gallery.camera_means.load("street", model.weights_sha256) is None
        for _ in range(3):
            assert gallery.identify(people[1](), threshold=0.3, camera="door").name == "p1"
        assert gallery.camera_means.load("door", model.weights_sha256).people == 1


def test_without_names_two_cameras_are_told_apart_by_those_who_walk_by(path, model, person):
    """As near to their own person as with names; those who walked by are not stored."""
    people = [person() for _ in range(12)]
    with enrolled(path, model, people, 2.0, None) as gallery:
        before = gallery.distances(people[0](-2.0))
        for walk in people[1:]:
            gallery.identify(walk(-2.0), threshold=0.01)
        after = gallery.distances(people[0](-2.0))
        for walk in people[1:]:
            gallery.learn(walk(-2.0), "door")
        named = gallery.distances(people[0](-2.0), camera="door")
        assert after["p0"] < 0.5 * before["p0"]
        assert min(after, key=after.get) == "p0"
        assert after["p0"] == pytest.approx(named["p0"], abs=0.05)
    with Gallery.open(path, model) as again:
        assert [mean.camera for mean in again.camera_means.all()] == ["door"]


def test_without_names_one_camera_stays_one(path, model, person):
    """What differs by chance alone is joined: every walk is centred by the same mean."""
    people = [person() for _ in range(6)]
    with enrolled(path, model, people, 1.0, None) as gallery:
        for walk in [person() for _ in range(6)]:
            gallery.identify(walk(1.0), threshold=0.2)
        matcher = gallery._matcher
        assert matcher._centre(UNNAMED, passing=True) is not None
        np.testing.assert_array_equal(
            matcher._centre(UNNAMED, passing=True), matcher._centre(UNNAMED, passing=False)
        )


def test_nothing_is_learned_without_a_camera_or_when_told_so(path, model, person):
    people = [person() for _ in range(3)]
    with enrolled(path, model, people, 0.0, "street") as gallery:
        first = gallery.identify(people[0](), threshold=0.3)
        gallery.identify(people[0](), threshold=0.3, camera="door", learn=False)
        assert first.name == "p0"
        assert gallery.camera_means.all() == ()


def test_means_outlive_the_process(path, model, person):
    people = [person() for _ in range(5)]
    with enrolled(path, model, people, 1.0, "street") as gallery:
        for walk in people:
            gallery.learn(walk(-1.0), "door")
    with Gallery.open(path, model) as again:
        assert again.distances(people[3](-1.0), camera="door")["p3"] < 0.25


def test_whitening_follows_the_own_walkers_once_there_are_enough(path, model, person, rng):
    people = [person() for _ in range(3)]
    with enrolled(path, model, people, 0.0, "street") as gallery:
        before = gallery.distances(people[0](), camera="street")
        spread = np.array([3.0, 0.1, 0.1, 0.1])
        for _ in range(20):
            noise = rng.normal(size=(3, PARTS, DIMENSIONS)) * spread
            gallery.learn((person()() + noise).astype(np.float32), "street")
        for _ in range(2):  # the first sees that there are enough, the second reads templates anew
            gallery.identify(people[0](), threshold=0.5)
        assert gallery._matcher._adapted_by >= LEAST_DEGREES
        index = gallery._matcher._index
        assert index.distance.whitening[0, 0, 0] < 0.8 * model.distance.whitening[0, 0, 0]
        assert before.keys() == gallery.distances(people[0](), camera="street").keys()


def test_a_walk_of_many_windows_is_searched_by_its_mean(path, model, person):
    people = [person() for _ in range(4)]
    with enrolled(path, model, people, 0.0, "street") as gallery:
        walk = people[0]()
        mean = walk.mean(axis=0)
        long = SeenWalk(walk[:1] + 9, mean, seen=12)
        assert gallery.distances(long) == gallery.distances(SeenWalk(walk, mean, seen=1))


def test_people_of_a_camera_count_once_however_many_walks_they_have(rng):
    one, other = rng.normal(size=(2, 2, 3)).astype(np.float32)
    index = index_of(np.stack([one] * 5), other[None])
    index = type(index)(
        index.names, index.starts, index.templates, np.array([0, 2, 5]), ("a", "a", "a")
    )
    crowd = crowds(means_of_people(index))["a"]
    assert crowd.people == 2
    np.testing.assert_allclose(crowd.mean, (one + other) / 2, rtol=1e-5)


def test_walks_without_a_camera_are_those_of_one(path, model, person):
    with enrolled(path, model, [person() for _ in range(3)], 0.0, None) as gallery:
        gallery.identify(person()(), threshold=0.01)
        assert set(gallery._matcher._enrolled) == {UNNAMED}
