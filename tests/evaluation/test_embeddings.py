"""Distances in blocks: the same values, within the memory limit."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from cstl_edge.distance import EUCLIDEAN, Distance
from cstl_edge.evaluation.embeddings import (
    BLOCK_BYTES,
    LabelledEmbeddings,
    block_shape,
    distance_rows,
)

RNG = np.random.default_rng(0)


def labelled(embeddings):
    ids = np.zeros(len(embeddings), np.int64)
    return LabelledEmbeddings(embeddings, ids, ids.astype(str), ids)


def together(embeddings, probes, gallery, limit):
    blocks = list(distance_rows(labelled(embeddings), probes, gallery, limit))
    assert [rows.start for rows, _ in blocks] == [0, *(rows.stop for rows, _ in blocks[:-1])]
    return np.concatenate([block for _, block in blocks]), len(blocks)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_distance_blocks_equal_the_whole_matrix(dtype):
    embeddings = RNG.normal(size=(60, 3, 5)).astype(dtype)
    probes, gallery = np.split(RNG.permutation(60), [25])
    distance, blocks = together(embeddings, probes, gallery, 5000)
    assert blocks > 3
    exact = embeddings.astype(np.float64)
    expected = np.linalg.norm(exact[probes][:, None] - exact[gallery][None], axis=3).mean(2)
    assert np.allclose(distance, expected, atol=1e-5)


def test_float16_distances_are_computed_in_float32():
    """Squares of 300 are beyond float16."""
    a = np.full((1, 1, 2), 300, np.float16)
    assert EUCLIDEAN.pairwise(a, -a)[0, 0] == pytest.approx(600 * np.sqrt(2))


@pytest.mark.parametrize("distance", [EUCLIDEAN, Distance("cosine")])
def test_distance_blocks_stay_within_the_memory_limit(tmp_path, distance):
    """A mapped file of 13 MB, blocks of 1 MB."""
    path = tmp_path / "embeddings.npy"
    np.save(path, np.tile(RNG.normal(size=(1, 8, 1000)), (800, 1, 1)).astype(np.float16))
    mapped, limit = np.load(path, mmap_mode="r"), 2**20
    assert mapped.nbytes > 12 * limit
    tracemalloc.start()
    walks = replace(labelled(mapped), distance=distance)
    for _, block in distance_rows(walks, np.arange(40), np.arange(800), limit):
        assert block.shape[1] == 800
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < limit


@pytest.mark.parametrize("gallery", [4767, 66_739])  # of one view, and of all of them
def test_block_shape_of_ou_mvlp_fits_the_limit(gallery):
    """32 parts of 512 dimensions: 4.4 GB of float16 on disk, half a gigabyte at work."""
    assert 133_478 * 32 * 512 * 2 < 4.4e9
    rows, columns = block_shape(gallery, 32, 512)
    entry = 4 * 32 * 512 + 12 * 512
    assert rows * (entry + 8 * gallery) + columns * (entry + 12 * rows) <= BLOCK_BYTES
    assert rows >= 400  # else the gallery is read too often
    assert columns >= 400


def test_distance_to_itself_is_near_zero():
    """Cancellation in float32: 0 comes out as at most a thousandth of the embedding's length."""
    a = RNG.normal(size=(20, 2, 256)).astype(np.float32)
    assert np.diag(EUCLIDEAN.pairwise(a, a)).max() < 1e-3 * np.linalg.norm(a, axis=2).max()
