"""Protocols and metrics of gait recognition in numpy, for any encoder.

Closed set: rank-1 in the CASIA-B protocol (gallery nm-01..04, probes nm-05/06, bg, cl, every pair
of views). Open set: FNIR at a wanted FPIR, and the table of impostor thresholds by gallery size
that travels with a model. Letters: `m` sequences, `s` frames, `p` parts, `d` embedding dimensions.
"""

from cstl_edge.evaluation.closed_set import rank1, rank1_hits, rank1_table
from cstl_edge.evaluation.distance import part_mean_distance
from cstl_edge.evaluation.impostors import FPIR, SIZES, WALKS, impostor_table, open_set
from cstl_edge.evaluation.intervals import bootstrap, by_person
from cstl_edge.evaluation.walks import GALLERY, PROBES, Bools, Floats, Walks, gait_energy

__all__ = [
    "FPIR",
    "GALLERY",
    "PROBES",
    "SIZES",
    "WALKS",
    "Bools",
    "Floats",
    "Walks",
    "bootstrap",
    "by_person",
    "gait_energy",
    "impostor_table",
    "open_set",
    "part_mean_distance",
    "rank1",
    "rank1_hits",
    "rank1_table",
]
