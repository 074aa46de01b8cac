"""The exported model that is measured, in every precision: made once, kept in the user's cache."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import cstl_edge
from cstl_edge.errors import ConfigError, ExportError, ModelError
from cstl_edge.runtime.check import checked_graphs
from cstl_edge.runtime.manifest import FLOAT32_GRAPHS, Manifest, read_manifest

JUDGED_ON = 2  # people, where an export is only made to be measured: enough to find what is broken
NAMES = {"float32": "float32", "fp16": "float16", "int8": "int8"}
"""Precisions of a manifest, as results name them."""


def cache_folder() -> Path:
    """Return where exports are kept: XDG_CACHE_HOME, else ~/.cache."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "cstl-edge" / "bench"


def kept(weights_sha256: str) -> Path:
    """Return where the export of these weights by this very exporter is, or will be."""
    return cache_folder() / f"{weights_sha256[:16]}-{_exporter()}"


def prepared(weights: Path, tell: Callable[[str], None]) -> Path:
    """Return a folder with all graphs of a checkpoint in all precisions, made where it is not.

    FP16 and INT8 go through the gates of `export.judge`, on few people. What they refuse is left
    out. Raises ConfigError without the extra, ModelError for weights that are refused.
    """
    try:
        from cstl_edge.export import export_model
        from cstl_edge.export.evidence import gather
        from cstl_edge.training.checkpoint import read_header
    except ImportError as err:
        raise ConfigError(
            'graphs in all precisions need the exporter: pip install "cstl-edge[export]"'
        ) from err
    folder = kept(str(read_header(weights)[0].get("weights_sha256")))
    if is_export(folder):
        return folder
    tell(f"exporting in all precisions, once, into {folder}: half a minute or two")
    for precisions in (("fp16", "int8"), ("fp16",), ()):
        try:
            export_model(
                weights,
                folder,
                precisions=("float32", *precisions),
                gather=lambda size: gather(size, JUDGED_ON),
                progress=tell,
            )
        except ExportError as err:
            if not precisions:
                raise
            tell(str(err))
            continue
        break
    _keep_impostors(weights, folder)
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


def files(manifest: Manifest, precision: str, graph: str) -> Sequence[str]:
    """Return the file of a graph for ONNX Runtime, or those of `frames` and `head` in its place.

    precision: of `runtime.manifest.PRECISIONS`
    """
    frames, head = manifest.graphs(precision, "onnxruntime")
    if graph != "full":
        return [frames if graph == "frames" else head]
    reduced = {name: one.full for name, one in manifest.precisions.items()}
    full = "full.onnx" if precision == "float32" else reduced[precision]  # type: ignore[index]
    return [full] if full in manifest.files else [frames, head]


def gates(manifest: Manifest, precision: str) -> str | None:
    """Say on what a precision was judged when it was exported; None for one without gates.

    precision: as results name it
    """
    for name, one in manifest.precisions.items():
        if NAMES[name] == precision:
            if not one.judged:
                return "the exported model tells of none"
            told = one.evidence
            return f"passed on {told.get('judged_on')}, {told.get('sequences')} sequences"
    return None


def _keep_impostors(weights: Path, folder: Path) -> None:
    """Give an export the distances of strangers that the one beside the weights has."""
    from cstl_edge.export import attach

    beside = weights.with_suffix("")
    if not is_export(beside):
        return
    theirs = read_manifest(beside)
    if theirs.impostors and theirs.weights_sha256 == read_manifest(folder).weights_sha256:
        attach(folder, impostors=theirs.impostors)


def _exporter() -> str:
    """Return what tells one exporter from another: its version, and in a checkout its sources."""
    root, digest = Path(cstl_edge.__file__).parent, hashlib.sha256(cstl_edge.__version__.encode())
    for room in ("export", "model", "runtime"):
        for path in sorted((root / room).glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:8]
