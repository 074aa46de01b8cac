"""PyTorch on the CPU: eager, which is the baseline, and compiled."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from cstl_edge.bench.backends.base import (
    BASELINE,
    GRAPHS,
    Backend,
    GraphUnderTest,
    StreamingBackend,
    Unavailable,
    under_test,
)
from cstl_edge.bench.context import Context
from cstl_edge.errors import BackendUnavailable, one_line
from cstl_edge.extras import install_command
from cstl_edge.runtime import load
from cstl_edge.runtime.graph import Arrays

COMPILED = f"{BASELINE}, compiled"


def backends(context: Context) -> Iterator[Backend | Unavailable]:
    """Yield eager PyTorch and, where there is a compiler, compiled PyTorch."""
    reason = missing(context)
    if reason:
        yield Unavailable(BASELINE, reason, streams=True)
        yield Unavailable(COMPILED, reason)
        return
    yield StreamingBackend(
        BASELINE,
        partial(_open_graph, context, False),
        open_encoder=partial(load, context.weights, "pytorch", context.threads),
    )
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        reason = f"torch.compile needs a C++ compiler: there is no {compiler} here"
        yield Unavailable(COMPILED, reason)
    elif not context.short:
        yield Backend(COMPILED, partial(_open_graph, context, True), compiled_graphs(context))


def compiled_graphs(context: Context) -> tuple[str, ...]:
    """Return the graphs to compile: some ten seconds each and per shape, so few by default."""
    return GRAPHS if context.full else ("full",)


def missing(context: Context) -> str | None:
    """Return the reason why PyTorch does not run here, or None."""
    try:
        import torch  # noqa: F401
    except ImportError:
        return f"PyTorch is not here: {install_command('train')}"
    if context.weights is None:
        return "no checkpoint of this model: give its .safetensors by --weights"
    return None


@lru_cache(maxsize=2)
def network(weights: Path) -> Any:
    """Return the network of a checkpoint as its training left it, in evaluation mode."""
    from cstl_edge.checkpoint.weights import load_checkpoint

    return load_checkpoint(weights)[0]


def compiled(run: Callable[..., Any], example: tuple[Any, ...]) -> Callable[..., Any]:
    """Return a function compiled for the shapes of an example, whole or not at all.

    A graph that breaks, or a shape too many, would run eagerly in parts without saying so.
    Raises BackendUnavailable where torch's compiler gives up.
    """
    import torch

    function: Callable[..., Any] = torch.compile(run, fullgraph=True, dynamic=False)
    try:
        with torch.inference_mode():
            function(*example)
    except Exception as err:  # of the compiler's own kinds, which are not public
        raise BackendUnavailable(f"torch.compile fails: {one_line(err)}") from err
    return function


def _open_graph(context: Context, compile_it: bool, graph: str, feed: Arrays) -> GraphUnderTest:
    import torch

    from cstl_edge.runtime.backends.pytorch import TorchGraph

    assert context.weights is not None
    torch.set_num_threads(context.threads)
    opened = TorchGraph(network(context.weights), graph)
    if compile_it:
        opened.compute = compiled(opened.compute, opened.tensors(feed))
    return under_test(
        [opened],
        feed,
        # Without it the ninth shape of a graph is refused: compiled forms are kept by function.
        close=torch.compiler.reset if compile_it else None,
        backend="pytorch",
        precision="float32",
        computed_in="float32",
        version=torch.__version__,
        options={"compiled": "inductor"} if compile_it else {},
    )
