"""ONNX Runtime on an NVIDIA GPU: its CUDA provider, and NVIDIA's TensorRT-RTX plugin.

For owners of a GeForce or RTX card the shorter way: no headers, no plans, no bindings, the
exported folder as it is. ONNX Runtime falls back to the CPU without a word: so the first run is
profiled, and an encoder whose products were not computed on the GPU is refused. Never run on a GPU.
"""

from __future__ import annotations

import importlib
import json
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cstl_edge.arrays import Array
from cstl_edge.errors import BackendUnavailable, ModelError, one_line
from cstl_edge.runtime.backends.ort_session import session_options
from cstl_edge.runtime.base import model_folder
from cstl_edge.runtime.graph import Arrays, Run
from cstl_edge.runtime.graph_encoder import GraphEncoder
from cstl_edge.runtime.manifest import Manifest, read_manifest
from cstl_edge.runtime.matching_file import read_distance
from cstl_edge.runtime.model_check import checked_graphs

if TYPE_CHECKING:
    import onnxruntime as ort

CUDA = "CUDAExecutionProvider"
RTX_PACKAGE = "onnxruntime_ep_nv_tensorrt_rtx"
HEAVY = frozenset({"Conv", "FusedConv", "MatMul", "Gemm", "FusedMatMul"})
NO_INCREMENTAL_HEAD = "on a GPU there is no incremental head: use `head`"
WINDOW = 30  # frames of the head's first run


class Provider(NamedTuple):
    """An execution provider."""

    backend: str  # name in `load.BACKENDS`
    name: str  # as ONNX Runtime has it
    add: Callable[[ort.SessionOptions], list[Any]]
    """Adds it to a session's options, or returns what `InferenceSession` takes as providers."""


def load_cuda(
    path: Path | None, threads: int | None = None, precision: str | None = None
) -> GraphEncoder:
    """Open an exported folder on the CUDA provider (package onnxruntime-gpu).

    Args:
        path: Exported folder (ModelError where it is refused); None for the shipped model.
        threads: Threads for the few nodes that stay on the CPU; by default 1.
        precision: One of `manifest.PRECISIONS`; by default fp16 where the folder has it.

    Raises BackendUnavailable where the provider is not there, or does not compute.
    """
    runtime = _onnxruntime("onnxruntime-cuda", "pip install onnxruntime-gpu")
    available = runtime.get_available_providers()
    if CUDA not in available:
        raise BackendUnavailable(
            f"expected ONNX Runtime with {CUDA}; got {runtime.__version__} with "
            f"{', '.join(available)}: pip uninstall onnxruntime, then pip "
            "install onnxruntime-gpu (both have the same module)"
        )
    provider = Provider("onnxruntime-cuda", CUDA, lambda options: [CUDA])
    return _open(provider, path, threads, precision)


def load_rtx(
    path: Path | None, threads: int | None = None, precision: str | None = None
) -> GraphEncoder:
    """Open an exported folder on NVIDIA's TensorRT-RTX plugin for ONNX Runtime.

    Args:
        path: Exported folder (ModelError where it is refused); None for the shipped model.
        threads: Threads for the few nodes that stay on the CPU; by default 1.
        precision: One of `manifest.PRECISIONS`; by default fp16 where the folder has it.

    Raises BackendUnavailable where the plugin is not there, or does not compute.
    """
    install = "pip install onnxruntime-ep-nv-tensorrt-rtx-cu13 (or -cu12), ONNX Runtime >= 1.24"
    runtime = _onnxruntime("onnxruntime-rtx", install)
    try:
        plugin = importlib.import_module(RTX_PACKAGE)
        name = str(plugin.get_ep_name())
        if name not in {device.ep_name for device in runtime.get_ep_devices()}:
            runtime.register_execution_provider_library(name, plugin.get_library_path())
        devices = [device for device in runtime.get_ep_devices() if device.ep_name == name]
    except Exception as err:  # ONNX Runtime's exceptions have no public base
        raise BackendUnavailable(
            f"backend 'onnxruntime-rtx' is not on this machine ({one_line(err, 300)}): {install}"
        ) from err
    if not devices:
        raise BackendUnavailable(
            f"{name} finds no RTX card (30xx or newer) on this machine. Backend 'onnxruntime' "
            "serves without one"
        )

    def add(options: ort.SessionOptions) -> list[Any]:
        options.add_provider_for_devices(devices[:1], {})
        return []

    return _open(Provider("onnxruntime-rtx", name, add), path, threads, precision)


def _onnxruntime(backend: str, install: str) -> Any:
    """Return ONNX Runtime (BackendUnavailable)."""
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as err:
        message = f"backend {backend!r} is not on this machine: {install}"
        raise BackendUnavailable(message) from err


def _open(
    provider: Provider, path: Path | None, threads: int | None, precision: str | None
) -> GraphEncoder:
    """Check a folder, open `frames` and `head`, run both once, and say what computed them."""
    folder = model_folder(path)
    manifest = read_manifest(folder)
    chosen = precision or ("fp16" if "fp16" in manifest.precisions else "float32")
    names = dict(zip(("frames", "head"), manifest.graphs(chosen, "tensorrt"), strict=True))
    data = checked_graphs(folder, manifest, names.values())
    threads = threads or 1
    graphs = {
        graph: _GpuGraph(provider, name, data[name], threads, _first_inputs(graph, manifest))
        for graph, name in names.items()
    }
    computed = "; ".join(f"{graph}: {opened.provider}" for graph, opened in graphs.items())
    distance = read_distance(folder, manifest)
    info = manifest.encoder_info(provider.backend, computed, chosen, threads, distance=distance)
    runs: dict[str, Run] = dict(graphs)
    return GraphEncoder(info, runs, NO_INCREMENTAL_HEAD)


def _first_inputs(graph: str, manifest: Manifest) -> dict[str, Array]:
    """Return the inputs of one walker, for a first run."""
    shape = manifest.shape
    if graph == "frames":
        return {"silhouettes": np.zeros((1, *shape.size), np.uint8)}
    features = np.zeros((1, WINDOW, shape.parts, shape.channels), np.float32)
    return {"features": features, "lengths": np.full(1, WINDOW, np.int32)}


class _GpuGraph:
    """One graph in a session of its own; `provider` says what computed its first run."""

    def __init__(
        self, provider: Provider, name: str, data: bytes, threads: int, first: dict[str, Array]
    ) -> None:
        import onnxruntime as ort

        options = session_options(threads)
        with tempfile.TemporaryDirectory() as folder:
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(folder) / "first")
            try:
                providers = provider.add(options)
                self._session = ort.InferenceSession(data, options, providers or None)
                self._outputs = [output.name for output in self._session.get_outputs()]
                self._session.run(None, first)
                profile = Path(self._session.end_profiling()).read_text(encoding="utf-8")
            except Exception as err:  # its exceptions have no public base
                raise ModelError(f"{name}: ONNX Runtime refuses it: {one_line(err)}") from err
        nodes = computed_nodes(profile)
        on_cpu = [node for node in nodes if node[1] != provider.name]
        heavy = sorted({kind for kind, _ in on_cpu if kind in HEAVY})
        if len(on_cpu) == len(nodes) or heavy:
            raise BackendUnavailable(
                f"backend {provider.backend!r}: expected {provider.name} to compute {name}; ONNX "
                f"Runtime computed {', '.join(heavy) or 'all of it'} on "
                f"{', '.join(sorted({where for _, where in on_cpu})) or 'nothing'}. A GPU, its "
                "driver or CUDA's libraries are missing: cstl-edge doctor"
            )
        self.provider = f"{provider.name} ({len(nodes) - len(on_cpu)} of {len(nodes)} nodes)"

    def __call__(self, inputs: Arrays) -> Arrays:
        """Run it (ModelError)."""
        try:
            outputs = self._session.run(None, dict(inputs))
        except Exception as err:  # its exceptions have no public base
            raise ModelError(f"ONNX Runtime failed: {one_line(err)}") from err
        return dict(zip(self._outputs, outputs, strict=True))


def computed_nodes(profile: str) -> list[tuple[str, str]]:
    """Return the nodes of a run from ONNX Runtime's profile: operator, and what computed it.

    >>> computed_nodes('[{"cat": "Node", "name": "a_kernel_time", "args": {"op_name": "Conv", '
    ...                '"provider": "CUDAExecutionProvider"}}]')
    [('Conv', 'CUDAExecutionProvider')]
    """
    kinds: Counter[tuple[str, str, str]] = Counter()
    for event in json.loads(profile):
        arguments = event.get("args", {})
        if event.get("cat") == "Node" and "provider" in arguments:
            kinds[event["name"], arguments["op_name"], arguments["provider"]] += 1
    return [(operator, where) for _, operator, where in kinds]
