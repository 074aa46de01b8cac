"""The whole way of an export: trace, simplify, store, verify, reduce, write."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import torch

from cstl_edge.errors import ExportError, one_line
from cstl_edge.export.checks import parity as parity_module
from cstl_edge.export.folder import refuse_foreign, sha256, versions, write_folder
from cstl_edge.export.graphs import GRAPHS, SLIDING, build
from cstl_edge.export.simplify import simplify as simplified
from cstl_edge.export.weight_storage import folded_factors, store_as_half
from cstl_edge.model import Cstl
from cstl_edge.model.incremental_head import slides
from cstl_edge.runtime.manifest import PRECISIONS, Manifest, Shape
from cstl_edge.runtime.model_check import OPSET, check_graph

if TYPE_CHECKING:
    from cstl_edge.export.quantization.calibration_data import Evidence


log = logging.getLogger(__name__)


def export_model(
    weights: str | Path,
    folder: str | Path,
    *,
    graphs: Sequence[str] = GRAPHS,
    simplify: bool = True,
    name: str | None = None,
    precisions: Sequence[str] = ("float32",),
    gather: Callable[[tuple[int, int]], Evidence] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Manifest:
    """Write a checkpoint's graphs and manifest into `folder`, which appears whole or not at all.

    graphs: some of `GRAPHS`; `frames` and `head` are all that the runtimes need. With `head` come
    its cuts for windows that slide (`SLIDING`), where the network has them
    name: of the model; by default what its training calls it, or the file's
    precisions: of `PRECISIONS`; float32 is always written, the others are judged against it
    gather: from a size of silhouettes to what the others are calibrated and judged on; by default
    `evidence.gather`
    progress: called with what is done next, for a progress bar

    Raises ModelError for weights that are refused, ExportError for a graph that differs from them
    or does not pass its gates.
    """
    from cstl_edge.checkpoint.weights import load_checkpoint, read_header

    target, tell = Path(folder), progress or log.info
    reduced = _reduced(graphs, precisions)
    refuse_foreign(target)  # before minutes are spent
    tell("reading the weights")
    network, training = load_checkpoint(weights)
    evidence = _gathered(gather, network.config.size, tell) if reduced else None
    work = _Work(network, simplify, tell)
    for graph in GRAPHS:
        if graph in graphs:
            work.add_float32(graph)
    if "head" in graphs:
        work.add_sliding()
    if evidence is not None:
        work.add_reduced(reduced, evidence)
    manifest = Manifest(
        format=1,
        model=name or str(training.get("name") or Path(weights).stem),
        precision="float32",
        config=network.fused().config.to_dict(),
        weights_sha256=read_header(weights)[0]["weights_sha256"],
        opset=OPSET,
        files={file: sha256(data) for file, data in work.written.items()},
        parity=work.parity.to_dict(),
        simplified=work.told,
        created_with=versions(),
        **work.reduced,
    )
    tell("writing")
    write_folder(target, work.written, manifest)
    return manifest


@dataclass
class _Work:
    """An export under way."""

    network: Cstl
    simplify: bool
    tell: Callable[[str], None]
    written: dict[str, bytes] = field(default_factory=dict)
    """By file name."""
    plain: dict[str, onnx.ModelProto] = field(default_factory=dict)
    """float32 graphs before their weights are stored as halves."""
    cuts: dict[str, onnx.ModelProto] = field(default_factory=dict)
    """The same of the head in cuts."""
    told: dict[str, Any] = field(default_factory=dict)
    parity: parity_module.Parity = field(default_factory=parity_module.Parity)
    reduced: dict[str, Any] = field(default_factory=dict)
    """What the manifest says of further precisions."""

    def add_float32(self, graph: str) -> None:
        """Trace, simplify, store and verify one graph."""
        self.plain[graph] = self._trace(f"{graph}.onnx")
        self._store(f"{graph}.onnx", self.plain[graph])

    def add_sliding(self) -> None:
        """Do the same for the head in cuts."""
        if not slides(self.network.config):
            self.tell("no graphs for windows that slide: only the paper's whole network has them")
            return
        for graph in SLIDING:
            self.cuts[graph] = self._trace(f"{graph}.onnx")
            self._store(f"{graph}.onnx", self.cuts[graph])

    def _trace(self, file: str) -> onnx.ModelProto:
        self.tell(f"{file}: tracing")
        model, self.told[file] = _graph(self.network, file.removesuffix(".onnx"), self.simplify)
        return model

    def _store(self, file: str, plain: onnx.ModelProto) -> None:
        model = onnx.ModelProto()
        model.CopyFrom(plain)
        self.told[file]["float16_weights"] = store_as_half(model, folded_factors(self.network))
        onnx.checker.check_model(model)
        self.tell(f"{file}: comparing with PyTorch")
        self.written[file] = _verified(self.network, file, model, self.parity)

    def add_reduced(self, wanted: Sequence[str], evidence: Evidence) -> None:
        """Add the graphs of further precisions, which have passed their gates."""
        from cstl_edge.export.quantization.context import Subject
        from cstl_edge.export.quantization.variants import reduce_precision

        subject = Subject(self.network.fused(), self.plain, evidence, self.cuts)
        found = reduce_precision(subject, wanted, self.tell)
        shape = Shape.model_validate(self.network.config.to_dict())
        for file, model in found.graphs.items():
            self.written[file] = model.SerializeToString(deterministic=True)
            check_graph(file, self.written[file], shape)
        self.reduced = {"precisions": found.precisions, "cpu_default": found.cpu_default}


def _reduced(graphs: Sequence[str], precisions: Sequence[str]) -> list[str]:
    """Return the precisions beside float32; raise ExportError for what cannot be meant."""
    for what, given, known in (("graphs", graphs, GRAPHS), ("precisions", precisions, PRECISIONS)):
        if not given or not set(given) <= set(known):
            raise ExportError(f"expected {what} of {', '.join(known)}; got {one_line(list(given))}")
    reduced = [name for name in PRECISIONS[1:] if name in precisions]
    if reduced and not {"frames", "head"} <= set(graphs):
        raise ExportError(
            f"{' and '.join(reduced)}: expected the graphs frames and head, which are judged "
            f"together; got {one_line(list(graphs))}"
        )
    return reduced


def _gathered(
    gather: Callable[[tuple[int, int]], Evidence] | None,
    size: tuple[int, int],
    tell: Callable[[str], None],
) -> Evidence:
    """Return what fp16 and int8 are calibrated and judged on."""
    from cstl_edge.export.quantization import calibration_data

    tell("making silhouettes to calibrate and to judge on")
    return (gather or calibration_data.gather)(size)


def _graph(network: Cstl, graph: str, simplify: bool) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Return a graph and what was done to it."""
    with torch.random.fork_rng():
        torch.manual_seed(
            parity_module.SEED
        )  # the traced example leaves no trace, but let it be the same
        model = build(network.fused(), graph)
    if not simplify:
        return model, {"tool": None, "reason": "not asked for"}
    return simplified(model, list(parity_module.feeds(network, f"{graph}.onnx"))[2:3])


def _verified(
    network: Cstl, file: str, model: onnx.ModelProto, parity: parity_module.Parity
) -> bytes:
    """Return the bytes of a graph that passes our own door and agrees with the network."""
    from cstl_edge.runtime.backends.onnxruntime import open_session

    data: bytes = model.SerializeToString(deterministic=True)
    check_graph(file, data, Shape.model_validate(network.config.to_dict()))
    parity.graphs[file] = parity_module.measure(network, file, open_session(file, data, 1))
    parity.check()
    return data
