"""The study of enrolment from several walks compares as a gallery does."""

from dataclasses import replace

import numpy as np
from enrolled_walks import distances_between, figures
from identification import Walk

from cstl_edge.distance import Distance
from cstl_edge.gallery.index import TemplateIndex, indexed

DISTANCE = Distance("cosine", fused_walks=2)


def made_walks(people=8, walks=5, noise=0.0):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(people, 1, 4, 8))
    return [
        Walk(f"p{i}", "", 0.0, np.asarray(centres[i] + noise * rng.normal(size=(n, 4, 8)), "f4"))
        for i in range(people)
        for n in rng.integers(1, 4, walks)
    ]


def test_distances_are_those_of_a_gallery():
    walks = made_walks(noise=1.0)
    entries = walks[5:8]  # of one person
    counts = [len(walk.windows) for walk in entries]
    index = TemplateIndex(
        ("p1",),
        np.array([0]),
        np.concatenate([walk.windows for walk in entries]).transpose(1, 2, 0).copy(),
        np.cumsum([0, *counts[:-1]]),
    )
    centre = np.mean([walk.windows.mean(axis=0) for walk in walks], axis=0).astype(np.float32)
    index = indexed(index, DISTANCE).centred([centre])
    query = DISTANCE.project(walks[0].windows.mean(axis=0)[None], centre)
    found = distances_between(walks, DISTANCE).to_people(1, np.array([0]), np.array([[5, 6, 7]]))
    np.testing.assert_allclose(found, index.person_distances(query)[0], atol=1e-5)


def test_people_without_noise_are_all_named_and_with_much_fusion_helps():
    walks = made_walks()
    found = figures(walks, distances_between(walks, DISTANCE), 2, draws=5)
    assert found == {"rank1": 1.0, "fnir_0.01": 0.0, "fnir_0.1": 0.0}
    walks = made_walks(people=30, walks=8, noise=2.0)
    alone = figures(walks, distances_between(walks, replace(DISTANCE, fused_walks=0)), 4, draws=20)
    fused = figures(walks, distances_between(walks, replace(DISTANCE, fused_walks=4)), 4, draws=20)
    assert fused["rank1"] > alone["rank1"] + 0.02
    assert fused["fnir_0.1"] < alone["fnir_0.1"]
