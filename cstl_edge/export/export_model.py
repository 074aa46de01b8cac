"""Export trained weights: trace, simplify, store, compare with PyTorch, add precisions, write."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch

from cstl_edge.arrays import Floats, Silhouettes
from cstl_edge.distance import EUCLIDEAN, DistanceName
from cstl_edge.errors import ConfigError, one_line
from cstl_edge.export.checks.parity import SEED, Parity, feeds, measure
from cstl_edge.export.checks.step_check import check_step
from cstl_edge.export.folder import refuse_foreign, sha256, versions, write_folder
from cstl_edge.export.graphs import GRAPHS, INCREMENTAL, build_graph
from cstl_edge.export.simplify import simplify as simplify_graph
from cstl_edge.export.step_graph import step_graph
from cstl_edge.export.weight_storage import folded_factors, store_as_half
from cstl_edge.model import Cstl
from cstl_edge.model.head_matrices import has_fast_heads
from cstl_edge.runtime.backends.ort_session import open_session
from cstl_edge.runtime.base import usable_cores
from cstl_edge.runtime.graph_format import OPSET, check_graph, graph_of
from cstl_edge.runtime.manifest import (
    INCREMENTAL_FILES,
    PRECISIONS,
    STEP_FILE,
    Manifest,
    Shape,
)

if TYPE_CHECKING:
    from cstl_edge.export.joint import JointProjection
    from cstl_edge.export.matching import MatchingStatistics
    from cstl_edge.export.quantization.calibration_data import CalibrationData
    from cstl_edge.export.quantization.variants import Variants

log = logging.getLogger(__name__)


def export_model(
    weights: str | Path,
    folder: str | Path,
    *,
    graphs: Sequence[str] = GRAPHS,
    simplify: bool = True,
    name: str | None = None,
    precisions: Sequence[str] = ("float32",),
    gather: Callable[[tuple[int, int]], CalibrationData] | None = None,
    matching: DistanceName | None = None,
    joint: str | Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> Manifest:
    """Write a checkpoint's graphs and manifest into `folder`, which appears whole or not at all.

    Args:
        weights: .safetensors checkpoint.
        folder: New folder, or that of an earlier export.
        graphs: Some of `GRAPHS`; `frames` and `head` are all that the runtimes need. With `head`
            comes the incremental head (`INCREMENTAL`), where the network has one.
        simplify: Simplification of the graphs in a child process, on or off.
        name: Name of the model; by default that in its training record, or the file's.
        precisions: Some of `PRECISIONS`; float32 is always written, the others pass accuracy gates.
        gather: Makes the data for these, from (height, width); default: `calibration_data.gather`.
        matching: Distance to measure on Walkers (`export.matching`); None: `euclidean`, unmeasured.
        joint: File or exported folder of a joint projection, for matching by `cosine`.
        progress: Callback with the next step, for a progress bar.

    Raises:
        ModelError: the weights are refused, or the projection is of others.
        ConfigError: the choices do not fit each other.
        ExportError: a graph differs from them, or does not pass its gates.
    """
    target, notify = Path(folder), progress or log.info
    reduced = _reduced_precisions(graphs, precisions, matching)
    refuse_foreign(target)  # before minutes are spent
    notify("reading the weights")
    network, training, digest, projection = _read(weights, joint, matching)
    export = _Export(network, simplify, notify)
    data = export.calibration_data(gather) if reduced else None
    export.add_float32(graphs)
    if matching is not None:
        export.add_matching(matching, projection)
    if data is not None:
        export.add_precisions(reduced, data)
    model = name or str(training.get("name") or Path(weights).stem)
    manifest = export.manifest(model, digest)
    notify("writing")
    write_folder(target, export.files, manifest, export.matching.file if export.matching else None)
    return manifest


@dataclass
class _Export:
    """An export under way."""

    network: Cstl
    simplify: bool
    notify: Callable[[str], None]
    files: dict[str, bytes] = field(default_factory=dict)  # what is written, by name
    plain: dict[str, onnx.ModelProto] = field(default_factory=dict)
    """float32 graphs, before their weights are stored as float16."""
    simplified: dict[str, dict[str, Any]] = field(default_factory=dict)  # by file
    parity: Parity = field(default_factory=Parity)
    variants: Variants | None = None
    matching: MatchingStatistics | None = None

    def calibration_data(
        self, gather: Callable[[tuple[int, int]], CalibrationData] | None
    ) -> CalibrationData:
        """Return what reduced precisions are calibrated and judged on."""
        from cstl_edge.export.quantization import calibration_data

        self.notify("making silhouettes to calibrate and to judge on")
        return (gather or calibration_data.gather)(self.network.config.size)

    def add_float32(self, graphs: Sequence[str]) -> None:
        """Add some of `GRAPHS`, and with the head the incremental one."""
        for graph in GRAPHS:
            if graph in graphs:
                self._add(graph)
        if "head" not in graphs:
            return
        if not has_fast_heads(self.network.config):
            self.notify("no graphs for windows that slide: only the paper's whole network has them")
            return
        for graph in INCREMENTAL:
            self._add(graph)
        if "frames" in graphs:
            self._add_step(STEP_FILE, ("frames.onnx", *INCREMENTAL_FILES))

    def _add(self, graph: str) -> None:
        """Trace, simplify, store and check one graph."""
        file = f"{graph}.onnx"
        self.notify(f"{file}: tracing")
        self.plain[graph], report = _traced(self.network, graph, self.simplify)
        model = copy.deepcopy(self.plain[graph])
        report["float16_weights"] = store_as_half(model, folded_factors(self.network))
        self.simplified[file] = report
        onnx.checker.check_model(model)
        self.notify(f"{file}: comparing with PyTorch")
        data: bytes = model.SerializeToString(deterministic=True)
        check_graph(file, data, Shape.model_validate(self.network.config.to_dict()))
        self.parity.graphs[file] = measure(self.network, file, open_session(file, data, 1))
        self.parity.check()
        self.files[file] = data

    def _add_step(self, name: str, pieces: Sequence[str]) -> None:
        """Join graphs that were added to `step`, for one more frame of a walker.

        Args:
            name: File of the graph.
            pieces: Files of `frames`, `taps`, `mix` and `slide`.
        """
        self.notify(f"{name}: joining")
        shape = Shape.model_validate(self.network.config.to_dict())
        files = {graph_of(file): self._piece(file) for file in pieces}
        models = {graph: onnx.load_model_from_string(data) for graph, data in files.items()}
        data: bytes = step_graph(models, shape).SerializeToString(deterministic=True)
        check_graph(name, data, shape)
        error = check_step(name, data, files, shape)
        log.info("%s: embeddings within %.2g of the graphs it is joined of", name, error)
        self.files[name] = data

    def _piece(self, file: str) -> bytes:
        """Return a graph in the form that `step` is joined of."""
        single = self.variants.step_pieces.get(file) if self.variants else None
        data: bytes = self.files[file] if single is None else single.SerializeToString()
        return data

    def add_matching(self, distance: DistanceName, joint: JointProjection | None) -> None:
        """Measure the statistics of matching with the float32 graphs."""
        from cstl_edge.export.checks.accuracy_gate import run_frames, run_head
        from cstl_edge.export.matching import measure_matching

        names = ("frames.onnx", "head.onnx")
        frames, head = (open_session(name, self.files[name], usable_cores()) for name in names)

        def embed(windows: Silhouettes) -> Floats:
            features = (run_frames(frames, [window]) for window in windows)
            return np.concatenate([run_head(head, window).embedding for window in features])

        size = self.network.config.size
        self.matching = measure_matching(distance, embed, size, self.notify, joint=joint)

    def add_precisions(self, precisions: Sequence[str], data: CalibrationData) -> None:
        """Add the graphs of further precisions, which have passed their gates."""
        from cstl_edge.export.quantization.context import QuantizationContext
        from cstl_edge.export.quantization.variants import make_variants

        distance = self.matching.distance if self.matching else EUCLIDEAN
        context = QuantizationContext(self.network.fused(), self.plain, data, distance)
        self.variants = make_variants(context, precisions, self.notify)
        shape = Shape.model_validate(self.network.config.to_dict())
        for file, model in self.variants.graphs.items():
            self.files[file] = model.SerializeToString(deterministic=True)
            check_graph(file, self.files[file], shape)
        variant = self.variants.precisions.get("int8")
        if variant is not None and STEP_FILE in self.files:
            step = STEP_FILE.replace(".onnx", ".int8.onnx")
            self._add_step(step, (variant.frames, *(variant.cuts or INCREMENTAL_FILES)))
            changed = variant.model_copy(update={"step": step})
            self.variants.precisions["int8"] = changed

    def manifest(self, model: str, weights_sha256: str) -> Manifest:
        """Return the manifest of what was added."""
        variants, matching = self.variants, self.matching
        return Manifest(
            format=matching.record.format if matching else 1,
            model=model,
            precision="float32",
            config=self.network.fused().config.to_dict(),
            weights_sha256=weights_sha256,
            opset=OPSET,
            files={file: sha256(data) for file, data in self.files.items()},
            precisions=variants.precisions if variants else {},
            cpu_default=variants.cpu_default if variants else "float32",
            parity=self.parity.to_dict(),
            simplified=dict(self.simplified),
            matching=matching.record if matching else None,
            impostors=dict(matching.impostors) if matching else None,
            confidence=dict(matching.confidence) if matching else None,
            created_with=versions(),
        )


def _read(
    weights: str | Path, joint: str | Path | None, matching: str | None
) -> tuple[Cstl, dict[str, Any], str, JointProjection | None]:
    """Return a checkpoint's network, record and hash, and its joint projection.

    Args:
        weights: The checkpoint.
        joint: File or folder of the projection; None: there is none. Weights that were adapted to
            somebody's people keep the one of those before.
        matching: Distance that it is for.

    Raises:
        ModelError: A file is refused, or the projection is of other weights.
        ConfigError: The distance has no joint row.
    """
    from cstl_edge.checkpoint.weights import load_checkpoint, read_header
    from cstl_edge.export.joint import joint_for

    if joint is not None and matching != "cosine":
        raise ConfigError("a joint projection is for matching by cosine: leave out one of the two")
    network, training = load_checkpoint(weights)
    digest = read_header(weights)[0]["weights_sha256"]
    if joint is None:
        return network, training, digest, None
    return network, training, digest, joint_for(Path(joint), digest, training, network.config)


def _reduced_precisions(
    graphs: Sequence[str], precisions: Sequence[str], matching: str | None
) -> list[str]:
    """Return the precisions beside float32 (ConfigError for choices that do not fit)."""
    for what, given, known in (("graphs", graphs, GRAPHS), ("precisions", precisions, PRECISIONS)):
        if not given or not set(given) <= set(known):
            raise ConfigError(f"expected {what} of {', '.join(known)}; got {one_line(list(given))}")
    reduced = [name for name in PRECISIONS[1:] if name in precisions]
    judged = [*reduced, *([f"matching by {matching}"] if matching else [])]
    if judged and not {"frames", "head"} <= set(graphs):
        raise ConfigError(
            f"{' and '.join(judged)}: expected the graphs frames and head, which are judged "
            f"together; got {one_line(list(graphs))}"
        )
    return reduced


def _traced(network: Cstl, graph: str, simplify: bool) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Return a graph, simplified if that is asked for, and the report of it."""
    with torch.random.fork_rng():  # the traced example leaves no trace, but let it be the same
        torch.manual_seed(SEED)
        model = build_graph(network.fused(), graph)
    if not simplify:
        return model, {"tool": None, "reason": "not asked for"}
    return simplify_graph(model, list(feeds(network, f"{graph}.onnx"))[2:3])
