"""Indexes of made-up templates, for tests of matching."""

import numpy as np

from cstl_edge.gallery.index import TemplateIndex


def index_of(*people):
    """Build an index from one [k, p, d] per person."""
    counts = [len(person) for person in people]
    return TemplateIndex(
        names=tuple(f"p{i}" for i in range(len(people))),
        starts=np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.intp),
        templates=np.ascontiguousarray(np.concatenate(people).transpose(1, 2, 0), np.float32),
    )


def crowd(rng, people, parts=4, dimensions=8):
    return [rng.standard_normal((2, parts, dimensions)).astype(np.float32) for _ in range(people)]
