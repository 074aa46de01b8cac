"""The peaks of the first CUDA device, through PyTorch. Never run on one by us."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from cstl_edge.bench.peaks import Kernel, version
from cstl_edge.bench.record import Ran

PRODUCT = 8192
"""Rows and columns: 10^12 multiply-adds take 1 to 40 ms on the cards of today."""
COPIED_BYTES = 2**30
PRECISIONS = ("float32", "tfloat32", "float16", "bfloat16", "int8")


def cuda_kernels() -> Iterator[Kernel]:
    """Yield a product per precision and a copy; nothing where PyTorch sees no device."""
    if importlib.util.find_spec("torch") is None:
        return
    import torch

    if not torch.cuda.is_available():
        return
    name = torch.cuda.get_device_name(0)
    for precision in PRECISIONS:
        ran = _ran(name, precision)
        prepare = partial(_product, precision)
        label = f"cuda product {precision}"
        yield Kernel("arithmetic", "gpu", label, precision, PRODUCT**3, ran, prepare)
    details = {"level": "memory", "capacity_bytes": None, "bytes": 2 * COPIED_BYTES}
    work, ran = 2 * COPIED_BYTES, _ran(name, "float32")
    yield Kernel("bandwidth", "gpu", "cuda copy, memory", "float32", work, ran, _copy, details)


def _ran(device: str, precision: str) -> Ran:
    return Ran(
        backend="pytorch",
        provider=device,
        precision="float32" if precision == "tfloat32" else precision,
        computed_in=precision,
        version=version("torch"),
    )


def _product(precision: str) -> Callable[[], Any]:
    import torch

    sizes = (PRODUCT, PRODUCT)
    if precision == "int8":
        a = torch.randint(-63, 64, sizes, dtype=torch.int8, device="cuda")
        b = torch.randint(-63, 64, sizes, dtype=torch.int8, device="cuda").t()
        return partial(_synchronised, partial(torch._int_mm, a, b))
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


def _copy() -> Callable[[], Any]:
    import torch

    source = torch.zeros(COPIED_BYTES, dtype=torch.uint8, device="cuda")
    return partial(_synchronised, partial(torch.empty_like(source).copy_, source))


def _synchronised(call: Callable[[], Any]) -> None:
    """Wait until the device is done: a call only begins what it does."""
    import torch

    call()
    torch.cuda.synchronize()
