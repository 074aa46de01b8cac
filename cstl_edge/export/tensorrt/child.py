"""Child process that builds one plan; it may abort or be killed without harm to its parent.

It reads one line of JSON (a `PlanRequest`) and the graph from its standard input, and writes a line
of JSON per step, a last one with the report or the error, and the plan. When its reader is gone,
the build stops. Run as `python -m cstl_edge.export.tensorrt.child`.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import pydantic

from cstl_edge.errors import BackendUnavailable, CstlEdgeError, ExportError, one_line
from cstl_edge.export.folder import sha256
from cstl_edge.export.reports import BuildReport
from cstl_edge.export.tensorrt.builder import (
    RTX,
    BuiltPlan,
    PlanRequest,
    Step,
    build_plan,
    check_memory,
    workspace,
)
from cstl_edge.runtime.cuda.base import Gpu
from cstl_edge.runtime.cuda.open import open_buffers
from cstl_edge.runtime.tensorrt.library import import_tensorrt, plugin_library


def main() -> int:
    """Build the plan that standard input requests."""
    header = json.loads(sys.stdin.buffer.readline())
    graph = sys.stdin.buffer.read(header["graph_bytes"])
    request = pydantic.TypeAdapter(PlanRequest).validate_python(header["request"])
    # Native libraries write to descriptor 1 as they please; our lines must stand there alone.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    def step(phase: str, number: int, count: int) -> bool:
        try:
            _send(out, {"phase": phase, "step": number, "steps": count})
        except BrokenPipeError:
            return False
        return True

    try:
        report, plan = build_requested(request, graph, step)
    except CstlEdgeError as err:
        _send(out, {"error": str(err), "unavailable": isinstance(err, BackendUnavailable)})
        return 0
    _send(out, {"report": report, "plan_bytes": len(plan)})
    out.write(plan)
    out.flush()
    return 0


def build_requested(request: PlanRequest, graph: bytes, step: Step) -> tuple[BuildReport, bytes]:
    """Build with the requested library; return the report and the plan.

    Args:
        request: what to build.
        graph: the ONNX file.
        step: called at every step of the builder.

    Raises:
        BackendUnavailable: something is missing here.
        ExportError: the build fails.
    """
    if request.library == RTX:
        trt = _import_rtx()
        built = build_plan(trt, graph, request, step)
        return _report(trt, None, built), built.plan
    trt = import_tensorrt()
    buffers = open_buffers()
    try:
        gpu = buffers.gpu()
    finally:
        buffers.close()
    scratch = workspace(gpu, request.workspace_bytes)
    check_memory(gpu, len(graph), scratch)
    plugin = _plugin(trt, request.plugin)
    cache = _timing_cache(trt, gpu, plugin, request)
    timings = cache.read_bytes() if cache is not None and cache.exists() else b""
    request = replace(request, workspace_bytes=scratch)
    built = build_plan(trt, graph, request, step, plugin, timings)
    if cache is not None:
        _write_timings(cache, built.timings)
    return _report(trt, gpu, built), built.plan


def _report(trt: Any, gpu: Gpu | None, built: BuiltPlan) -> BuildReport:
    return {
        "audit": built.audit,
        "plugin_sha256": built.plugin_sha256,
        "version": str(trt.__version__),
        "gpu": None if gpu is None else {"name": gpu.name, "sm": gpu.sm, "cuda": gpu.cuda},
    }


def _plugin(trt: Any, choice: str) -> Path | None:
    """Return the plugin library to register, if it is wanted (BackendUnavailable when missing)."""
    if choice == "off":
        return None
    library = plugin_library(trt)
    if library is None and choice == "on":
        raise BackendUnavailable(
            f"no plugin library for TensorRT {trt.__version__} on this machine. Build it: "
            "cstl-edge plugin build; or build the engines with --plugin off"
        )
    return library


def _import_rtx() -> Any:
    try:
        return importlib.import_module(RTX)
    except (ImportError, OSError, RuntimeError) as err:
        raise BackendUnavailable(
            f"TensorRT-RTX is not on this machine ({one_line(err)}): pip install tensorrt-rtx"
        ) from err


def _timing_cache(trt: Any, gpu: Gpu, plugin: Path | None, request: PlanRequest) -> Path | None:
    """Return the timing cache for this TensorRT, CUDA and GPU: those of others would mislead."""
    if request.cache_folder is None:
        return None
    library = sha256(plugin.read_bytes())[:12] if plugin else "none"
    key = f"trt-{trt.__version__}_cuda-{gpu.cuda}_sm{gpu.sm}-{gpu.name}_plugin-{library}"
    return Path(request.cache_folder) / f"timings_{re.sub(r'[^A-Za-z0-9_.-]', '-', key)}.cache"


def _write_timings(path: Path, timings: bytes) -> None:
    """Write the timing cache, whole or not at all; ExportError where the disk refuses."""
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part.write_bytes(timings)
        part.replace(path)
    except OSError as err:
        part.unlink(missing_ok=True)
        raise ExportError(f"cannot write {one_line(path)}: {one_line(err)}") from err


def _send(out: BinaryIO, message: Mapping[str, Any]) -> None:
    out.write(json.dumps(message).encode() + b"\n")
    out.flush()


if __name__ == "__main__":
    sys.exit(main())
