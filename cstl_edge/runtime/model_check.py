"""Check the files of an exported model before any runtime opens them.

sha256 against the manifest; then, unless these very files are the shipped ones, whose sha256 stand
here, a child process looks into them with `onnx`, opens them and runs them once: ONNX Runtime up to
1.23 reads weights from wherever a graph points and aborts the process on mutated files.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cstl_edge.errors import ModelError, one_line
from cstl_edge.runtime.manifest import MAX_GRAPH_BYTES, Manifest, Shape, read_file, read_manifest

PROBE_CPU_S = 10  # processor time of the child, after its imports; the shipped model takes 0.5 s
PROBE_TIMEOUT_S = 60.0  # by the clock, on a machine that is busy with other things

TOO_LONG = "model refused: it takes too long to check; export the model again"

SHIPPED_SHA256: frozenset[str] = frozenset(
    {
        "4152ba8fbd22084088fcfe80b91934c5c063176e2bdecd20be34d425c5cf00c4",  # frames.int8.onnx
        # frames.int8.tensorrt.onnx
        "fe856a117a215594601a1c871d2847343ca1b819a02778e45a0be03287af1f9e",
        "a8f58ae291784b50189261356cc4b1b7c0e09e432d65ef8783f201537c60dbc7",  # frames.onnx
        "76a191901969725a608d89bd368acf808fedb7a720ed9c97227e45ca642cd18d",  # head.fp16.onnx
        "8bc305b45e1bb5f68725afb90728f2bbaae852e073c57de310f2ae35ad455d20",  # head.onnx
        "61f84fc3f8949c92902e8fdc69e505c1c5fd91db0eff72fe27cf66718c311325",  # mix.onnx
        "844ff1b391f3489eee8857f80845dc1f2e7d8ef7e3ba50f28a4824fc112ee428",  # slide.int8.onnx
        "7bbf6a568e6b885062d553410a712a587aae56aaf87a29366b568f7805a4c98d",  # slide.onnx
        "8974c3cc01190fc397967ef6cbe8487a0c0f9628b35fd4a2519a9396c6e4f008",  # step.int8.onnx
        "f213621d857cd663344d56c9b9b8fc9a9eb1be30e88c840aacc57d02bdd91e14",  # step.onnx
        "378c1926cc4573556e2e06c8a4794b118cfefe03c51dab49fec284d1d3684406",  # taps.int8.onnx
        "3f8489fc328971fde51133516e15ce907a2a81ea28fe20c640194dd679efbd4f",  # taps.onnx
    }
)
"""sha256 of every shipped graph; `python -m cstl_edge.runtime.model_check FOLDER` prints them."""


def checked_graphs(folder: Path, manifest: Manifest, names: Iterable[str]) -> dict[str, bytes]:
    """Return the bytes of the named graphs of a folder, all checked.

    Args:
        folder: Exported model.
        manifest: Manifest of the folder.
        names: File names; ModelError where one is missing, changed or refused.
    """
    graphs = {name: _verified(folder, manifest, name) for name in names}
    if not all(manifest.files[name] in SHIPPED_SHA256 for name in graphs):
        probe(graphs, manifest.shape)
    return graphs


def _verified(folder: Path, manifest: Manifest, name: str) -> bytes:
    """Return the bytes of one graph after comparing its sha256 with the manifest's."""
    if name not in manifest.files:
        raise ModelError(
            f"expected {name} in the manifest of {one_line(folder)}; "
            f"got {', '.join(manifest.files)}. Export the model again"
        )
    data = read_file(folder / name, MAX_GRAPH_BYTES)
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 != manifest.files[name]:
        raise ModelError(
            f"{one_line(folder / name)}: expected sha256 {manifest.files[name][:12]}… as in the "
            f"manifest; got {sha256[:12]}…. The file was changed or damaged: export the model again"
        )
    return data


def probe(graphs: Mapping[str, bytes], shape: Shape, timeout_s: float = PROBE_TIMEOUT_S) -> None:
    """Check, open and run graphs in a child process.

    Args:
        graphs: Bytes by file name.
        shape: Sizes of the network, from the manifest.
        timeout_s: Limit of the child [s]; ModelError past it, or where the child dies or refuses.
    """
    run_probe({"shape": shape.model_dump()}, graphs, timeout_s)


def run_probe(
    what: Mapping[str, Any], graphs: Mapping[str, bytes], timeout_s: float = PROBE_TIMEOUT_S
) -> None:
    """Check, open and run graphs in a child process, by what they have to be.

    Args:
        what: `shape`, the sizes of our network; or `mask`, the manifest of a mask network.
        graphs: Bytes by file name.
        timeout_s: Limit of the child [s]; ModelError past it, or where the child dies or refuses.
    """
    if not sys.executable:
        raise ModelError("cannot check the model: this Python does not know its own executable")
    sizes = {name: len(data) for name, data in graphs.items()}
    header = {**what, "graphs": sizes, "cpu_s": PROBE_CPU_S}
    message = json.dumps(header).encode() + b"\n" + b"".join(graphs.values())
    root = Path(__file__).parents[2]  # where `-m` finds this package and no other
    try:
        done = subprocess.run(
            [sys.executable, "-m", "cstl_edge.runtime.model_probe"],
            input=message,
            capture_output=True,
            timeout=timeout_s,
            check=False,
            cwd=root,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
    except subprocess.TimeoutExpired as err:
        raise ModelError(TOO_LONG) from err
    if done.returncode == -signal.SIGXCPU:
        raise ModelError(TOO_LONG)
    verdict = done.stdout.decode(errors="replace").strip()
    if done.returncode != 0 or verdict != "ok":
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no word"]
        reason = verdict or f"the runtime died on it (exit {done.returncode}: {last[0]})"
        raise ModelError(f"model refused: {one_line(reason, 400)}")


def main(argv: list[str] | None = None) -> int:
    """Print the sha256 of the graphs of exported folders, as `SHIPPED_SHA256` wants them."""
    for folder in map(Path, sys.argv[1:] if argv is None else argv):
        manifest = read_manifest(folder)
        for name in checked_graphs(folder, manifest, manifest.files):
            sys.stdout.write(f'    "{manifest.files[name]}",  # {folder.name}/{name}\n')
    return 0


if __name__ == "__main__":
    sys.exit(main())
