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
        "d808bd396b5306f3a80e27f806732425f135ce69bbcf6bc8f2bdac3c36b411f2",  # frames.int8.onnx
        "e0b1f23adc75ededad0d4f805c54f9c9a7af42df060de8a76e00c84bf2f62621",  # frames.onnx
        "50c560368524c9539e4859536b9426b426bcfae577bca160d81ad7a0f98fc7d9",  # head.fp16.onnx
        "d23616bd5f30b34e8a8093a8a53b39fc2bcd0958e7be4715d77eb2564445c61b",  # head.onnx
        "ffead0bdb25410ffdf32b7b52fa255a7fd75f646f94abe0f2c63a1320801b001",  # mix.int8.onnx
        "08c37ccc0e3231c1fca877ee3d6d3a157edbad789eb72001d9e303f2c0c6260d",  # mix.onnx
        "fad009e6dae6064cb20ee18034782251316da75d96b031505cacf1238da06ca0",  # slide.int8.onnx
        "3c6c4dd242283b2f35f5012081c97d62b0ce39b706fb80779a88c59edf8daa37",  # slide.onnx
        "92dbdd5caa8adb4fca082a1156c1cc62b9b30d6937791a32343e1bdb8dc20085",  # taps.int8.onnx
        "c0a57e2851a54714171c21f151eef61166a6e13f19cb117d0d27847f254a6a6a",  # taps.onnx
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
