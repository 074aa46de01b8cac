"""Simplify a graph with onnxsim or onnxslim in a child process, and compare what comes back.

Simplifiers crash, hang and change operators unasked, so whatever goes wrong here leaves the graph
as it was, and the manifest says so. The child is `python -m cstl_edge.export.simplify
TOOL`: the graph on its standard input, the simplified one on its standard output.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from cstl_edge.errors import one_line
from cstl_edge.numerics import TOLERANCES, allowed_error, largest_error
from cstl_edge.runtime.backends.ort_session import open_session
from cstl_edge.runtime.graph_format import OPERATOR

log = logging.getLogger(__name__)

TOOLS = ("onnxsim", "onnxslim")  # in order of preference
TIMEOUT_S = 120.0
TOLERANCE = TOLERANCES["simplify"]["float32"]


def simplify(
    model: onnx.ModelProto,
    feeds: list[dict[str, Any]],
    tool: str | None = None,
    timeout_s: float = TIMEOUT_S,
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Return the simplified graph, or the same one, and a report for the manifest.

    Args:
        model: Float32 graph of ours.
        feeds: Inputs, by name, on which both graphs must give the same outputs.
        tool: One of `TOOLS`; by default the first that is installed.
        timeout_s: Longest time that the tool may take.
    """
    chosen = tool or next((t for t in TOOLS if importlib.util.find_spec(t)), None)
    if chosen is None:
        return model, {"tool": None, "reason": f"neither {' nor '.join(TOOLS)} is installed"}
    try:
        simpler = onnx.load_model_from_string(_in_child(model, chosen, timeout_s))
        del simpler.functions[:]
        simpler.functions.extend(model.functions)  # our body as it was, not as it came back
        simpler.ir_version = model.ir_version
        problem = _difference(model, simpler, feeds)
    except subprocess.TimeoutExpired:
        problem = f"took more than {timeout_s:g} s"
    except Exception as err:  # no simplifier's failure may become an export's
        problem = one_line(err)
    if problem:
        log.warning("the graph stays unsimplified: %s: %s", chosen, problem)
        return model, {"tool": None, "reason": f"{chosen}: {problem}"}
    version = metadata.version(chosen)
    nodes = {"before": len(model.graph.node), "after": len(simpler.graph.node)}
    return simpler, {"tool": f"{chosen} {version}", "nodes": nodes}


def _in_child(model: onnx.ModelProto, tool: str, timeout_s: float) -> bytes:
    """Return the simplified graph; whatever the tool prints or breaks stays in the child."""
    child = subprocess.run(
        [sys.executable, "-m", "cstl_edge.export.simplify", tool],
        input=model.SerializeToString(),
        capture_output=True,
        timeout=timeout_s,
        check=False,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    if child.returncode != 0:
        last = child.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no word"]
        raise RuntimeError(f"exit {child.returncode}: {last[0]}")
    return bytes(child.stdout)


def _difference(
    before: onnx.ModelProto, after: onnx.ModelProto, feeds: list[dict[str, Any]]
) -> str | None:
    """Say what a simplifier changed that it must not, or None."""
    onnx.checker.check_model(after)
    interface = _interface(before)
    for what, values in _interface(after).items():
        if interface[what] != values:
            return f"it changed the {what}s"
    if _gathers(before) != _gathers(after):
        return f"it changed the {OPERATOR} node"
    for feed in feeds:
        for name, x, y in zip(
            interface["output"], run(before, feed), run(after, feed), strict=True
        ):
            allowed = allowed_error(TOLERANCE.relative, float(np.abs(x).max()))
            if largest_error(x, y) > allowed:
                return f"it changed the numbers of {name}"
    return None


def run(model: onnx.ModelProto, feed: dict[str, Any]) -> list[Any]:
    """Run a graph of our own making once."""
    outputs: list[Any] = open_session("the graph", model.SerializeToString(), 1).run(None, feed)
    return outputs


def _interface(model: onnx.ModelProto) -> dict[str, dict[str, Any]]:
    """Return inputs and outputs with their types, and opsets."""
    return {
        "input": {v.name: v.type.SerializeToString() for v in model.graph.input},
        "output": {v.name: v.type.SerializeToString() for v in model.graph.output},
        "opset": {
            entry.domain: entry.version for entry in model.opset_import if entry.domain == ""
        },
    }


def _gathers(model: onnx.ModelProto) -> list[tuple[str, dict[str, Any]]]:
    """Return domain and attributes of every part-gather node."""
    return [
        (node.domain, {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute})
        for node in model.graph.node
        if node.op_type == OPERATOR
    ]


def main() -> int:
    """Run as the child: simplify standard input to standard output with the named tool."""
    tool = sys.argv[1]
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # the tools print; only the graph may stand on standard output
    model = onnx.load_model_from_string(sys.stdin.buffer.read())
    if tool == "onnxsim":
        sys.modules["torch"] = None  # type: ignore[assignment]  # 2 s for helpers not used here
        import onnxsim

        simpler, same = onnxsim.simplify(model)
        if not same:
            raise RuntimeError("onnxsim's own check failed")
    else:
        import onnxslim

        simpler = onnxslim.slim(model)
    output.write(simpler.SerializeToString())
    output.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
