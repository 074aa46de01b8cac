"""The network that is measured: the shipped one, one that is given, or one of random weights."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import cstl_edge
from cstl_edge.bench.context import Context
from cstl_edge.bench.record import ModelUnderTest
from cstl_edge.errors import ConfigError, ExportError, ModelError, one_line
from cstl_edge.runtime.manifest import FLOAT32_GRAPHS, Manifest, read_manifest
from cstl_edge.runtime.model_check import checked_graphs
from cstl_edge.runtime.tensorrt.record import ENGINES

NETWORKS = ("shipped", "paper")
SEED = 0
EXPORTER_SOURCES = ("checkpoint", "export", "model", "runtime")
GATE_PEOPLE = (
    2  # people, where an export is only made to be measured: enough to find what is broken
)
PRECISION_NAMES = {"float32": "float32", "fp16": "float16", "int8": "int8"}
"""Precisions of a manifest, as results name them."""
Tell = Callable[[str], None]


def choose_model(
    model: Path | None, weights: Path | None, network: str, make: bool, tell: Tell
) -> tuple[Path, Path | None, Path | None]:
    """Return the exported model, its checkpoint, and another export with engines, if there are.

    make: export what is not there yet, which takes a minute
    Raises ConfigError for choices that contradict each other, ModelError for files refused.
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
        return export_once(weights, tell), weights, None
    return _shipped(make, tell)


def describe_model(folder: Path, trained: bool) -> ModelUnderTest:
    """Return what an exported model says of itself (ModelError)."""
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
    folder = export_once(weights, context.tell)
    subject = describe_model(folder, trained=False)
    return replace(context, folder=folder, weights=weights, subject=subject, engines=None)


def _shipped(make: bool, tell: Tell) -> tuple[Path, Path | None, Path | None]:
    """Return the shipped model, or an export of its weights with more precisions."""
    folder = Path(cstl_edge.__file__).parent / "assets" / "cstl-walkers"
    weights = folder.with_suffix(".safetensors")
    engines = folder if (folder / ENGINES).is_dir() else None
    made = export_folder(read_manifest(folder).weights_sha256)
    if is_export(made):
        return made, weights, engines
    if make:
        try:
            return export_once(weights, tell), weights, engines
        except ConfigError as err:
            tell(f"only the graphs that are shipped: {err}")
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
        return None  # nobody could run it either
    theirs = read_header(candidate)[0].get("weights_sha256")
    if theirs == read_manifest(model).weights_sha256:
        return candidate
    if weights is None:
        return None
    raise ConfigError(
        f"{one_line(weights)} and {one_line(model)} are different networks: export the weights "
        "again, or leave one of the two out"
    )


def random_checkpoint(config: Mapping[str, Any]) -> Path:
    """Return a checkpoint with random weights, always the same; ConfigError without torch."""
    try:
        import torch

        from cstl_edge.checkpoint.weights import save_checkpoint
        from cstl_edge.model import Cstl, CstlConfig
    except ImportError as err:
        raise ConfigError(
            'random weights are made with torch: pip install "cstl-edge[export]"'
        ) from err
    shape = CstlConfig.from_dict(config)
    digest = hashlib.sha256(json.dumps(shape.to_dict(), sort_keys=True).encode()).hexdigest()
    path = cache_folder() / f"random-{digest[:16]}.safetensors"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with torch.random.fork_rng():
            torch.manual_seed(SEED)
            save_checkpoint(path, Cstl(shape), {"name": "random weights"}, half=True)
    return path


def cache_folder() -> Path:
    """Return where exports are kept: XDG_CACHE_HOME, else ~/.cache."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "cstl-edge" / "bench"


def export_folder(weights_sha256: str) -> Path:
    """Return where the export of these weights by this very exporter is, or will be."""
    return cache_folder() / f"{weights_sha256[:16]}-{exporter_fingerprint()}"


def export_once(weights: Path, tell: Callable[[str], None]) -> Path:
    """Return a folder with all graphs of a checkpoint in all precisions, made where it is not.

    FP16 and INT8 go through the gates of `export.judge`, on few people. What they refuse is left
    out. Raises ConfigError without the extra, ModelError for weights that are refused.
    """
    try:
        from cstl_edge.checkpoint.weights import read_header
        from cstl_edge.export.export_model import export_model
        from cstl_edge.export.quantization.calibration_data import gather
    except ImportError as err:
        raise ConfigError(
            'graphs in all precisions need the exporter: pip install "cstl-edge[export]"'
        ) from err
    folder = export_folder(str(read_header(weights)[0].get("weights_sha256")))
    if is_export(folder):
        return folder
    tell(f"exporting in all precisions, once, into {folder}: half a minute or two")
    for precisions in (("fp16", "int8"), ("fp16",), ()):
        try:
            export_model(
                weights,
                folder,
                precisions=("float32", *precisions),
                gather=lambda size: gather(size, GATE_PEOPLE),
                progress=tell,
            )
        except ExportError as err:
            if not precisions:
                raise
            tell(str(err))
            continue
        break
    _copy_impostors(weights, folder)
    return folder


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
    wanted = {*FLOAT32_GRAPHS} | ({"full.onnx"} & set(manifest.files))
    for one in manifest.precisions.values():
        wanted |= {one.frames, *one.heads.values()} | ({one.full} if one.full else set())
    return manifest, checked_graphs(folder, manifest, sorted(wanted))


def graph_files(manifest: Manifest, precision: str, graph: str) -> Sequence[str]:
    """Return the file of a graph for ONNX Runtime, or those of `frames` and `head` in its place.

    precision: of `runtime.manifest.PRECISIONS`
    """
    frames, head = manifest.graphs(precision, "onnxruntime")
    if graph != "full":
        return [frames if graph == "frames" else head]
    reduced = {name: one.full for name, one in manifest.precisions.items()}
    full = "full.onnx" if precision == "float32" else reduced[precision]  # type: ignore[index]
    return [full] if full in manifest.files else [frames, head]


def gate_summary(manifest: Manifest, precision: str) -> str | None:
    """Say on what a precision was judged when it was exported; None for one without gates.

    precision: as results name it
    """
    for name, one in manifest.precisions.items():
        if PRECISION_NAMES[name] == precision:
            if not one.judged:
                return "the exported model tells of none"
            told = one.evidence
            return f"passed on {told.get('judged_on')}, {told.get('sequences')} sequences"
    return None


def _copy_impostors(weights: Path, folder: Path) -> None:
    """Give an export the distances of strangers that the one beside the weights has."""
    from cstl_edge.export.folder import attach

    beside = weights.with_suffix("")
    if not is_export(beside):
        return
    theirs = read_manifest(beside)
    if theirs.impostors and theirs.weights_sha256 == read_manifest(folder).weights_sha256:
        attach(folder, impostors=theirs.impostors)


def exporter_fingerprint() -> str:
    """Return what tells one exporter from another: its version, and in a checkout its sources."""
    root, digest = Path(cstl_edge.__file__).parent, hashlib.sha256(cstl_edge.__version__.encode())
    for room in EXPORTER_SOURCES:
        for path in sorted((root / room).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:8]
