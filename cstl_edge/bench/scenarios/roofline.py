"""Scenario `roofline`: the most that this machine computes, the least that each graph needs.

Rows of three kinds, distinguished by `details["kind"]`, all of scenario `roofline`:

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
              costs are linear in batch and batch times frames, so `limits.MachineLimits` derives
              the rest.

`limits.MachineLimits` compares rows of times with them; the roofline picture is drawn from it.
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
from cstl_edge.bench.scenarios.shared import WINDOW, other_size
from cstl_edge.errors import CstlEdgeError, one_line
from cstl_edge.runtime.manifest import Manifest

CASES = {
    "frames": ((1, None), (2, None)),
    "head": ((1, WINDOW), (2, WINDOW), (1, 2 * WINDOW)),
    "full": ((1, WINDOW), (2, WINDOW), (1, 2 * WINDOW)),
}
"""Batch and frames: as few as determine how a cost grows."""
KERNEL_SHARE = 0.3  # of the seconds of a row: there are about fifteen kernels


def rows(context: Context) -> Iterator[Row]:
    """Yield the peaks of this machine, then the costs of the exported graphs."""
    for kernel in kernels(context.threads):
        context.progress(f"roofline: {kernel.name}, {kernel.precision}")
        yield _peak(context, kernel)
    yield from _of_model(context)
    if context.full:  # `graph` runs the other size of silhouettes then
        yield from _of_model(with_random_weights(context, other_size(context)))


def _of_model(context: Context) -> Iterator[Row]:
    manifest, graphs = read_export(context.folder)
    for name, precision in PRECISION_NAMES.items():
        if name == "float32" or name in manifest.precisions:
            yield from _costs(context, manifest, graphs, name, precision)


def _peak(context: Context, kernel: Kernel) -> Row:
    """Measure a kernel; where this machine cannot, its row has the reason."""
    arithmetic = kernel.kind == "arithmetic"
    what = kernel.precision if arithmetic else "bandwidth"
    details = {"kind": kernel.kind, "device": kernel.device, "kernel": kernel.name}
    details |= {"precision": kernel.precision} if arithmetic else kernel.details
    fields: dict[str, Any] = {"ran": kernel.ran, "details": details}
    fields["subject"] = None  # of the machine, whatever the network
    try:
        seconds = KERNEL_SHARE * context.budget.seconds
        peak = measure_kernel(kernel, seconds, 1 if context.short else ROUNDS)
    except (ImportError, RuntimeError, CstlEdgeError) as err:
        fields["skipped"] = one_line(err) or type(err).__name__
    else:
        values = {"gmacs_per_s" if arithmetic else "gbytes_per_s": peak.rate}
        values |= {} if arithmetic else {"megabytes": kernel.details["bytes"] / 1e6}
        fields |= {"values": values, "samples": {"wall": peak.samples_ms}}
        fields |= {"dropped": peak.dropped, "conditions": peak.conditions}
    return context.row("roofline", f"peak {what}: {kernel.name}", **fields)


def _costs(
    context: Context, manifest: Manifest, graphs: dict[str, bytes], name: str, precision: str
) -> Iterator[Row]:
    """Count the graphs of one precision; `full` is counted as `frames`, then `head`.

    name, precision: as the manifest and as the results name it
    """
    import onnx

    files = dict(zip(("frames", "head"), manifest.graphs(name, "onnxruntime"), strict=True))
    models = {graph: onnx.load_model_from_string(graphs[file]) for graph, file in files.items()}
    shape = manifest.shape

    @cache
    def cost(graph: str, batch: int, frames: int | None) -> Cost:
        if graph == "frames":
            return count_cost(models["frames"], {"silhouettes": (batch, *shape.size)})
        assert frames is not None
        features = (batch, frames, shape.parts, shape.channels)
        head = count_cost(models["head"], {"features": features, "lengths": (batch,)})
        return head if graph == "head" else compose(cost("frames", batch * frames, None), head)

    for graph, cases in CASES.items():
        for batch, frames in cases:
            yield context.row(
                "roofline",
                f"cost {precision}",
                case=Case(graph=graph, batch=batch, frames=frames),  # type: ignore[arg-type]
                values=_values(cost(graph, batch, frames)),
                details={"kind": "cost", "precision": precision},
            )


def _values(cost: Cost) -> dict[str, Any]:
    return {
        "gmacs": cost.total_macs / 1e9,
        **{f"gmacs_{kind}": macs / 1e9 for kind, macs in cost.macs.items()},
        "gbytes": cost.least_bytes / 1e9,
        "gbytes_weights": cost.weight_bytes / 1e9,
        "gbytes_between": cost.intermediate_bytes / 1e9,
    }
