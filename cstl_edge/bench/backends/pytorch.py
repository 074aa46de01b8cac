"""PyTorch on the CPU: eager, which is the usual way, and compiled."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from cstl_edge.bench.backends.base import BASELINE, GRAPHS, Arrays, Backend, Call, Unavailable
from cstl_edge.bench.context import Context
from cstl_edge.bench.record import Ran
from cstl_edge.errors import BackendUnavailable, one_line

COMPILED = f"{BASELINE}, compiled"
OUTPUTS = {"frames": ("features",), "head": ("embedding", "salient_frames")}
OUTPUTS["full"] = OUTPUTS["head"]


def contenders(context: Context) -> Iterator[Backend | Unavailable]:
    """Yield eager PyTorch and, where there is a compiler, compiled PyTorch."""
    reason = missing(context)
    if reason:
        yield from (Unavailable(name, reason) for name in (BASELINE, COMPILED))
        return
    yield Backend(BASELINE, lambda graph, feed: _prepare(context, graph, feed, False))
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        yield Unavailable(
            COMPILED, f"torch.compile needs a C++ compiler: there is no {compiler} here"
        )
    elif not context.short:
        # Some ten seconds of compiling per graph and shape: the whole window alone by default.
        yield Backend(
            COMPILED,
            lambda graph, feed: _prepare(context, graph, feed, True),
            graphs=GRAPHS if context.full else ("full",),
        )


def missing(context: Context) -> str | None:
    """Say why PyTorch does not run here, or None."""
    try:
        import torch  # noqa: F401
    except ImportError:
        return 'PyTorch is not here: pip install "cstl-edge[train]"'
    if context.weights is None:
        return "no checkpoint of this model: give its .safetensors by --weights"
    return None


@lru_cache(maxsize=2)
def network(weights: Path) -> Any:
    """Return the network of a checkpoint as its training left it, in evaluation mode."""
    from cstl_edge.checkpoint.weights import load_checkpoint

    return load_checkpoint(weights)[0]


def function(module: Any, graph: str) -> Callable[..., Any]:
    """Return what computes a graph from the tensors of its inputs."""
    parts = {"frames": module.frame_features, "head": module.head, "full": module.forward}
    chosen: Callable[..., Any] = parts[graph]
    return chosen


def named(graph: str, answers: Any) -> dict[str, Any]:
    """Return a graph's tensors as float32 or int32 arrays by name."""
    given = (answers,) if graph == "frames" else answers
    found = {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in zip(OUTPUTS[graph], given, strict=True)
        if tensor is not None
    }
    return {name: tensor.cpu().numpy() for name, tensor in found.items()}


def compiled(run: Callable[..., Any], example: tuple[Any, ...]) -> Callable[..., Any]:
    """Return a function compiled for the shapes of an example, whole or not at all.

    A graph that breaks, or a shape too many, would run eagerly in parts without saying so.
    Raises BackendUnavailable where torch's compiler gives up.
    """
    import torch

    found: Callable[..., Any] = torch.compile(run, fullgraph=True, dynamic=False)
    try:
        with torch.inference_mode():
            found(*example)
    except Exception as err:  # of the compiler's own kinds, which are not public
        raise BackendUnavailable(f"torch.compile fails: {one_line(err)}") from err
    return found


def _prepare(context: Context, graph: str, feed: Arrays, compile_it: bool) -> Call:
    import torch

    assert context.weights is not None
    torch.set_num_threads(context.threads)
    tensors = tuple(torch.tensor(array) for array in feed.values())
    run = function(network(context.weights), graph)
    if compile_it:
        run = compiled(run, tensors)
    last: dict[str, Any] = {}

    def once() -> None:
        with torch.inference_mode():
            last["answers"] = run(*tensors)

    ran = Ran(
        backend="pytorch",
        provider="cpu",
        precision="float32",
        computed_in="float32",
        version=torch.__version__,
        threads=torch.get_num_threads(),
        options={"compiled": "inductor"} if compile_it else {},
    )
    # Without a reset the ninth shape of a graph is refused: compiled forms are kept by function.
    close = torch.compiler.reset if compile_it else (lambda: None)
    return Call(ran, once, lambda: named(graph, last["answers"]), close)
