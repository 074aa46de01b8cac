"""Table of scenarios by name, in the order in which they run.

To add one, write a module with a function `rows(context: Context) -> Iterator[Row]` and add a line
here.
"""

from __future__ import annotations

from cstl_edge.registry import Entry, Registry

SCENARIOS = Registry(
    "scenario",
    {
        "roofline": Entry("cstl_edge.bench.scenarios.roofline:rows", "limits of this machine"),
        "graph": Entry("cstl_edge.bench.scenarios.graph:rows", "latency of the graphs"),
        "single": Entry("cstl_edge.bench.scenarios.single:rows", "one more frame of one walker"),
        "multi": Entry("cstl_edge.bench.scenarios.multi:rows", "walkers at a camera's pace"),
        "offline": Entry("cstl_edge.bench.scenarios.offline:rows", "throughput of sequences"),
        "end_to_end": Entry("cstl_edge.bench.scenarios.end_to_end:rows", "camera to event"),
        "segment": Entry("cstl_edge.bench.scenarios.segment:rows", "finding and masking people"),
        "cold_start": Entry("cstl_edge.bench.scenarios.cold_start:rows", "identify from cold"),
        "accuracy": Entry("cstl_edge.bench.scenarios.accuracy:rows", "rank-1 and FNIR"),
        "gallery": Entry("cstl_edge.bench.scenarios.gallery:rows", "search among templates"),
        "power": Entry("cstl_edge.bench.scenarios.power:rows", "joules per embedding"),
    },
)
