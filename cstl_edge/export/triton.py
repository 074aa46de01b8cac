"""Model repository for NVIDIA Triton from an exported folder: `frames` and `head` as two models.

The ring of part features of each walker stays with the client, so the pair needs no sequences, and
Triton batches the calls of many cameras. Triton loads no plugin through a registry, so engines have
to be built without ours, and by the TensorRT that the server has.
"""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterable
from pathlib import Path

from cstl_edge.errors import ConfigError, ExportError, one_line
from cstl_edge.output import partial_name, storing
from cstl_edge.runtime.graph_format import signature
from cstl_edge.runtime.manifest import MAX_MANIFEST_BYTES, Manifest, read_file, read_manifest
from cstl_edge.runtime.manifest import NAME as MANIFEST
from cstl_edge.runtime.matching_file import MAX_BYTES
from cstl_edge.runtime.model_check import checked_graphs
from cstl_edge.runtime.tensorrt.record import ENGINES, TENSORRT, read_plan, read_records

GRAPHS = ("frames", "head")
KINDS = ("auto", "tensorrt_plan", "onnxruntime", "python")
MOST_ROWS = 32  # of a batch: frames of any walkers, or their windows
QUEUE_DELAY_US = 500  # a call waits at most so long for others to share its batch
TYPES = {"UINT8": "TYPE_UINT8", "FLOAT": "TYPE_FP32", "INT32": "TYPE_INT32"}
SERVED = Path(__file__).with_name("triton_model.py")
"""The `model.py` of Triton's python backend, which runs our own runtime."""


def write_repository(
    folder: Path, repository: Path, kind: str = "auto", name: str = "cstl"
) -> dict[str, str]:
    """Write a model repository; return the kind of each model by its name.

    Args:
        folder: Exported model (ModelError where it is refused).
        repository: Folder to write, or to replace; a failure leaves what was there.
        kind: One of `KINDS`; `auto` takes engines where the folder has them, built without the
            plugin, and its ONNX graphs in float32 otherwise. ConfigError for another.
        name: Prefix of the two models, by which a client calls them.

    Raises:
        ExportError: The engines that are wanted hold the plugin, or are not there.
        StorageError: The repository cannot be written.
    """
    if kind not in KINDS:
        raise ConfigError(f"expected a kind of {', '.join(KINDS)}; got {one_line(kind)!r}")
    manifest = read_manifest(folder)
    plans, precision = dict[str, bytes](), "float32"
    if kind not in ("onnxruntime", "python"):
        plans, precision = _plans(folder, manifest, kind)
    chosen = "tensorrt_plan" if plans else "onnxruntime" if kind == "auto" else kind
    names = {graph: f"{graph}.onnx" for graph in GRAPHS}
    more = manifest.incremental_files("float32", int8=False) if chosen == "python" else ()
    graphs = checked_graphs(folder, manifest, [*names.values(), *more])
    described = description(folder, manifest)
    files: dict[str, bytes] = {}
    for graph in GRAPHS:
        model = f"{name}_{graph}"
        files[f"{model}/config.pbtxt"] = model_config(
            model, graph, chosen, manifest, {**described, "precision": precision.encode()}
        ).encode()
        if chosen == "python":
            files[f"{model}/1/model.py"] = SERVED.read_bytes()
            copied = {**described, **graphs}
            files |= {f"{model}/1/model/{file}": data for file, data in copied.items()}
        elif chosen == "tensorrt_plan":
            files[f"{model}/1/model.plan"] = plans[graph]
        else:
            files[f"{model}/1/model.onnx"] = graphs[names[graph]]
    _write(repository, files.items())
    return {f"{name}_{graph}": chosen for graph in GRAPHS}


def description(folder: Path, manifest: Manifest) -> dict[str, bytes]:
    """Return the files by which a client knows the model: manifest, and the distance's statistics.

    Args:
        folder: Exported model.
        manifest: Its manifest.
    """
    files = {MANIFEST: read_file(folder / MANIFEST, MAX_MANIFEST_BYTES)}
    matching = manifest.matching
    if matching is not None and matching.file is not None:
        files[matching.file] = read_file(folder / matching.file, MAX_BYTES)
    return files


def model_config(
    model: str, graph: str, kind: str, manifest: Manifest, described: dict[str, bytes]
) -> str:
    """Return the `config.pbtxt` of one model.

    Args:
        model: Name of the model.
        graph: `frames` or `head`.
        kind: One of `KINDS` but `auto`.
        manifest: Manifest of the exported folder.
        described: Files for the client (`description`) and the models' `precision`, kept as
            parameters of `frames`.
    """
    inputs, outputs = signature(f"{graph}.onnx", manifest.shape)
    where = (
        f"platform: {_text('tensorrt_plan')}"
        if kind == "tensorrt_plan"
        else (f"backend: {_text(kind)}")
    )
    lines = [f"name: {_text(model)}", where, f"max_batch_size: {MOST_ROWS}"]
    for key, values in (("input", inputs), ("output", outputs)):
        for value, (dtype, sizes) in values.items():
            rest = [-1 if size is None else size for size in sizes[1:]]  # Triton has the batch
            dims = f"dims: [ {', '.join(map(str, rest or [1]))} ]"
            scalar = "" if rest else " reshape { shape: [ ] }"
            lines.append(
                f"{key} {{ name: {_text(value)} data_type: {TYPES[dtype]} {dims}{scalar} }}"
            )
    lines.append(f"dynamic_batching {{ max_queue_delay_microseconds: {QUEUE_DELAY_US} }}")
    parameters = {"graph": graph}
    if graph == "frames":
        parameters |= {
            f"file.{file}": base64.b64encode(data).decode() for file, data in described.items()
        }
    lines += [
        f"parameters {{ key: {_text(key)} value {{ string_value: {_text(value)} }} }}"
        for key, value in parameters.items()
    ]
    return "\n".join(lines) + "\n"


def _plans(folder: Path, manifest: Manifest, kind: str) -> tuple[dict[str, bytes], str]:
    """Return the engines of a folder and the precision of `frames`.

    There are none, in float32, where the folder has none and `auto` may do without.
    """
    place = folder / ENGINES / TENSORRT
    build = f"cstl-edge build {one_line(folder)} --plugin off"
    if not place.exists():
        if kind == "auto":
            return {}, "float32"
        raise ExportError(f"no engines for TensorRT in {one_line(folder)}. Build them: {build}")
    records = read_records(folder, GRAPHS, manifest)
    if any(record.plugin is not None for record in records.values()):
        raise ExportError(
            f"the engines of {one_line(folder)} hold our plugin, which Triton does not load. Build "
            f"them without: {build}; or take the ONNX graphs: --triton-kind onnxruntime"
        )
    plans = {graph: read_plan(place, record) for graph, record in records.items()}
    return plans, records["frames"].precision


def _write(repository: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Write a folder that appears whole or not at all (StorageError)."""
    part = partial_name(repository)
    try:
        with storing(repository):
            for name, data in files:
                path = part / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            if repository.is_dir() and any(repository.iterdir()):
                old = partial_name(repository, ".old")
                repository.rename(old)
                part.rename(repository)
                shutil.rmtree(old)
            else:
                part.rename(repository)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _text(value: str) -> str:
    """Return a string of protobuf's text format; JSON's escapes of ASCII are among its own."""
    return json.dumps(value)
