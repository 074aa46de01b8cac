"""The whole way of an export: trace, simplify, store, verify, write."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch

from cstl_edge.errors import ExportError, one_line
from cstl_edge.export import verify
from cstl_edge.export.graphs import GRAPHS, build
from cstl_edge.export.manifest import refuse_foreign, sha256, versions, write_folder
from cstl_edge.export.simplify import simplify as simplified
from cstl_edge.export.storage import folded_factors, store_as_half
from cstl_edge.model import Cstl
from cstl_edge.runtime.check import OPSET, check_graph
from cstl_edge.runtime.manifest import Manifest, Shape

log = logging.getLogger(__name__)


def export_model(
    weights: str | Path,
    folder: str | Path,
    *,
    graphs: Sequence[str] = GRAPHS,
    simplify: bool = True,
    name: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> Manifest:
    """Write a checkpoint's graphs and manifest into `folder`, which appears whole or not at all.

    graphs: some of `GRAPHS`; `frames` and `head` are all that the runtimes need
    name: of the model; by default what its training calls it, or the file's
    progress: called with what is done next, for a progress bar

    Raises ModelError for weights that are refused, ExportError for a graph that differs from them.
    """
    from cstl_edge.training.checkpoint import load_checkpoint, read_header

    target, tell = Path(folder), progress or log.info
    unknown = [graph for graph in graphs if graph not in GRAPHS]
    if unknown or not graphs:
        raise ExportError(f"expected graphs of {', '.join(GRAPHS)}; got {one_line(list(graphs))}")
    refuse_foreign(target)  # before minutes are spent
    tell("reading the weights")
    network, training = load_checkpoint(weights)
    written = {}
    told: dict[str, Any] = {}
    parity = verify.Parity()
    for graph in GRAPHS:
        if graph in graphs:
            file = f"{graph}.onnx"
            tell(f"{file}: tracing")
            model, told[file] = _graph(network, graph, simplify)
            tell(f"{file}: comparing with PyTorch")
            written[file] = _verified(network, file, model, parity)
    manifest = Manifest(
        format=1,
        model=name or str(training.get("name") or Path(weights).stem),
        precision="float32",
        config=network.fused().config.to_dict(),
        weights_sha256=read_header(weights)[0]["weights_sha256"],
        opset=OPSET,
        files={file: sha256(data) for file, data in written.items()},
        parity=parity.to_dict(),
        simplified=told,
        created_with=versions(),
    )
    tell("writing")
    write_folder(target, written, manifest)
    return manifest


def _graph(network: Cstl, graph: str, simplify: bool) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Return a finished graph and what was done to it."""
    with torch.random.fork_rng():
        torch.manual_seed(verify.SEED)  # the traced example leaves no trace, but let it be the same
        model = build(network.fused(), graph)
    told: dict[str, Any] = {"tool": None, "reason": "not asked for"}
    if simplify:
        feeds = list(verify.feeds(network, f"{graph}.onnx"))[2:3]
        model, told = simplified(model, feeds)
    told["float16_weights"] = store_as_half(model, folded_factors(network))
    onnx.checker.check_model(model)
    return model, told


def _verified(network: Cstl, file: str, model: onnx.ModelProto, parity: verify.Parity) -> bytes:
    """Return the bytes of a graph that passes our own door and agrees with the network."""
    from cstl_edge.runtime.ort import open_session

    data: bytes = model.SerializeToString(deterministic=True)
    check_graph(file, data, Shape.model_validate(network.config.to_dict()))
    parity.graphs[file] = verify.measure(network, file, open_session(file, data, 1))
    parity.check()
    return data
