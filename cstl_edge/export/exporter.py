"""The whole way of an export: trace, simplify, store, verify, write."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from cstl_edge.runtime.manifest import PRECISIONS, Manifest, Shape

if TYPE_CHECKING:
    from cstl_edge.export.evidence import Evidence

log = logging.getLogger(__name__)


def export_model(
    weights: str | Path,
    folder: str | Path,
    *,
    graphs: Sequence[str] = GRAPHS,
    simplify: bool = True,
    name: str | None = None,
    precisions: Sequence[str] = ("float32",),
    evidence: Evidence | Callable[[tuple[int, int]], Evidence] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Manifest:
    """Write a checkpoint's graphs and manifest into `folder`, which appears whole or not at all.

    graphs: some of `GRAPHS`; `frames` and `head` are all that the runtimes need
    name: of the model; by default what its training calls it, or the file's
    precisions: of `PRECISIONS`; float32 is always written, the others are judged against it
    evidence: what fp16 and int8 are calibrated and judged on, or what gathers it for a size of
    silhouettes; by default `evidence.gather`
    progress: called with what is done next, for a progress bar

    Raises ModelError for weights that are refused, ExportError for a graph that differs from them.
    """
    from cstl_edge.training.checkpoint import load_checkpoint, read_header

    target, tell = Path(folder), progress or log.info
    unknown = [graph for graph in graphs if graph not in GRAPHS]
    if unknown or not graphs:
        raise ExportError(f"expected graphs of {', '.join(GRAPHS)}; got {one_line(list(graphs))}")
    reduced = _reduced(graphs, precisions)
    refuse_foreign(target)  # before minutes are spent
    tell("reading the weights")
    network, training = load_checkpoint(weights)
    written: dict[str, bytes] = {}
    plain: dict[str, onnx.ModelProto] = {}
    told: dict[str, Any] = {}
    parity = verify.Parity()
    for graph in GRAPHS:
        if graph in graphs:
            file = f"{graph}.onnx"
            tell(f"{file}: tracing")
            plain[graph], told[file] = _graph(network, graph, simplify)
            model = onnx.ModelProto()
            model.CopyFrom(plain[graph])
            told[file]["float16_weights"] = store_as_half(model, folded_factors(network))
            tell(f"{file}: comparing with PyTorch")
            written[file] = _verified(network, file, model, parity)
    precisions_told: dict[str, Any] = {}
    if reduced:
        precisions_told = _reduce(network, plain, reduced, evidence, written, tell)
    manifest = Manifest(
        format=1,
        model=name or str(training.get("name") or Path(weights).stem),
        precision="float32",
        config=network.fused().config.to_dict(),
        weights_sha256=read_header(weights)[0]["weights_sha256"],
        opset=OPSET,
        files={file: sha256(data) for file, data in written.items()},
        parity=parity.to_dict(),
        **precisions_told,
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
    return model, told


def _reduced(graphs: Sequence[str], precisions: Sequence[str]) -> list[str]:
    """Return the precisions beside float32 (ExportError)."""
    unknown = [name for name in precisions if name not in PRECISIONS]
    if unknown or not precisions:
        raise ExportError(
            f"expected precisions of {', '.join(PRECISIONS)}; got {one_line(list(precisions))}"
        )
    reduced = [name for name in PRECISIONS[1:] if name in precisions]
    if reduced and not {"frames", "head"} <= set(graphs):
        raise ExportError(
            f"{' and '.join(reduced)}: expected the graphs frames and head, which are judged "
            f"together; got {one_line(list(graphs))}"
        )
    return reduced


def _reduce(
    network: Cstl,
    plain: Mapping[str, onnx.ModelProto],
    wanted: Sequence[str],
    evidence: Evidence | Callable[[tuple[int, int]], Evidence] | None,
    written: dict[str, bytes],
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Add the graphs of further precisions to `written`; return what the manifest says of them."""
    from cstl_edge.export.evidence import gather
    from cstl_edge.export.reduced import reduce_precision

    if evidence is None or callable(evidence):
        tell("making silhouettes to calibrate and to judge on")
        evidence = (evidence or gather)(network.config.size)
    found = reduce_precision(network.fused(), plain, wanted, evidence, tell)
    shape = Shape.model_validate(network.config.to_dict())
    for file, model in found.graphs.items():
        written[file] = model.SerializeToString(deterministic=True)
        check_graph(file, written[file], shape)
    return {"precisions": found.precisions, "cpu_default": found.cpu_default}


def _verified(network: Cstl, file: str, model: onnx.ModelProto, parity: verify.Parity) -> bytes:
    """Return the bytes of a graph that passes our own door and agrees with the network."""
    from cstl_edge.runtime.ort import open_session

    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString(deterministic=True)
    check_graph(file, data, Shape.model_validate(network.config.to_dict()))
    parity.graphs[file] = verify.measure(network, file, open_session(file, data, 1))
    parity.check()
    return data
