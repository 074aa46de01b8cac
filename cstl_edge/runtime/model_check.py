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
        "d6f050e72451619f6604bcae6c301de5ad52d0d8b3ad429c87750eee4510cf20",  # frames.int8.onnx
        # frames.int8.tensorrt.onnx
        "d174ccb41793467a5034136ae3fbc248f3de832ec3f308b328b1c01668d3b544",
        "75157997b98676dd10f892a403f8e86d024512bb494d517036424c03c01d9681",  # frames.onnx
        "0a12eb9ce47be6ba3c138ec08532c9813596d6482e29f3a77b68d1da97a9104f",  # head.fp16.onnx
        "2d48c249ad6001944f2a82dbc805addc4b3f643141e881c6f53a74adb9597782",  # head.onnx
        "f607d016015dfab5b85566fa874967f3ffe72e94b5525a5c472cfc80d66a1d5f",  # mix.int8.onnx
        "c35b81a652ac70d7669a3ebc85f2dfbac84480420feb9d210fd99e854912f69e",  # mix.onnx
        "fd08fe3151ca6d18475040cc126035a345a9c020dac25bcd84d32fac8e182603",  # slide.int8.onnx
        "9bf2f439b715c73413aebdaa647f1e424de3b7f6429943836a31552b7b53a9f4",  # slide.onnx
        "4c259bd83958aca39390ed226884568b614893fd464df5d4a3eba44ca43c1909",  # taps.int8.onnx
        "7b12eb56d28529a1911637faefe026de9612ae97753161782f9b9fd57ed41997",  # taps.onnx
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
