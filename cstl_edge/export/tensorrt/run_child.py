"""Run `engine_child`, which builds one plan, and follow what it tells."""

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
from cstl_edge.export.tensorrt.builder import Wish


def run_child(
    graph: bytes, wish: Wish, tell: Callable[[str, float], None]
) -> tuple[dict[str, Any], bytes]:
    """Build one plan in a child process; return what it tells and the plan (ExportError).

    A child that dies takes nothing with it, and one whose parent dies stops by itself.
    """
    header = {"wish": asdict(wish) | {"profiles": _dumped(wish)}, "graph_bytes": len(graph)}
    with tempfile.TemporaryFile() as words:
        child = subprocess.Popen(
            [sys.executable, "-m", "cstl_edge.export.tensorrt.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=words,
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
                pass  # it has died already; what it said follows
            return _listen(child, child.stdout, words, tell)
        finally:
            child.kill()
            child.wait()


def _listen(
    child: subprocess.Popen[bytes],
    out: IO[bytes],
    words: IO[bytes],
    tell: Callable[[str, float], None],
) -> tuple[dict[str, Any], bytes]:
    """Follow a child to its last line and the plan behind it."""
    for line in out:
        word = json.loads(line)
        if "error" in word:
            raise (BackendUnavailable if word["unavailable"] else ExportError)(word["error"])
        if "made" in word:
            plan = out.read(word["made"]["plan_bytes"])
            if len(plan) == word["made"]["plan_bytes"]:
                return word["made"], plan
            break
        tell(word["phase"], word["step"] / max(1, word["steps"]))
    code = child.wait()
    words.seek(0)
    last = words.read().decode(errors="replace").strip().splitlines()[-1:] or ["no word"]
    if code == -9:
        raise ExportError(
            "the builder was killed, most likely for its memory. Close what else runs, add swap, "
            "or ask for less: --workspace 256, --level 2"
        )
    raise ExportError(f"the builder died (exit {code}): {one_line(last[0], 400)}")


def _dumped(wish: Wish) -> list[Any]:
    return [{name: sizes.model_dump() for name, sizes in p.items()} for p in wish.profiles]
