"""The model under test: the shipped one, a given one, or the paper's network with random weights.

Graphs in all precisions are exported once and cached below the user's cache folder, by the weights
and by the sources of the exporter.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import cstl_edge
from cstl_edge.bench.context import Context
from cstl_edge.bench.record import ModelUnderTest
from cstl_edge.errors import ConfigError, ExportError, ModelError, one_line
from cstl_edge.extras import missing_package
from cstl_edge.output import user_folder
from cstl_edge.runtime.manifest import FLOAT32_GRAPHS, Manifest, read_file, read_manifest
from cstl_edge.runtime.matching_file import MAX_BYTES as MAX_MATCHING_BYTES
from cstl_edge.runtime.model_check import checked_graphs
from cstl_edge.runtime.tensorrt.record import ENGINES

NETWORKS = ("shipped", "paper")
SEED = 0  # of random weights
PACKAGE = Path(cstl_edge.__file__).parent
EXPORTER_SOURCES: tuple[str, ...] = (
    "arrays.py",
    "checkpoint",
    "config.py",
    "data",
    "distance.py",
    "evaluation",
    "export",
    "gallery",
    "model",
    "numerics.py",
)
EXPORTER_SOURCES += ("runtime", "silhouette.py", "walkers")
"""Files and rooms of the package that decide what an export contains: graphs and their rounding,
the people of calibration and accuracy gate, and what the gate computes."""
GATE_PEOPLE = 2  # where an export is only made to be measured: enough to find what is broken
PRECISION_NAMES = {"float32": "float32", "fp16": "float16", "int8": "int8"}
"""Precisions of a manifest, as results name them."""


def choose_model(
    model: Path | None,
    weights: Path | None,
    network: str,
    export: bool,
    progress: Callable[[str], None],
) -> tuple[Path, Path | None, Path | None]:
    """Return the exported model, its checkpoint, and another export with engines, if there are.

    Args:
        model: Exported folder, or None for another choice.
        weights: Checkpoint, or None for another choice.
        network: Name out of `NETWORKS`.
        export: True exports the missing precisions, which takes a minute.
        progress: Receiver of lines of narration.

    Raises:
        ConfigError: The choices contradict each other.
        ModelError: A file is refused.
    """
    if network not in NETWORKS:
        raise ConfigError(f"expected --network of {', '.join(NETWORKS)}; got {one_line(network)!r}")
    if network == "paper":
        if model or weights:
            raise ConfigError("--network paper has random weights: leave out --model and --weights")
        weights = random_checkpoint({})
    if model is not None:
        return model, _checkpoint_of(model, weights), None
    if weights is not None:
        return export_once(weights, progress), weights, None
    return _shipped(export, progress)


def describe_model(folder: Path, trained: bool) -> ModelUnderTest:
    """Return the model under test from an export's manifest (ModelError)."""
    manifest = read_manifest(folder)
    shape = manifest.shape
    return ModelUnderTest(
        name=manifest.model,
        weights_sha256=manifest.weights_sha256,
        size=shape.size,
        parts=shape.parts,
        widths=shape.widths,
        trained=trained,
    )


def with_random_weights(context: Context, size: tuple[int, int]) -> Context:
    """Return the context of the same network for another silhouette size, with random weights."""
    weights = random_checkpoint({**read_manifest(context.folder).config, "size": list(size)})
    folder = export_once(weights, context.progress)
    model = describe_model(folder, trained=False)
    return replace(context, folder=folder, weights=weights, model=model, engines=None)


def _shipped(export: bool, progress: Callable[[str], None]) -> tuple[Path, Path, Path | None]:
    """Return the shipped model, or an export of its weights in more precisions."""
    folder = PACKAGE / "assets" / "cstl-walkers"
    weights = folder.with_suffix(".safetensors")
    engines = folder if (folder / ENGINES).is_dir() else None
    cached = export_folder(read_manifest(folder).weights_sha256)
    if is_export(cached):
        return cached, weights, engines
    if export:
        try:
            return export_once(weights, progress), weights, engines
        except ConfigError as err:
            progress(f"only the graphs that are shipped: {err}")
    return folder, weights, None


def _checkpoint_of(model: Path, weights: Path | None) -> Path | None:
    """Return the checkpoint of an exported model, the one beside it when none is given.

    Raises ConfigError for a checkpoint of other weights.
    """
    beside = model.with_name(f"{model.name}.safetensors")
    candidate = weights or (beside if beside.is_file() else None)
    if candidate is None:
        return None
    try:
        from cstl_edge.checkpoint.weights import read_header
    except ImportError:
        return None  # without torch nothing could run it either
    same = read_header(candidate)[0].get("weights_sha256") == read_manifest(model).weights_sha256
    if weights is not None and not same:
        raise ConfigError(
            f"{one_line(weights)} and {one_line(model)} are different networks: export the weights "
            "again, or leave one of the two out"
        )
    return candidate if same else None


def random_checkpoint(config: Mapping[str, Any]) -> Path:
    """Return a checkpoint with random weights, always the same; ConfigError without torch."""
    try:
        import torch

        from cstl_edge.checkpoint.weights import save_checkpoint
        from cstl_edge.model import Cstl, CstlConfig
    except ImportError as err:
        raise missing_package("random weights are made with torch", "export") from err
    network = CstlConfig.from_dict(config)
    digest = hashlib.sha256(json.dumps(network.to_dict(), sort_keys=True).encode()).hexdigest()
    path = cache_folder() / f"random-{digest[:16]}.safetensors"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with torch.random.fork_rng():
            torch.manual_seed(SEED)
            save_checkpoint(path, Cstl(network), {"name": "random weights"}, half=True)
    return path


def cache_folder() -> Path:
    """Return the folder of cached exports: XDG_CACHE_HOME, else ~/.cache."""
    return user_folder("cache") / "bench"


def export_folder(weights_sha256: str) -> Path:
    """Return the cached export of these weights by this exporter, whether or not it is there."""
    return cache_folder() / f"{weights_sha256[:16]}-{exporter_fingerprint()}"


def exporter_fingerprint(package: Path = PACKAGE) -> str:
    """Return a digest of the exporter: its version, and in a checkout its sources."""
    digest = hashlib.sha256(cstl_edge.__version__.encode())
    for name in EXPORTER_SOURCES:
        source = package / name
        for path in sorted(source.rglob("*.py")) if source.is_dir() else [source]:
            digest.update(path.relative_to(package).as_posix().encode() + b"\0")
            digest.update(path.read_bytes())
    return digest.hexdigest()[:8]


def export_once(weights: Path, progress: Callable[[str], None]) -> Path:
    """Return a folder with all graphs of a checkpoint in all precisions, exported if need be.

    FP16 and INT8 go through the gates of the exporter, on few people. A precision that they refuse
    is left out. Raises ConfigError without the extra, ModelError for weights that are refused.
    """
    try:
        from cstl_edge.checkpoint.weights import read_header
        from cstl_edge.export.export_model import export_model
        from cstl_edge.export.quantization.calibration_data import gather
    except ImportError as err:
        raise missing_package("graphs in all precisions need the exporter", "export") from err
    folder = export_folder(str(read_header(weights)[0].get("weights_sha256")))
    if is_export(folder):
        return folder
    progress(f"exporting in all precisions, once, into {folder}: half a minute or two")
    people = partial(gather, people=GATE_PEOPLE)
    for precisions in (("float32", "fp16", "int8"), ("float32", "fp16"), ("float32",)):
        try:
            export_model(weights, folder, precisions=precisions, gather=people, progress=progress)
            break
        except ExportError as err:
            if len(precisions) == 1:
                raise
            progress(str(err))
    _copy_matching(weights, folder)
    return folder


def _copy_matching(weights: Path, folder: Path) -> None:
    """Give an export the distance and the thresholds of the one beside the weights."""
    from cstl_edge.export.folder import attach

    beside = weights.with_suffix("")
    if not is_export(beside):
        return
    theirs = read_manifest(beside)
    if theirs.weights_sha256 != read_manifest(folder).weights_sha256:
        return
    matching = None
    if theirs.matching is not None:
        file = theirs.matching.file
        statistics = None if file is None else read_file(beside / file, MAX_MATCHING_BYTES)
        matching = theirs.matching, statistics
    attach(folder, impostors=theirs.impostors, confidence=theirs.confidence, matching=matching)


def is_export(folder: Path) -> bool:
    """Tell whether a folder is an exported model whose manifest can be read."""
    try:
        read_manifest(folder)
    except ModelError:
        return False
    return True


@lru_cache(maxsize=4)
def read_export(folder: Path) -> tuple[Manifest, dict[str, bytes]]:
    """Return the manifest of a folder and its graphs by file name, all checked (ModelError)."""
    manifest = read_manifest(folder)
    names = {*FLOAT32_GRAPHS} | ({"full.onnx"} & set(manifest.files))
    for variant in manifest.precisions.values():
        names |= {variant.frames, *variant.heads.values()}
        names |= {variant.full} if variant.full else set()
    return manifest, checked_graphs(folder, manifest, sorted(names))


def onnx_files(manifest: Manifest, precision: str, graph: str) -> Sequence[str]:
    """Return the file of a graph for ONNX Runtime, or those of `frames` and `head` in its place.

    Args:
        manifest: Manifest of the export.
        precision: Name out of `runtime.manifest.PRECISIONS`.
        graph: Name of the graph: `frames`, `head` or `full`.
    """
    frames, head = manifest.graphs(precision, "onnxruntime")
    if graph != "full":
        return [frames if graph == "frames" else head]
    reduced = {name: variant.full for name, variant in manifest.precisions.items()}
    full = "full.onnx" if precision == "float32" else reduced[precision]  # type: ignore[index]
    return [full] if full in manifest.files else [frames, head]


def gate_summary(manifest: Manifest, precision: str) -> str | None:
    """Return the data of the gate that a precision of results passed; None for one without."""
    names = (name for name in manifest.precisions if PRECISION_NAMES[name] == precision)
    if (name := next(names, None)) is None:
        return None
    if not manifest.precisions[name].judged:
        return "the exported model tells of none"
    data = manifest.precisions[name].evidence
    return f"passed on {data.get('judged_on')}, {data.get('sequences')} sequences"
