"""The child process of `engine`: build one plan; it may abort or be killed without harm to anyone.

Reads one line of JSON (a `Wish`) and the graph from its standard input; writes a line of JSON per
step, a last one with what was made or what is wrong, and the plan. When its reader is gone, the
build stops. Run as `python -m cstl_edge.export.tensorrt.child`.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import pydantic

from cstl_edge.errors import BackendUnavailable, CstlEdgeError, ExportError, one_line
from cstl_edge.export.folder import sha256
from cstl_edge.export.tensorrt.builder import (
    RTX,
    Made,
    Step,
    Wish,
    check_memory,
    make_plan,
    workspace,
)
from cstl_edge.runtime.cuda.base import Gpu
from cstl_edge.runtime.cuda.open import open_buffers
from cstl_edge.runtime.tensorrt.library import import_tensorrt, plugin_library


def main() -> int:
    """Build what standard input asks for."""
    header = json.loads(sys.stdin.buffer.readline())
    graph = sys.stdin.buffer.read(header["graph_bytes"])
    wish = pydantic.TypeAdapter(Wish).validate_python(header["wish"])
    # Native libraries write to descriptor 1 as they please; what we say must stand there alone.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    def step(phase: str, number: int, count: int) -> bool:
        try:
            _say(out, {"phase": phase, "step": number, "steps": count})
        except BrokenPipeError:
            return False
        return True

    try:
        told, plan = make(wish, graph, step)
    except CstlEdgeError as err:
        _say(out, {"error": str(err), "unavailable": isinstance(err, BackendUnavailable)})
        return 0
    _say(out, {"made": told | {"plan_bytes": len(plan)}})
    out.write(plan)
    out.flush()
    return 0


def make(wish: Wish, graph: bytes, step: Step) -> tuple[dict[str, Any], bytes]:
    """Build with the library that is wished for; return what is known of it, and the plan.

    Raises BackendUnavailable when something is missing here, ExportError when it fails.
    """
    if wish.library == RTX:
        trt = _import_rtx()
        made = make_plan(trt, graph, wish, step)
        return _told(trt, None, made), made.plan
    trt = import_tensorrt()
    buffers = open_buffers()
    try:
        gpu = buffers.gpu()
    finally:
        buffers.close()
    room = workspace(gpu, wish.workspace_bytes)
    check_memory(gpu, len(graph), room)
    plugin = _plugin(trt, wish.plugin)
    kept = _timings_file(trt, gpu, plugin, wish)
    timings = kept.read_bytes() if kept is not None and kept.exists() else b""
    made = make_plan(trt, graph, replace(wish, workspace_bytes=room), step, plugin, timings)
    if kept is not None:
        _keep(kept, made.timings)
    return _told(trt, gpu, made), made.plan


def _told(trt: Any, gpu: Gpu | None, made: Made) -> dict[str, Any]:
    return {
        "audit": made.audit,
        "plugin_sha256": made.plugin_sha256,
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


def _timings_file(trt: Any, gpu: Gpu, plugin: Path | None, wish: Wish) -> Path | None:
    """Return the timing cache for this TensorRT, CUDA and GPU: those of others would mislead."""
    if wish.cache_folder is None:
        return None
    library = sha256(plugin.read_bytes())[:12] if plugin else "none"
    key = f"trt-{trt.__version__}_cuda-{gpu.cuda}_sm{gpu.sm}-{gpu.name}_plugin-{library}"
    return Path(wish.cache_folder) / f"timings_{re.sub(r'[^A-Za-z0-9_.-]', '-', key)}.cache"


def _keep(path: Path, timings: bytes) -> None:
    """Write the timing cache, whole or not at all; ExportError where the disk refuses."""
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part.write_bytes(timings)
        part.replace(path)
    except OSError as err:
        part.unlink(missing_ok=True)
        raise ExportError(f"cannot write {one_line(path)}: {one_line(err)}") from err


def _say(out: BinaryIO, word: dict[str, Any]) -> None:
    out.write(json.dumps(word).encode() + b"\n")
    out.flush()


if __name__ == "__main__":
    sys.exit(main())
