"""Protocols and metrics of gait recognition in numpy, for any encoder.

`heldout` says whom to test, `embed` makes their embeddings, `evaluate` the figures of a protocol,
`tables` prints them; `cstl-edge eval` is all four. What this page names needs embeddings alone:
rank-1 on Walkers, intervals and comparisons over people, and the table of impostor thresholds that
travels with a model. Letters: `m` sequences, `s` frames, `p` parts, `d` embedding dimensions.
"""

from cstl_edge.evaluation.closed_set import rank1, rank1_hits, rank1_table
from cstl_edge.evaluation.distance import part_mean_distance
from cstl_edge.evaluation.impostors import FPIR, SIZES, WALKS, impostor_table, open_set
from cstl_edge.evaluation.intervals import Comparison, bootstrap, by_person, compare
from cstl_edge.evaluation.walks import GALLERY, PROBES, Bools, Floats, Walks, gait_energy

__all__ = [
    "FPIR",
    "GALLERY",
    "PROBES",
    "SIZES",
    "WALKS",
    "Bools",
    "Comparison",
    "Floats",
    "Walks",
    "bootstrap",
    "by_person",
    "compare",
    "gait_energy",
    "impostor_table",
    "open_set",
    "part_mean_distance",
    "rank1",
    "rank1_hits",
    "rank1_table",
]
