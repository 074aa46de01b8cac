"""Nearness to the limit: what this machine can do at most, what each graph needs at least.

Rows of three kinds, told apart by `details["kind"]`, all of scenario `roofline`:

`arithmetic`  a kernel's rate. `values`: `gmacs_per_s` (10^9 multiply-adds per second; twice that is
              GFLOP/s). `details`: `precision` (float32, tfloat32, float16, bfloat16, int8),
              `device` (`cpu` or `gpu`), `kernel`. `contender`: `peak float32: openvino product`.
`bandwidth`   a copy's rate. `values`: `gbytes_per_s` (read and written bytes both count) and
              `megabytes` (all that it goes over). `details`: `device`, `kernel`, `level` (`memory`,
              `l3` or `l2`, the nearest that holds it), `capacity_bytes` of the level.
`cost`        a graph's need. `case`: graph, batch and frames, as in the rows of times. `values`:
              `gmacs`, `gmacs_float32`, `gmacs_int8`, ... (by the type that the file multiplies),
              `gbytes` (inputs, weights and outputs once: the least), `gbytes_weights` (of them) and
              `gbytes_between` (tensors between nodes if none were fused). `details`: `precision`
              (float32, float16, int8: of the file). `contender`: `cost float32`. A few cases only:
              costs are linear in batch and batch times frames, so `limits.Limits` knows the rest.

`limits.Limits` lays rows of times against them; the picture is drawn from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from cstl_edge.bench.context import Context
from cstl_edge.bench.model_under_test import PRECISION_NAMES, read_export, with_random_weights
from cstl_edge.bench.record import Case, Row
from cstl_edge.bench.roofline.kernel import ROUNDS, Kernel, measure_kernel
from cstl_edge.bench.roofline.op_count import Cost, compose, count_cost
from cstl_edge.bench.roofline.peaks import kernels
from cstl_edge.bench.scenarios.graph import SIZES
from cstl_edge.errors import CstlEdgeError, one_line
from cstl_edge.runtime.manifest import Manifest

WINDOW = 30
CASES = {
    "frames": ((1, None), (2, None)),
    "head": ((1, WINDOW), (2, WINDOW), (1, 2 * WINDOW)),
    "full": ((1, WINDOW), (2, WINDOW), (1, 2 * WINDOW)),
}
"""Batch and frames: as few as tell how a cost grows."""
KERNEL_SHARE = 0.3
"""Of the seconds of a row: there are about fifteen kernels."""


def rows(context: Context) -> Iterator[Row]:
    """Yield the peaks of this machine, then the costs of the exported graphs."""
    for kernel in kernels(context.threads):
        context.tell(f"roofline: {kernel.name}, {kernel.precision}")
        yield _peak(context, kernel)
    yield from _of_model(context)
    if context.full:  # `graph` runs the other size of silhouettes then
        other = next(size for size in SIZES if size != context.subject.size)
        yield from _of_model(with_random_weights(context, other))


def _of_model(context: Context) -> Iterator[Row]:
    manifest, graphs = read_export(context.folder)
    for name, precision in PRECISION_NAMES.items():
        if name == "float32" or name in manifest.precisions:
            yield from _costs(context, manifest, graphs, name, precision)


def _peak(context: Context, kernel: Kernel) -> Row:
    """Measure a kernel; where this machine cannot, its row says why."""
    what = kernel.precision if kernel.kind == "arithmetic" else "bandwidth"
    row = Row(
        run=context.run,
        scenario="roofline",
        contender=f"peak {what}: {kernel.name}",
        ran=kernel.ran,
        details={
            "kind": kernel.kind,
            "device": kernel.device,
            "kernel": kernel.name,
            **({"precision": kernel.precision} if kernel.kind == "arithmetic" else kernel.details),
        },
        environment=context.environment,
    )
    try:
        seconds = KERNEL_SHARE * context.budget.seconds
        peak = measure_kernel(kernel, seconds, 1 if context.short else ROUNDS)
    except (ImportError, RuntimeError, CstlEdgeError) as err:
        return row.model_copy(update={"skipped": one_line(err) or type(err).__name__})
    if kernel.kind == "arithmetic":
        values = {"gmacs_per_s": peak.rate}
    else:
        values = {"gbytes_per_s": peak.rate, "megabytes": kernel.details["bytes"] / 1e6}
    told = {"dropped": peak.dropped, "conditions": peak.conditions, "values": values}
    return row.model_copy(update={"samples": {"wall": peak.samples_ms}, **told})


def _costs(
    context: Context, manifest: Manifest, graphs: dict[str, bytes], name: str, precision: str
) -> Iterator[Row]:
    """Count the graphs of one precision; `full` is counted as `frames`, then `head`."""
    import onnx

    files = dict(zip(("frames", "head"), manifest.graphs(name, "onnxruntime"), strict=True))
    models = {graph: onnx.load_model_from_string(graphs[file]) for graph, file in files.items()}
    shape = manifest.shape
    features = (shape.parts, shape.channels)

    @cache
    def cost(graph: str, batch: int, frames: int | None) -> Cost:
        if graph == "frames":
            return count_cost(models["frames"], {"silhouettes": (batch, *shape.size)})
        assert frames is not None
        sizes = {"features": (batch, frames, *features), "lengths": (batch,)}
        head = count_cost(models["head"], sizes)
        return head if graph == "head" else compose(cost("frames", batch * frames, None), head)

    for graph, cases in CASES.items():
        for batch, frames in cases:
            case = Case(graph=graph, batch=batch, frames=frames)  # type: ignore[arg-type]
            yield Row(
                run=context.run,
                scenario="roofline",
                contender=f"cost {precision}",
                subject=context.subject,
                case=case,
                values=_values(cost(graph, batch, frames)),
                details={"kind": "cost", "precision": precision},
                environment=context.environment,
            )


def _values(cost: Cost) -> dict[str, Any]:
    return {
        "gmacs": cost.total_macs / 1e9,
        **{f"gmacs_{kind}": macs / 1e9 for kind, macs in cost.macs.items()},
        "gbytes": cost.least_bytes / 1e9,
        "gbytes_weights": cost.weight_bytes / 1e9,
        "gbytes_between": cost.intermediate_bytes / 1e9,
    }
