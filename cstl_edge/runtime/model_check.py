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
        "345fc54b66ce864218cff6632b40fd995b9048fcac36071b8ef5eb559ee5a1e3",  # frames.int8.onnx
        # frames.int8.tensorrt.onnx
        "bfced170fd4c19da10e52d109767d26b278a5024d8d7e82ec214f3913d502f09",
        "9642f3678c362ee3bd6c5483144df81343ef3a677fd46460aa6ac9edbd954c73",  # frames.onnx
        "5da9cc93d1d7692df33740b4e743d4265c38e93afe5095614fb35ff22ed007e0",  # head.fp16.onnx
        "7e6c41af8f2ea69178e5819be6450b4f52ee5d0b155cf2702625cd06084ab70d",  # head.onnx
        "cb043782bbff89b3a8ce7f6417ce1b4f2f099814f9dc39c7b12188eba58a8f77",  # mix.int8.onnx
        "fbaf8be91c53d5d61aafc7a1e61811a776d0dc7a4b7432df709257f911f851a2",  # mix.onnx
        "59ed171728b1d28aba0b69e7e107ea120a18f07f4a0b66e636799031b4130db8",  # slide.int8.onnx
        "d264b55867b18fac9e8ad8657e4095c1b1adb8d9b6cbda6b56f3f2d606362332",  # slide.onnx
        "db6dc83adc869e148842530a53eaa3aeeb327717f00286811bb51a501f427ace",  # taps.int8.onnx
        "dfc79b38892f1019072bfa4590fa24374e6b28693832168eba2809499cb9dcb2",  # taps.onnx
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
