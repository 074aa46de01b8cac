"""The most that this machine gives, measured: arithmetic by precision, bandwidth by cache.

A limit has to hold for every runtime, so each precision is tried with several kernels (products of
large matrices and convolutions of every library that is installed), and the best one is the peak.
A kernel's rate is that of its best round's median: never of its fastest call.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cstl_edge.bench.layers import (
    CONVOLUTION,
    CONVOLUTION_MACS,
    DEPTH,
    PRODUCT,
    PRODUCT_MACS,
    convolution,
    inputs_of,
    product,
)
from cstl_edge.bench.record import Ran
from cstl_edge.errors import CstlEdgeError
from cstl_edge.measure import percentile
from cstl_edge.measure.timing import measure

log = logging.getLogger(__name__)

ROUNDS = 3
FEWEST = 3  # calls of a round

Make = Callable[[str, str, int], Callable[[], Any]]
"""From operation, precision and threads to a call."""


@dataclass(frozen=True)
class Kernel:
    """Something whose work is known, to be timed."""

    kind: Literal["arithmetic", "bandwidth"]
    device: Literal["cpu", "gpu"]
    name: str
    """Library and operation."""
    precision: str
    work: float
    """Multiply-adds or bytes of one call."""
    ran: Ran
    prepare: Callable[[], Callable[[], Any]]
    """Returns the call; ImportError or RuntimeError where this machine cannot."""
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Peak:
    """What a kernel reached."""

    rate: float
    """10^9 multiply-adds or bytes per second."""
    samples_ms: list[float]
    dropped: dict[str, int]
    conditions: dict[str, Any]
    """Of the last round."""


def measure_kernel(kernel: Kernel, seconds: float, rounds: int = ROUNDS) -> Peak:
    """Time a kernel for about `seconds` (ImportError, RuntimeError)."""
    call = kernel.prepare()

    def run() -> None:
        call()

    each_s = seconds / rounds
    taken = [measure(run, warm_up_s=0, seconds=each_s, samples=FEWEST) for _ in range(rounds)]
    medians = [percentile(one.samples["wall"], 50) for one in taken if one.samples["wall"]]
    if not medians:
        raise RuntimeError("the machine was throttled all the time")
    return Peak(
        rate=kernel.work / min(medians) / 1e6,
        samples_ms=[ms for one in taken for ms in one.samples["wall"]],
        dropped=dict(sum((Counter(one.dropped) for one in taken), Counter())),
        conditions=taken[-1].conditions,
    )


def best_arithmetic(threads: int, device: str, seconds: float) -> dict[str, float]:
    """Return the peak by precision [10^9 multiply-adds per second] of `device`, cpu or gpu.

    seconds: per kernel; precisions that no installed library computes here are absent
    """
    best: dict[str, float] = {}
    for kernel in kernels(threads):
        if (kernel.kind, kernel.device) != ("arithmetic", device):
            continue
        try:
            rate = measure_kernel(kernel, seconds).rate
        except (ImportError, RuntimeError, CstlEdgeError) as err:
            log.debug("%s: %s", kernel.name, err)
            continue
        best[kernel.precision] = max(rate, best.get(kernel.precision, 0.0))
    return best


def kernels(threads: int, root: Path = Path("/")) -> Iterator[Kernel]:
    """Yield every kernel of every library for `threads`, whether or not it is installed."""
    from cstl_edge.bench.peaks_cuda import cuda_kernels
    from cstl_edge.bench.peaks_memory import copies

    yield from copies(threads, root)
    for library, (make, known) in LIBRARIES.items():
        for operation, precisions in known.items():
            for precision in precisions:
                yield _cpu(library, operation, precision, threads, make)
    yield from cuda_kernels()


def version(package: str) -> str:
    """Return a package's version, or that it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _cpu(library: str, operation: str, precision: str, threads: int, make: Make) -> Kernel:
    ran = Ran(
        backend=library.replace("torch", "pytorch"),
        provider="cpu",
        precision=precision,
        computed_in=precision,
        version=version(library),
        threads=threads,
    )
    macs = CONVOLUTION_MACS if operation == "convolution" else PRODUCT_MACS
    prepare = partial(make, operation, precision, threads)
    return Kernel("arithmetic", "cpu", f"{library} {operation}", precision, macs, ran, prepare)


def _numpy(operation: str, precision: str, threads: int) -> Callable[[], Any]:
    from threadpoolctl import threadpool_limits

    a, b = (np.random.default_rng(i).random((PRODUCT, PRODUCT), np.float32) for i in range(2))

    def call() -> None:
        with threadpool_limits(threads, user_api="blas"):
            a @ b

    return call


def _onnxruntime(operation: str, precision: str, threads: int) -> Callable[[], Any]:
    from cstl_edge.runtime.ort import open_session

    model = product(precision) if operation == "product" else convolution(precision)
    session = open_session(operation, model.SerializeToString(), threads)
    return partial(session.run, None, inputs_of(model))


def _openvino(operation: str, precision: str, threads: int) -> Callable[[], Any]:
    import openvino as ov

    core = ov.Core()
    if precision == "bfloat16" and "BF16" not in core.get_property(
        "CPU", "OPTIMIZATION_CAPABILITIES"
    ):
        raise RuntimeError("this processor has no bfloat16 instructions")
    held = "int8" if precision == "int8" else "float32"
    model = product(held) if operation == "product" else convolution(held)
    options = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", options)
    request = compiled.create_infer_request()
    feed = inputs_of(model)
    return partial(request.infer, feed, share_inputs=True, share_outputs=True)


def _torch(operation: str, precision: str, threads: int) -> Callable[[], Any]:
    import torch

    kind = getattr(torch, precision)

    def call() -> None:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            with torch.inference_mode():
                run()
        finally:
            torch.set_num_threads(before)

    if operation == "product":
        a, b = (torch.rand(PRODUCT, PRODUCT).mul(63).to(kind) for _ in range(2))
        multiply = torch._int_mm if precision == "int8" else torch.mm

        def run() -> None:
            multiply(a, b)

    else:
        layout = torch.channels_last
        x = torch.rand(CONVOLUTION).to(kind).contiguous(memory_format=layout)
        sizes = (CONVOLUTION[1], CONVOLUTION[1], 3, 3)
        weight = torch.rand(sizes).to(kind).contiguous(memory_format=layout)

        def run() -> None:
            for _ in range(DEPTH):
                torch.nn.functional.conv2d(x, weight, padding=1)

    return call


LIBRARIES: dict[str, tuple[Make, dict[str, tuple[str, ...]]]] = {
    "numpy": (_numpy, {"product": ("float32",)}),
    "onnxruntime": (
        _onnxruntime,
        {"product": ("float32", "int8"), "convolution": ("float32", "int8")},
    ),
    "openvino": (
        _openvino,
        {"product": ("float32", "bfloat16"), "convolution": ("float32", "bfloat16", "int8")},
    ),
    "torch": (
        _torch,
        {"product": ("float32", "bfloat16", "int8"), "convolution": ("float32", "bfloat16")},
    ),
}
"""What each library is tried with. Not float16: no CPU backend computes in it, and torch's product
reached 0.5 GMAC/s on an EPYC where bfloat16's reached 213."""
