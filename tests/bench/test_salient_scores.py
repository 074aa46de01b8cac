"""Scores of an export: they rank the frame that its head names first, in every window."""

import numpy as np
from golden_export import GOLDEN

from cstl_edge.bench.salient_scores import salient_scores
from cstl_edge.numerics import random_blocks
from cstl_edge.runtime import load


def test_the_best_score_is_the_salient_frame():
    encoder, scores = load(GOLDEN / "tiny", threads=1), salient_scores(GOLDEN / "tiny")
    silhouettes = random_blocks(np.random.default_rng(0), 3, 7, encoder.info.size)
    embedded, found = encoder.encode(silhouettes), scores.of_silhouettes(silhouettes)
    assert found.shape == (3, encoder.info.parts, 7)
    np.testing.assert_array_equal(found.argmax(2), embedded.salient_frames)
    features = np.stack([encoder.frames(walk) for walk in silhouettes])
    np.testing.assert_allclose(scores.of_windows(features), found, rtol=1e-5, atol=1e-6)
