"""Give mutated files to every parser of foreign files: each must answer, or refuse in one line.

python benchmarks/robustness/mutants.py --count 20000 --out mutants.jsonl
python benchmarks/robustness/mutants.py --parser yaml --count 500

A mutant is a sound file with bytes flipped, overwritten, cut out, doubled or cut off, or with a
number or a bracket of its text replaced. Good are a result and an error of ours without a line
break, within 10 s and 1 GiB; anything else is a fault, whose file is kept beside the results. Each
parser runs in a process of its own, which a crash ends; one line of JSON per parser.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import pickle
import resource
import signal
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cstl_edge.errors import CstlEdgeError
from cstl_edge.measure.environment import environment
from cstl_edge.output import append_line, write_file

SECONDS, MEMORY_BYTES = 10, 2**30
CONFIGS = Path(__file__).parents[2] / "train" / "configs"
GOLDEN = Path(__file__).parents[2] / "tests" / "golden"
TEXTS = (b"1e999", b"-1", b"99999999999999999999", b"0b_", b"[" * 40, b"{", b"null", b'"', b"!!x")

Parser = tuple[bytes, str, Callable[[Path], Any]]
"""A sound file, the suffix of its name, and the function that reads it."""


def walk() -> np.ndarray[Any, Any]:
    """Return silhouettes of somebody who stands, uint8 [s, h, w]."""
    silhouettes = np.zeros((8, 64, 44), np.uint8)
    silhouettes[:, 2:12, 18:26] = silhouettes[:, 12:62, 15:29] = 255
    return silhouettes


def saved(save: Callable[[io.BytesIO], Any]) -> bytes:
    """Return what a function writes into a file."""
    file = io.BytesIO()
    save(file)
    return file.getvalue()


def npy() -> Parser:
    """Silhouettes of `enroll --silhouettes`."""
    from cstl_edge.silhouette import read_silhouettes

    return saved(lambda file: np.save(file, walk())), ".npy", read_silhouettes


def image() -> Parser:
    """A mask of a dataset."""
    from PIL import Image

    from cstl_edge.silhouette import read_image

    content = saved(lambda file: Image.fromarray(walk()[0]).save(file, format="PNG"))
    return content, ".png", lambda path: read_image(path, grey=True)


def pkl() -> Parser:
    """Silhouettes as OpenGait writes them."""
    from cstl_edge.data.importing.safe_pickle import read_pickle

    return pickle.dumps(walk(), protocol=4), ".pkl", read_pickle


def settings() -> Parser:
    """A configuration in YAML."""
    from cstl_edge.config import load_config
    from cstl_edge.training.settings import TrainConfig

    content = next(CONFIGS.glob("*.yaml")).read_bytes()
    return content, ".yaml", lambda path: load_config(TrainConfig, path)


def safetensors() -> Parser:
    """A checkpoint of ours."""
    from cstl_edge.checkpoint.weights import load_checkpoint

    return (GOLDEN / "tiny.safetensors").read_bytes(), ".safetensors", load_checkpoint


def released() -> Parser:
    """A checkpoint of torch.save."""
    import torch

    from cstl_edge.checkpoint.import_released import import_released, released_shapes
    from cstl_edge.model import CstlConfig

    small = {"size": (64, 44), "widths": (2, 4, 8, 8), "parts": 32, "embedding": 8}
    config = CstlConfig.from_dict({**small, "classes": 0, "variant": "released"})
    tensors = {key: torch.zeros(shape) for key, shape in released_shapes(config).items()}
    return saved(lambda file: torch.save(tensors, file)), ".pt", import_released


def manifest() -> Parser:
    """The manifest of an exported model."""
    from cstl_edge.runtime.manifest import NAME, read_manifest

    def read(path: Path) -> Any:
        target = path.with_name(NAME)
        path.replace(target)
        return read_manifest(target.parent)

    return (GOLDEN / "tiny" / NAME).read_bytes(), ".json", read


def onnx() -> Parser:
    """A graph, as the child process of the model check looks at it."""
    from cstl_edge.runtime.graph_format import check_graph
    from cstl_edge.runtime.manifest import read_manifest

    shape, name = read_manifest(GOLDEN / "tiny").shape, "mix.onnx"
    content = (GOLDEN / "tiny" / name).read_bytes()
    return content, ".onnx", lambda path: check_graph(name, path.read_bytes(), shape)


def bundle() -> Parser:
    """The results of a board."""
    from cstl_edge.bench.jetson.bundle import MEMBERS, RESULTS, read_bundle
    from cstl_edge.bench.record import Row, row_json

    row = Row(run="r", scenario="single", contender="c", samples={"wall": [1.0, 2.0]})
    line = json.dumps(row_json(row)).encode()

    def pack(file: io.BytesIO) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for member in sorted(MEMBERS):
                archive.writestr(member, line if member == RESULTS else b"{}")

    return saved(pack), ".zip", read_bundle


PARSERS: dict[str, Callable[[], Parser]] = {
    maker.__name__: maker
    for maker in (npy, image, pkl, settings, safetensors, released, manifest, onnx, bundle)
}


def mutate(content: bytes, rng: np.random.Generator) -> bytes:
    """Return a copy with one to four faults; half of them in the first 512 bytes."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        end = min(len(data), 512) if rng.random() < 0.5 else len(data)
        at = int(rng.integers(0, max(1, end)))
        kind = int(rng.integers(0, 7))
        if not data:
            break
        if kind == 0:
            data[at] ^= 1 << int(rng.integers(0, 8))
        elif kind == 1:
            data[at] = int(rng.integers(0, 256))
        elif kind == 2:
            del data[at : at + int(rng.integers(1, 64))]
        elif kind == 3:
            data[at:at] = data[at : at + int(rng.integers(1, 64))]
        elif kind == 4:
            del data[at + 1 :]
        elif kind == 5:
            data[at : at + 8] = int(rng.integers(0, 2**63)).to_bytes(8, "little")
        else:
            data[at : at + 1] = TEXTS[int(rng.integers(0, len(TEXTS)))]
    return bytes(data)


class TooLongError(BaseException):
    """A parser that takes more than SECONDS; no Exception, so that none of it is swallowed."""


def _too_long(*_: object) -> None:
    raise TooLongError


def attempt(read: Callable[[Path], Any], path: Path) -> str:
    """Return what a parser makes of a file: `read`, `refused`, or the fault."""
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        read(path)
        return "read"
    except CstlEdgeError as err:
        return "refused" if "\n" not in str(err) and len(str(err)) < 2000 else "long message"
    except BaseException as err:
        return f"{type(err).__name__}: {str(err)[:120]}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def run_parser(name: str, count: int, seed: int, keep: Path, results: Any) -> None:
    """Give `count` mutants to a parser and put the counts and the largest figures into a queue."""
    import logging

    logging.disable(logging.CRITICAL)
    content, suffix, read = PARSERS[name]()
    signal.signal(signal.SIGALRM, _too_long)
    rng, counts, faults, slowest_s = np.random.default_rng(seed), Counter[str](), [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"mutant{suffix}"
        path.write_bytes(content)
        sound = attempt(read, path)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for number in range(count):
            data = mutate(content, rng)
            path.write_bytes(data)
            write_file(keep / f"{name}_last{suffix}", data) if number % 1000 == 0 else None
            start = time.perf_counter()
            verdict = attempt(read, path)
            slowest_s = max(slowest_s, time.perf_counter() - start)
            counts[verdict if verdict in ("read", "refused") else "fault"] += 1
            if verdict not in ("read", "refused"):
                write_file(keep / f"{name}_{number}{suffix}", data)
                faults.append(f"{number}: {verdict}")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    if grown > MEMORY_BYTES:
        faults.append(f"took {grown >> 20} MiB")
    results.put(
        {
            "parser": name, "mutants": count, "seed": seed, "sound_file": sound, **counts,
            "faults": faults[:20], "slowest_s": round(slowest_s, 2), "memory_mib": grown >> 20,
        }
    )  # fmt: skip


def main() -> int:
    """Run the parsers; exit 1 when any has a fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parser", choices=PARSERS, action="append")
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("mutants.jsonl"))
    args = parser.parse_args()
    spawn, bad = multiprocessing.get_context("spawn"), 0
    for name in args.parser or PARSERS:
        keep = args.out.with_suffix("") / name
        results = spawn.Queue()
        child = spawn.Process(
            target=run_parser, args=(name, args.count, args.seed, keep, results), daemon=True
        )
        child.start()
        record = None
        while record is None and (child.is_alive() or not results.empty()):
            try:
                record = results.get(timeout=1)
            except Exception:  # nothing yet
                continue
        child.join()
        record = record or {"parser": name, "faults": [f"the process died: {child.exitcode}"]}
        bad += bool(record["faults"])
        append_line(args.out, {"benchmark": "mutants", **record, "environment": environment()})
        print(name, {key: record.get(key) for key in ("read", "refused", "fault", "slowest_s")})
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
