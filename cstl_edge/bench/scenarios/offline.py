"""Scenario `offline`: throughput of whole sequences, as when people are enrolled.

A row per backend, precision, batch and length; silhouettes are there already, so neither video nor
segmentation is in it. Reported besides: how long the test half of CASIA-B would take, 5,485
sequences. How many frames those have is not known to us: a row states how many it assumes, windows
of 30 frames, and with --full whole walks of 90 too.

`values`, from the total time of the samples, since throughput is of all and not of the median:
`sequences_per_s`, `frames_per_s`
`sequences_per_core_minute`  on a CPU, by the threads used
`casia_b_test_minutes`       for all 5,485 sequences, on all threads
`best_batch`                 which batch gave most to this backend at this length

Rows `embed, N processes` are the verb's: silhouettes in files, a process a core, results written;
their time begins when the processes are warm.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cstl_edge.bench import inputs
from cstl_edge.bench.backends.base import Unavailable, cores_of
from cstl_edge.bench.backends.embedders import Embedder, embedders
from cstl_edge.bench.context import Context
from cstl_edge.bench.output_check import OutputCheck
from cstl_edge.bench.record import Case, Ran, Row
from cstl_edge.bench.scenarios.shared import WINDOW, fields_if_correct
from cstl_edge.bench.scenarios.streaming_cases import Reference, open_reference
from cstl_edge.errors import CstlEdgeError
from cstl_edge.live.archive.embed import BATCH, ArchiveOptions, open_encoder
from cstl_edge.live.archive.items import find_items
from cstl_edge.live.archive.processes import embed_by_processes
from cstl_edge.measure.timing import measure_interleaved
from cstl_edge.runtime.base import Embedded

CASIA_B_TEST = 5485
"""Sequences of the 50 test people that the field's toolbox finds (5,500 were recorded)."""
WALK = 90  # frames
WALKS, SHORT_WALKS = 480, 4  # in files, for the verb `embed`
SHORT_BATCHES, DEFAULT_BATCHES, FULL_BATCHES = (
    (2,),
    (1, 8),
    (1, 2, 4, 8, 16, 32),
)  # sequences of a batch
EMBED = (
    ("onnxruntime", "float32"),
    ("onnxruntime", "int8"),
    ("openvino", "float32"),
    ("openvino", "int8"),
)
"""Backends and precisions of the verb `embed`."""
LEAST_SAMPLES = 3  # a batch holds many sequences, so fewer calls do; never fewer than these


def rows(context: Context) -> Iterator[Row]:
    """Yield the rows of one backend after the other, its batches measured in turn."""
    lengths = (WINDOW, WALK) if context.full else (WINDOW,)
    with ExitStack() as stack:
        references = [
            stack.enter_context(open_reference(context, inputs.walk(s, context.model.size)[0]))
            for s in lengths
        ]
        for embedder in embedders(context):
            if isinstance(embedder, Unavailable):
                case = Case(graph="full")
                yield context.row("offline", embedder.name, case=case, skipped=embedder.reason)
                continue
            for reference in references:
                case = Case(graph="full", frames=len(reference.walk))
                context.progress(f"offline: {embedder.name}, {case.frames} frames")
                try:
                    yield from _one_length(context, embedder, reference, case)
                except CstlEdgeError as err:
                    yield context.row("offline", embedder.name, case=case, skipped=str(err))
    for backend, precision in EMBED:
        yield _by_processes(context, backend, precision)


def _by_processes(context: Context, backend: str, precision: str) -> Row:
    """Return the row of the verb `embed` on walks in files.

    Args:
        context: Context of the call.
        backend: Name of the backend.
        precision: As `load` takes it.
    """
    contender = f"embed, {context.threads} processes, {backend} {precision}"
    context.progress(f"offline: {contender}")
    case, count = Case(graph="full", frames=WINDOW), SHORT_WALKS if context.short else WALKS
    warm = 1 if context.short else 2 * context.threads * BATCH  # results before the time counts
    with tempfile.TemporaryDirectory() as folder:
        walk = np.ascontiguousarray(inputs.walk(WINDOW, context.model.size)[0])
        for number in range(count + warm):
            np.save(Path(folder) / f"{number}.npy", np.roll(walk, number, 0))
        options = ArchiveOptions(str(Path(folder) / "out"), str(context.folder), backend, precision)
        try:
            open_encoder(options).close()
        except CstlEdgeError as err:  # without OpenVINO, or such graphs
            return context.row("offline", contender, case=case, skipped=str(err))
        items, stamps = find_items([folder]), list[float]()
        for result in embed_by_processes(items, options, context.threads):
            if result.error is not None:
                return context.row("offline", contender, case=case, skipped=result.error)
            stamps.append(time.perf_counter())
    per_s = count / (stamps[-1] - stamps[warm - 1])
    values = {
        "sequences_per_s": per_s,
        "frames_per_s": per_s * WINDOW,
        "sequences_per_core_minute": 60 * per_s / context.threads,
    }
    return context.row("offline", contender, case=case, values=values, details={"walks": count})


def throughput(batch: int, frames: int, wall_ms: list[float], ran: Ran) -> dict[str, float]:
    """Return the figures of a batch.

    Args:
        batch: Number of sequences of a call.
        frames: Length of a sequence.
        wall_ms: Raw times of the calls [ms].
        ran: Record of the backend as it ran, for the cores it used.

    >>> ran = Ran(backend="", provider="cpu", precision="", computed_in="", version="", threads=2)
    >>> throughput(4, 30, [150.0, 250.0], ran)["sequences_per_core_minute"]
    600.0
    """
    per_s = 1e3 * batch * len(wall_ms) / sum(wall_ms)
    values = {
        "sequences_per_s": per_s,
        "frames_per_s": per_s * frames,
        "casia_b_test_minutes": CASIA_B_TEST / per_s / 60,
    }
    if cores := cores_of(ran):
        values["sequences_per_core_minute"] = 60 * per_s / cores
    return values


def _one_length(
    context: Context, embedder: Embedder, reference: Reference, case: Case
) -> Iterator[Row]:
    """Yield the batches of one backend at one length, those with wrong answers without times."""
    frames, size = len(reference.walk), context.model.size
    batches = FULL_BATCHES if context.full else SHORT_BATCHES if context.short else DEFAULT_BATCHES
    walks = {n: inputs.feed("full", n, frames, size)["silhouettes"] for n in batches}
    checks = {n: _check(reference, embedder, silhouettes) for n, silhouettes in walks.items()}

    def encode(silhouettes: Any) -> None:
        embedder.encoder.encode(silhouettes)

    timings = measure_interleaved(
        {str(n): partial(encode, walks[n]) for n in walks if checks[n].ok},
        warm_up_s=context.budget.warm_up_s,
        seconds=context.budget.seconds,
        samples=max(LEAST_SAMPLES, context.budget.samples // 3),
    )
    ran, shown = embedder.ran(), inputs.walk(frames, size)[1]
    figures = {
        int(n): throughput(int(n), frames, timing.samples["wall"], ran)
        for n, timing in timings.items()
        if timing.samples["wall"]
    }
    best = max(figures, key=lambda n: figures[n]["sequences_per_s"], default=None)
    for n, check in checks.items():
        values = figures.get(n, {}) | ({"best_batch": best} if best else {})
        timing = vars(timings[str(n)]) if check.ok else {}
        fields = fields_if_correct(check, values=values, **timing) | {
            "details": {"silhouettes": shown}
        }
        batch = case.model_copy(update={"batch": n})
        yield context.row("offline", embedder.name, case=batch, ran=ran, **fields)


def _check(reference: Reference, embedder: Embedder, silhouettes: Any) -> OutputCheck:
    """Compare every sequence of a batch, each a turn of the walk, with the reference."""
    answers = embedder.encoder.encode(silhouettes)
    output_check = reference.output_check(embedder.ran())
    for i, answer in enumerate(zip(*answers, strict=True)):
        reference.compare(output_check, i, Embedded(*answer))
    return output_check
