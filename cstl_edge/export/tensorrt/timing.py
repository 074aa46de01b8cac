"""Times of several plans of one graph on this GPU: with and without the plugin, int8 and fp16.

The compiler fuses the function body into its neighbours, which a plugin forbids; and int8 may cost
more in quantising than it saves. All plans are timed in turn, without CUDA graphs, by the GPU's
own clock.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np

from cstl_edge.arrays import Array
from cstl_edge.measure.stats import percentile
from cstl_edge.runtime.graph import Arrays, BoundGraph
from cstl_edge.runtime.tensorrt.encoder import detect_host, open_session
from cstl_edge.runtime.tensorrt.record import EngineRecord

ROUNDS = 5
RUNS_PER_ROUND = 20
SEED = 20211

Candidate = tuple[EngineRecord, bytes]
"""A plan with its record."""


def time_candidates(candidates: dict[str, Candidate], folder: Path) -> dict[str, float]:
    """Return the median time [ms] that the GPU computes each of several plans of one graph.

    Args:
        candidates: Plans with their records, by name; all of the same graph and profiles.
        folder: Exported model, for messages. ModelError where a plan does not open or run.
    """
    samples: dict[str, list[float]] = {name: [] for name in candidates}

    def compute_ms(graph: BoundGraph) -> float:
        stages = graph.run()
        assert stages is not None  # a session's graphs tell their stages
        return stages["compute"]

    with ExitStack() as stack:
        bound = {name: _bind(stack, *entry, folder) for name, entry in candidates.items()}
        for _ in range(ROUNDS):
            for name, graph in bound.items():
                samples[name] += [compute_ms(graph) for _ in range(RUNS_PER_ROUND)]
    return {name: percentile(times_ms, 50) for name, times_ms in samples.items()}


def _bind(stack: ExitStack, record: EngineRecord, plan: bytes, folder: Path) -> BoundGraph:
    """Open a plan for the shape that it is fastest for with many walkers; the stack closes it."""
    records: dict[str, EngineRecord] = {record.graph: record}
    session = open_session(detect_host(records, folder), {record.graph: plan}, records)
    stack.enter_context(closing(session))
    return session.bind(record.graph, _feed(record), cuda_graph=False)


def _feed(record: EngineRecord) -> Arrays:
    """Return inputs of the favourite shape for many walkers: `frames` has a profile for one too."""
    rng = np.random.default_rng(SEED)
    profile = record.profiles[-1 if record.graph == "frames" else 0]
    shapes = {name: sizes.opt for name, sizes in profile.items()}
    feed: dict[str, Array] = {}
    for name, shape in shapes.items():
        if name == "lengths":
            feed[name] = np.full(shape, record.window, np.int32)
        elif name == "silhouettes":
            feed[name] = rng.integers(0, 2, shape, dtype=np.uint8) * np.uint8(255)
        else:
            feed[name] = rng.random(shape, dtype=np.float32)
    return feed
