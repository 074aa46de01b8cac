"""Measure the part-gather kernel on a GPU: against torch, and against the bytes that must move.

    cstl-edge plugin build --kernel-only && python benchmarks/part_gather.py --out results.jsonl

Implementations, each a CUDA graph (so that no launch is counted) that runs after the L2 cache was
flushed: our kernel; `argmax` + `gather` in torch, which knows no lengths and does less than the
operator; the torch operator. The card's bandwidth is measured in the same run, by copies of 1 GiB
inside the card. Exits with 4 where there is no GPU.
"""

from __future__ import annotations

import argparse
import ctypes
import sys
from collections.abc import Callable
from typing import Any

from study import append_record, run_study, study_parser

from cstl_edge.errors import BackendUnavailable, CstlEdgeError
from cstl_edge.measure.stats import percentile, summary

SHAPES = {  # n, p, s, c of features [n, s, p, c]
    "one walker": (1, 16, 30, 64),
    "32 walkers": (32, 16, 30, 64),
    "paper, one walker": (1, 32, 30, 128),
    "paper, 32 walkers": (32, 32, 30, 128),
    "long": (16, 64, 720, 256),
}
COPY_BYTES = 2**30
FLUSH_BYTES = 2**28  # more than the L2 cache of any card
WARM_UP = 5


def bytes_that_must_move(shape: tuple[int, ...], number: int) -> int:
    """Return the bytes of scores, lengths, chosen features, salient and frames."""
    n, p, s, c = shape
    return n * p * (s + 2 * c) * number + 4 * n * p + 4 * n


def milliseconds(call: Callable[[], Any], flush: Any, repeats: int) -> list[float]:
    """Return the durations [ms] on the GPU of so many calls, the L2 cache flushed before each.

    Args:
        call: Work to time.
        flush: Tensor on the GPU, larger than the L2 cache.
        repeats: Number of timed calls.
    """
    import torch

    durations_ms = []
    for _ in range(repeats + WARM_UP):
        flush.zero_()
        start, end = (
            torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            for _ in range(2)
        )
        start.record()
        call()
        end.record()
        end.synchronize()
        durations_ms.append(start.elapsed_time(end))
    return durations_ms[WARM_UP:]


def recorded(call: Callable[[], Any]) -> Callable[[], Any]:
    """Return the replay of a call that was recorded into a CUDA graph."""
    import torch

    call()  # what is loaded or allocated at first use
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def bandwidth(flush: Any, repeats: int) -> float:
    """Return the bytes per second that the card reads and writes in a copy of its own."""
    import torch

    source = torch.zeros(COPY_BYTES, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    durations_ms = milliseconds(lambda: target.copy_(source), flush, repeats)
    return 2 * COPY_BYTES / percentile(durations_ms, 50) * 1e3


def timed_calls(library: Any, shape: tuple[int, ...], dtype: str) -> dict[str, Callable[[], Any]]:
    """Return what is timed, by name, on the same tensors; checks that all agree.

    Args:
        library: Loaded library of the kernel.
        shape: Sizes n, p, s and c of the features.
        dtype: Name of the type, a key of DTYPES.
    """
    import torch

    from cstl_edge.model import part_gather
    from cstl_edge.runtime.tensorrt.plugin import DTYPES, Dims

    n, p, s, c = shape
    kind = getattr(torch, dtype)
    features = torch.randn((n, s, p, c), device="cuda", dtype=kind)
    scores = torch.randn((n, p, s), device="cuda", dtype=kind)
    lengths = torch.full((n,), s, device="cuda", dtype=torch.int32)
    salient, frames = features.new_empty(n, p, c), lengths.new_empty(n, p)
    dims = Dims(n, p, s, c)

    def kernel() -> None:
        addresses = [x.data_ptr() for x in (features, scores, lengths, salient, frames)]
        stream = torch.cuda.current_stream().cuda_stream
        code = library.cstlPartGather(*addresses, ctypes.byref(dims), DTYPES[dtype], stream)
        if code:
            raise CstlEdgeError(library.cstlPartGatherError(code).decode())

    def plain() -> Any:
        best = scores.argmax(2)[:, None, :, None].expand(-1, 1, -1, c)  # [n, 1, p, c]
        return features.gather(1, best)

    kernel()
    expected = part_gather(features, scores, lengths)
    if not (torch.equal(salient, expected[0]) and torch.equal(frames, expected[1])):
        raise CstlEdgeError(f"the kernel differs from the torch operator at {shape} {dtype}")
    return {
        "kernel": kernel,
        "torch argmax + gather": plain,
        "torch operator": lambda: part_gather(features, scores, lengths),
    }


def measure(repeats: int) -> dict[str, Any]:
    """Time every implementation at every shape and type (BackendUnavailable without a GPU)."""
    try:
        import torch
    except ImportError as err:
        raise BackendUnavailable("expected torch with CUDA; found none") from err
    if not torch.cuda.is_available():
        raise BackendUnavailable(
            "expected an NVIDIA GPU that torch can use; found none, so nothing was measured"
        )
    from cstl_edge.runtime.tensorrt.plugin import find, load

    built = find()
    library = load(built)
    flush = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device="cuda")
    bytes_per_s = bandwidth(flush, repeats)
    rows = []
    for name, shape in SHAPES.items():
        for dtype, number in (("float16", 2), ("float32", 4)):
            calls = timed_calls(library, shape, dtype)
            raw_ms = {
                name: milliseconds(recorded(call), flush, repeats) for name, call in calls.items()
            }
            moved = bytes_that_must_move(shape, number)
            row = {"name": name, "shape": shape, "dtype": dtype, "bytes": moved}
            rows.append(row | {"least_ms": moved / bytes_per_s * 1e3, "raw_ms": raw_ms})
    return {
        "gpu": torch.cuda.get_device_name(),
        "cuda": built.cuda,
        "bandwidth_gb_per_s": bytes_per_s / 1e9,
        "rows": rows,
    }


def study(args: argparse.Namespace) -> None:
    """Measure, print medians, append the raw record."""
    record = measure(args.repeats)
    print(f"{record['gpu']}, {record['bandwidth_gb_per_s']:.0f} GB/s measured; medians in µs")
    for row in record["rows"]:
        p50 = {name: summary(raw_ms)["p50_ms"] * 1e3 for name, raw_ms in row["raw_ms"].items()}
        times = ", ".join(f"{name} {us:.1f}" for name, us in p50.items())
        print(f"  {row['name']} {row['dtype']}: {times}, bytes alone {row['least_ms'] * 1e3:.1f}")
    append_record(args.out, "part_gather", record)


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = study_parser(__doc__)
    parser.add_argument("--repeats", type=int, default=200)
    return run_study(parser, study, argv)


if __name__ == "__main__":
    sys.exit(main())
