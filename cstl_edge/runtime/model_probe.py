"""Child process of `model_check`: checks graphs from outside, opens them and runs them once.

It reads one line of JSON and the graphs from standard input, writes "ok" or what is wrong, and may
die without harm to its parent. Run as `python -m cstl_edge.runtime.model_probe`; never imported.
It knows ONNX Runtime and no backend.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cstl_edge.arrays import Array
from cstl_edge.errors import ModelError, one_line
from cstl_edge.runtime.backends.ort_session import open_session
from cstl_edge.runtime.graph_format import check_graph, graph_of, signature
from cstl_edge.runtime.manifest import Shape
from cstl_edge.runtime.masks.graph import check_mask_graph
from cstl_edge.runtime.masks.manifest import MaskManifest

MAX_MEMORY_BYTES = 2 * 2**30  # beyond what is mapped at the start; the shipped model takes 0.1 GB


def main() -> int:
    """Check the graphs on standard input; write the verdict, one line, to standard output."""
    header = json.loads(sys.stdin.buffer.readline())
    _limit(header["cpu_s"])
    graphs = {name: sys.stdin.buffer.read(size) for name, size in header["graphs"].items()}
    # Native libraries write to descriptor 1 as they please; the verdict must be alone there.
    verdict = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        if "mask" in header:
            manifest = MaskManifest.model_validate(header["mask"])
            check_mask_graph(manifest, graphs[manifest.file])
        else:
            check(graphs, Shape.model_validate(header["shape"]))
        word = "ok"
    except ModelError as err:
        word = one_line(err, 400)
    except Exception as err:  # any message of a runtime about a hostile file is a verdict
        word = one_line(f"{type(err).__name__}: {err}", 400)
    verdict.write(word + "\n")
    verdict.flush()
    return 0


def check(graphs: Mapping[str, bytes], shape: Shape) -> None:
    """Check every graph with `onnx`, then run it on one small input (ModelError)."""
    for name, data in graphs.items():
        check_graph(name, data, shape)
    for name, data in graphs.items():
        _run(name, data, shape)


def _run(name: str, data: bytes, shape: Shape) -> None:
    """Open a graph in ONNX Runtime and give it a sequence of two frames."""
    session = open_session(name, data, threads=1)
    rng = np.random.default_rng(0)
    silhouettes = rng.integers(0, 2, (2, *shape.size), dtype=np.uint8) * np.uint8(255)
    features = rng.random((2, shape.parts, shape.channels), dtype=np.float32)
    rows = features.swapaxes(0, 1)  # [p, m, c]
    two = np.array([2], np.int32)
    kept = {
        f"kept_{name}": rng.random((1, shape.parts, 2, width), dtype=np.float32)
        for name, width in shape.kept.items()
    }
    feed = {
        "frames": {"silhouettes": silhouettes},
        "head": {"features": features[None], "lengths": two},
        "full": {"silhouettes": silhouettes[None], "lengths": two},
        "taps": {"features": rows},
        "mix": {"features": rows, "sums": rows},
        "slide": {**kept, "slots": np.array([[1, 0]])},
        "step": {},
    }[graph_of(name)] or _step_feed(shape)
    if not all(np.isfinite(output).all() for output in session.run(None, feed)):
        raise ModelError(f"{name}: expected finite outputs; got NaN or infinity")


def _step_feed(shape: Shape) -> dict[str, Array]:
    """Return the inputs of `step` for a window of five frames, in which nothing was seen yet."""
    inputs, _ = signature("step.onnx", shape)
    frames = 5  # of the window
    feed: dict[str, Array] = {
        name: np.zeros([frames if size is None else size for size in sizes], np.float32)
        for name, (_, sizes) in inputs.items()
    }
    feed["silhouettes"] = feed["silhouettes"].astype(np.uint8)
    feed["slots"] = np.arange(frames)[None]
    feed["kept_gates"] += 1.0  # they are positive
    return feed


def _limit(cpu_s: int) -> None:
    """Cap address space, and the processor time after the imports, where the system can."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (ImportError, OSError):  # not on Windows, not on macOS
        return
    memory = pages * resource.getpagesize() + MAX_MEMORY_BYTES
    until_s = math.ceil(time.process_time()) + cpu_s
    for kind, wanted in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CPU, until_s)):
        _, hard = resource.getrlimit(kind)
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(kind, (limit, hard))


if __name__ == "__main__":
    sys.exit(main())
