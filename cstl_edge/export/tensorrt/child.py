"""Build one plan in a child process, which may abort or be killed without harm to its parent.

The child reads one line of JSON (a `PlanRequest`) and the graph from its standard input, and writes
a line of JSON per step, a last one with the report or the error, and the plan. When its reader is
gone, the build stops. Run as `python -m cstl_edge.export.tensorrt.child`.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, BinaryIO, TypedDict

import pydantic

from cstl_edge.errors import BackendUnavailable, CstlEdgeError, ExportError, one_line
from cstl_edge.export.folder import sha256
from cstl_edge.export.tensorrt.builder import (
    RTX,
    EngineAudit,
    PlanRequest,
    Step,
    build_plan,
    check_memory,
    workspace,
)
from cstl_edge.output import write_file
from cstl_edge.runtime.cuda.base import Gpu
from cstl_edge.runtime.cuda.open import open_buffers
from cstl_edge.runtime.graph_format import OPERATOR, PLUGIN_VERSION, part_gather_version
from cstl_edge.runtime.tensorrt.library import board, import_tensorrt, plugin_library

REQUEST = pydantic.TypeAdapter(PlanRequest)


class BuildReport(TypedDict):
    """What the child process says of a plan that it built."""

    audit: EngineAudit
    memory: dict[str, Any]
    plugin_sha256: str | None
    version: str
    gpu: dict[str, Any] | None  # see `described`; None where it was built ahead of time


def run_child(
    graph: bytes, request: PlanRequest, progress: Callable[[str, float], None]
) -> tuple[BuildReport, bytes]:
    """Build one plan in a child process; return its report and the plan.

    A child that dies takes nothing with it, and one whose parent dies stops by itself. Raises
    BackendUnavailable where TensorRT or a GPU is missing, ExportError for builds that fail.

    Args:
        graph: ONNX file.
        request: Description of the plan to build.
        progress: Callback with the builder's phase and the share of it done (0..1).
    """
    header = {"request": REQUEST.dump_python(request, mode="json"), "graph_bytes": len(graph)}
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(
            [sys.executable, "-m", "cstl_edge.export.tensorrt.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=Path(__file__).parents[3],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        try:
            assert child.stdin is not None
            assert child.stdout is not None
            with suppress(BrokenPipeError):  # it has died already; what it wrote follows
                child.stdin.write(json.dumps(header).encode() + b"\n" + graph)
                child.stdin.close()
            return _listen(child, child.stdout, errors, progress)
        finally:
            child.kill()
            child.wait()


def _listen(
    child: subprocess.Popen[bytes],
    out: IO[bytes],
    errors: IO[bytes],
    progress: Callable[[str, float], None],
) -> tuple[BuildReport, bytes]:
    """Follow a child to its last line and the plan behind it."""
    for line in out:
        message = json.loads(line)
        if "error" in message:
            raise (BackendUnavailable if message["unavailable"] else ExportError)(message["error"])
        if "report" in message:
            plan = out.read(message["plan_bytes"])
            if len(plan) == message["plan_bytes"]:
                return message["report"], plan
            break
        progress(message["phase"], message["step"] / max(1, message["steps"]))
    code = child.wait()
    errors.seek(0)
    last = errors.read().decode(errors="replace").strip().splitlines()[-1:] or ["no word"]
    if code == -9:
        raise ExportError(
            "the builder was killed, most likely for its memory. Close what else runs, add swap, "
            "or ask for less: --workspace 256, --level 2"
        )
    raise ExportError(f"the builder died (exit {code}): {one_line(last[0], 400)}")


# In the child


def main() -> int:
    """Build the plan that standard input requests."""
    header = json.loads(sys.stdin.buffer.readline())
    graph = sys.stdin.buffer.read(header["graph_bytes"])
    request = REQUEST.validate_python(header["request"])
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
    """Build with the requested library; return the report and the plan. Raises as `run_child`.

    Args:
        request: Description of the plan to build.
        graph: ONNX file.
        step: Callback at every step of the builder.
    """
    gpu, plugin, cache, timings = None, None, None, b""
    if request.library == RTX:
        trt = _import_rtx()
    else:
        trt = import_tensorrt()
        with closing(open_buffers()) as buffers:
            gpu = buffers.gpu()
        scratch = workspace(gpu, request.workspace_bytes)
        check_memory(gpu, len(graph), scratch + request.activation_bytes)
        plugin = _plugin(trt, request.plugin, part_gather_version(graph))
        cache = _timing_cache(trt, gpu, plugin, request)
        timings = cache.read_bytes() if cache is not None and cache.exists() else b""
        request = replace(request, workspace_bytes=scratch)
    built = build_plan(trt, graph, request, step, plugin, timings)
    if cache is not None:
        write_file(cache, built.timings)
    report: BuildReport = {
        "audit": built.audit,
        "plugin_sha256": built.plugin_sha256,
        "memory": built.memory,
        "version": str(trt.__version__),
        "gpu": None if gpu is None else described(gpu),
    }
    return report, built.plan


def described(gpu: Gpu) -> dict[str, Any]:
    """Return what a record says of the GPU that built a plan."""
    return {
        "name": gpu.name,
        "sm": gpu.sm,
        "cuda": gpu.cuda,
        "multiprocessors": gpu.multiprocessors,
        "board": board(),
    }


def _plugin(trt: Any, choice: str, version: str | None) -> Path | None:
    """Return the plugin library to register, if it is wanted (BackendUnavailable when missing).

    Args:
        trt: Module of TensorRT.
        choice: `auto`, `on` or `off`.
        version: Version of the graph's part gather; ExportError for another one than the plugin's
            where the plugin is insisted on. None where there is no part gather to compute.
    """
    if choice == "off" or version is None:
        return None
    if version != PLUGIN_VERSION:
        if choice == "on":
            raise ExportError(
                f"expected a graph whose {OPERATOR} is version {PLUGIN_VERSION}, as the plugin "
                f"library's; got version {version}. Export the model again, or build with "
                "--plugin off"
            )
        return None  # its function body serves
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


def _send(out: BinaryIO, message: Mapping[str, Any]) -> None:
    out.write(json.dumps(message).encode() + b"\n")
    out.flush()


if __name__ == "__main__":
    sys.exit(main())
