"""Run the child process that builds one plan, and follow its progress."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from cstl_edge.errors import BackendUnavailable, ExportError, one_line
from cstl_edge.export.reports import BuildReport
from cstl_edge.export.tensorrt.builder import PlanRequest


def run_child(
    graph: bytes, request: PlanRequest, progress: Callable[[str, float], None]
) -> tuple[BuildReport, bytes]:
    """Build one plan in a child process; return its report and the plan.

    A child that dies takes nothing with it, and one whose parent dies stops by itself.

    Args:
        graph: the ONNX file.
        request: what to build.
        progress: called with the builder's phase and the share of it done (0..1).

    Raises:
        BackendUnavailable: TensorRT or a GPU is missing.
        ExportError: the build failed, or the child died.
    """
    header = {
        "request": asdict(request) | {"profiles": _dumped(request)},
        "graph_bytes": len(graph),
    }
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
            try:
                child.stdin.write(json.dumps(header).encode() + b"\n" + graph)
                child.stdin.close()
            except BrokenPipeError:
                pass  # it has died already; what it wrote follows
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


def _dumped(request: PlanRequest) -> list[dict[str, Any]]:
    return [{name: sizes.model_dump() for name, sizes in p.items()} for p in request.profiles]
