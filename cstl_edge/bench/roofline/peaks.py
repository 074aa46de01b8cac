"""Kernels of every library that is installed, whose best rates are the peaks of this machine."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cstl_edge.bench.record import Ran
from cstl_edge.bench.roofline.kernel import Kernel, measure_kernel
from cstl_edge.bench.roofline.sample_graphs import (
    CONVOLUTION,
    CONVOLUTION_MACS,
    DEPTH,
    PRODUCT,
    PRODUCT_MACS,
    convolution_graph,
    product_graph,
    sample_inputs,
)
from cstl_edge.errors import CstlEdgeError
from cstl_edge.measure.environment import package_version
from cstl_edge.measure.linux import SysfsTree

log = logging.getLogger(__name__)

CACHES = Path("sys/devices/system/cpu/cpu0/cache")
LEAST_MEMORY_BYTES = 2**28  # of a copy in memory
FLOAT_BYTES = 4
CUDA_PRODUCT = 8192  # rows and columns: 10^12 multiply-adds take 1 to 40 ms on the cards of today
CUDA_COPY_BYTES = 2**30
CUDA_PRECISIONS = ("float32", "tfloat32", "float16", "bfloat16", "int8")

GRAPHS = {"product": product_graph, "convolution": convolution_graph}
Make = Callable[[str, str, int], Callable[[], Any]]
"""From operation, precision and threads to a call."""


def best_arithmetic(threads: int, device: str, seconds: float) -> dict[str, float]:
    """Return the peak by precision [10^9 multiply-adds per second].

    Args:
        threads: Number of threads of the kernels on the CPU.
        device: Name of the device, `cpu` or `gpu`.
        seconds: Duration of each kernel.

    Precisions that no installed library computes here are absent.
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
    """Yield every kernel of every library, installed or not; `root` describes the caches."""
    yield from copy_kernels(threads, root)
    for library, (make, operations) in LIBRARIES.items():
        for operation, precisions in operations.items():
            macs = CONVOLUTION_MACS if operation == "convolution" else PRODUCT_MACS
            for precision in precisions:
                ran, name = _ran(library, "cpu", precision, threads), f"{library} {operation}"
                prepare = partial(make, operation, precision, threads)
                yield Kernel("arithmetic", "cpu", name, precision, macs, ran, prepare)
    yield from cuda_kernels()


def copy_kernels(threads: int, root: Path) -> Iterator[Kernel]:
    """Yield a copy in memory and in every known cache, large enough to leave the nearer ones."""
    sizes = cache_sizes(root)
    second, third = sizes.get(2, 0) * threads, sizes.get(3, 0)
    levels: dict[str, tuple[int, int | None]] = {
        "memory": (max(LEAST_MEMORY_BYTES, 4 * third), None)
    }
    if second:
        levels["l2"] = (second // 2, second)
    if third > 2 * second:
        levels["l3"] = (max(third // 2, 2 * second), third)
    ran = _ran("numpy", "cpu", "float32", threads)
    for level, (total, capacity) in levels.items():
        repeats = max(1, LEAST_MEMORY_BYTES // 8 // total)
        details = {"level": level, "capacity_bytes": capacity, "bytes": total}
        prepare = partial(_copy, total, repeats, threads)
        work, name = total * repeats, f"numpy copy, {level}"
        yield Kernel("bandwidth", "cpu", name, "float32", work, ran, prepare, details)


def cuda_kernels() -> Iterator[Kernel]:
    """Yield a product per precision and a copy; nothing where PyTorch sees no device."""
    if importlib.util.find_spec("torch") is None:
        return
    import torch

    if not torch.cuda.is_available():
        return
    device, macs = torch.cuda.get_device_name(0), CUDA_PRODUCT**3
    for precision in CUDA_PRECISIONS:
        ran, prepare = _ran("torch", device, precision), partial(_cuda_product, precision)
        name = f"cuda product {precision}"
        yield Kernel("arithmetic", "gpu", name, precision, macs, ran, prepare)
    work, ran = 2 * CUDA_COPY_BYTES, _ran("torch", device, "float32")
    details = {"level": "memory", "capacity_bytes": None, "bytes": work}
    yield Kernel("bandwidth", "gpu", "cuda copy, memory", "float32", work, ran, _cuda_copy, details)


def cache_sizes(root: Path = Path("/")) -> dict[int, int]:
    """Return the size of one cache of data by level [bytes], as Linux reports; empty elsewhere."""
    tree, sizes = SysfsTree(root), {}
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    for folder in sorted((root / CACHES).glob("index[0-9]*")):
        level, kind, size = (tree.text(folder / name) for name in ("level", "type", "size"))
        if level and size and kind not in (None, "Instruction"):
            with suppress(ValueError, KeyError):  # a machine that reports less
                sizes[int(level)] = int(size[:-1]) * units[size[-1]]
    return sizes


def _ran(library: str, provider: str, precision: str, threads: int | None = None) -> Ran:
    return Ran(
        backend=library.replace("torch", "pytorch"),
        provider=provider,
        precision="float32" if precision == "tfloat32" else precision,
        computed_in=precision,
        version=package_version(library) or "not installed",
        threads=threads,
    )


def _copy(total: int, repeats: int, threads: int) -> Callable[[], Any]:
    """Copy half of `total` bytes onto the other half: each byte read once or written once."""

    def work(source: Any, target: Any) -> None:
        for _ in range(repeats):
            np.copyto(target, source)

    each = total // 2 // FLOAT_BYTES // threads
    pairs = [(np.ones(each, np.float32), np.zeros(each, np.float32)) for _ in range(threads)]
    pool = ThreadPoolExecutor(threads)

    def call() -> None:
        for done in [pool.submit(work, *pair) for pair in pairs]:
            done.result()

    return call


def _cuda_copy() -> Callable[[], Any]:
    import torch

    source = torch.zeros(CUDA_COPY_BYTES, dtype=torch.uint8, device="cuda")
    return partial(_synchronised, partial(torch.empty_like(source).copy_, source))


def _cuda_product(precision: str) -> Callable[[], Any]:
    import torch

    sizes = (CUDA_PRODUCT, CUDA_PRODUCT)
    if precision == "int8":
        a, b = (torch.randint(-63, 64, sizes, dtype=torch.int8, device="cuda") for _ in range(2))
        return partial(_synchronised, partial(torch._int_mm, a, b.t()))
    kind = torch.float32 if precision == "tfloat32" else getattr(torch, precision)
    x, y = (torch.rand(sizes, device="cuda").to(kind) for _ in range(2))

    def call() -> None:
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = precision == "tfloat32"
        try:
            torch.mm(x, y)
        finally:
            torch.backends.cuda.matmul.allow_tf32 = before

    return partial(_synchronised, call)


def _synchronised(call: Callable[[], Any]) -> None:
    """Run a call and wait until the device is done: a call only begins its work."""
    import torch

    call()
    torch.cuda.synchronize()


def _numpy(operation: str, precision: str, threads: int) -> Callable[[], Any]:
    from threadpoolctl import threadpool_limits

    a, b = (np.random.default_rng(i).random((PRODUCT, PRODUCT), np.float32) for i in range(2))

    def call() -> None:
        with threadpool_limits(threads, user_api="blas"):
            a @ b

    return call


def _onnxruntime(operation: str, precision: str, threads: int) -> Callable[[], Any]:
    from cstl_edge.runtime.backends.ort_session import open_session

    model = GRAPHS[operation](precision)
    session = open_session(operation, model.SerializeToString(), threads)
    return partial(session.run, None, sample_inputs(model))


def _openvino(operation: str, precision: str, threads: int) -> Callable[[], Any]:
    from cstl_edge.runtime.backends.openvino import import_openvino

    ov = import_openvino()
    core = ov.Core()
    if precision == "bfloat16" and "BF16" not in core.get_property(
        "CPU", "OPTIMIZATION_CAPABILITIES"
    ):
        raise RuntimeError("this processor has no bfloat16 instructions")
    model = GRAPHS[operation]("int8" if precision == "int8" else "float32")
    options = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", options)
    request = compiled.create_infer_request()
    feed = sample_inputs(model)
    return partial(request.infer, feed, share_inputs=True, share_outputs=True)


def _torch(operation: str, precision: str, threads: int) -> Callable[[], Any]:
    import torch

    kind = getattr(torch, precision)

    if operation == "product":
        a, b = (torch.rand(PRODUCT, PRODUCT).mul(63).to(kind) for _ in range(2))
        multiply, repeats = partial(torch._int_mm if precision == "int8" else torch.mm, a, b), 1
    else:
        a, b = (
            torch.rand(sizes).to(kind).contiguous(memory_format=torch.channels_last)
            for sizes in (CONVOLUTION, (CONVOLUTION[1], CONVOLUTION[1], 3, 3))
        )
        multiply, repeats = partial(torch.nn.functional.conv2d, a, b, padding=1), DEPTH

    def call() -> None:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            with torch.inference_mode():
                for _ in range(repeats):
                    multiply()
        finally:
            torch.set_num_threads(before)

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
"""Operations and precisions of each library. Not float16: no CPU backend computes in it, and
torch's product reached 0.5 GMAC/s on an EPYC where bfloat16's reached 213."""
