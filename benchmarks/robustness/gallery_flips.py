"""Flip single bits of a gallery file and see whether anybody gets another name.

python benchmarks/robustness/gallery_flips.py                  # 2,000 flips, half encrypted
python benchmarks/robustness/gallery_flips.py --flips 200 --out flips.jsonl

Each trial flips one random bit of a copy, opens it, lists everybody and identifies a walk of each
person and of a stranger. Right is the same answer as before, or a refusal (GalleryError); another
name, another record or another exception is a fault. One line of JSON per trial; exit 1 at a fault.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from cstl_edge.arrays import Floats
from cstl_edge.distance import EUCLIDEAN
from cstl_edge.errors import GalleryError
from cstl_edge.gallery.camera_means import CameraMean
from cstl_edge.gallery.gallery import Gallery
from cstl_edge.gallery.keys import GalleryKey
from cstl_edge.gallery.records import WalkOrigin
from cstl_edge.measure.environment import environment
from cstl_edge.output import append_line

PEOPLE, PARTS, DIMENSIONS = 12, 16, 32
SHA256 = "ab" * 32
KEY = GalleryKey(passphrase="a passphrase for flips")
FAULTS = ("wrong name", "changed record", "exception")


def stand_in() -> Any:
    """Return the model of the gallery: its name is all that is needed."""
    info = SimpleNamespace(
        weights_sha256=SHA256, impostors=None, distance=EUCLIDEAN, confidence=None
    )
    return SimpleNamespace(info=info)


def walks() -> list[Floats]:
    """Return a walk [k, p, d] of everybody, and of a stranger."""
    rng = np.random.default_rng(3)
    centres = rng.standard_normal((PEOPLE + 1, 1, PARTS, DIMENSIONS))
    return [
        (centre + 0.1 * rng.standard_normal((3, PARTS, DIMENSIONS))).astype(np.float32)
        for centre in centres
    ]


def make(path: Path, *, encrypt: bool) -> None:
    """Make a gallery with people, a retention, an erased person and the sums of a camera."""
    with Gallery.open(path, stand_in(), key=KEY, encrypt=encrypt) as gallery:
        for number, walk in enumerate(walks()[:-1]):
            days = 900.0 if number % 3 == 0 else None
            gallery.enroll(
                f"Person{number:02d}",
                walk[:2],
                consent=f"note {number}",
                retention_days=days,
                origin=WalkOrigin(camera="door", view="left"),
            )
        gallery.enroll("Gone", walks()[-1] + 3, consent="note")
        gallery.remove("Gone")
        mean = CameraMean.empty("door", SHA256, PARTS, DIMENSIONS).with_walk(walks()[0][0])
        gallery.camera_means.save(mean)


def answers(path: Path) -> tuple[list[dict[str, Any]], list[str | None], list[float]]:
    """Return the records of everybody, who is named for each walk, and the mean of the camera."""
    with Gallery.open(path, stand_in(), create=False, key=KEY) as gallery:
        records = [asdict(person) for person in gallery.people()]
        names = [gallery.identify(walk[2], threshold=1.5).name for walk in walks()]
        means = [float(mean.mean.sum()) for mean in gallery.camera_means.all()]
    return records, names, means


def flip(base: bytes, path: Path, expected: Any, position: int, bit: int) -> tuple[str, str]:
    """Flip one bit of a gallery; return what came of it, and the refusal if there is one.

    Args:
        base: Content of the whole file.
        path: Where the flipped file is written.
        expected: The whole file's `answers`.
        position: Byte of the file.
        bit: Bit of the byte, 0..7.
    """
    for leftover in path.parent.glob(f"{path.name}*"):
        leftover.unlink()
    content = bytearray(base)
    content[position] ^= 1 << bit
    path.write_bytes(content)
    path.chmod(0o600)
    try:
        records, names, means = answers(path)
    except GalleryError as err:
        return "refused", str(err)[:160].replace(str(path), "FILE")
    except Exception as err:  # any other is a fault
        return "exception", f"{type(err).__name__}: {err}"[:160]
    if names != expected[1]:
        return "wrong name", str(names)
    return ("same", "") if (records, means) == (expected[0], expected[2]) else (
        "changed record",
        str(records)[:160],
    )  # fmt: skip


def run(flips: int, seed: int, out: Path | None) -> Counter[str]:
    """Flip bits of a plain gallery and of an encrypted one; return how often each came of it.

    Args:
        flips: Number of trials.
        seed: Of the positions.
        out: File of JSON lines, appended to; None: none is written.
    """
    dice, counts = random.Random(seed), Counter[str]()
    record = {"run": f"flips-{int(time.time())}"}
    if out:
        append_line(out, record | {"flips": flips, "environment": environment()})
    with tempfile.TemporaryDirectory() as folder:
        for encrypt in (False, True):
            path = Path(folder) / f"base{encrypt}.db"
            make(path, encrypt=encrypt)
            base, expected = path.read_bytes(), answers(path)
            for _ in range(flips // 2):
                position, bit = dice.randrange(len(base)), dice.randrange(8)
                outcome, detail = flip(base, Path(folder) / "f.db", expected, position, bit)
                counts[outcome] += 1
                row = {"encrypted": encrypt, "position": position, "bit": bit, "outcome": outcome}
                if out:
                    append_line(out, record | row | ({"detail": detail} if detail else {}))
    if out:
        append_line(out, record | {"counts": dict(counts)})
    return counts


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--flips", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    results = Path(__file__).parents[1] / "results" / "robustness"
    parser.add_argument("--out", type=Path, default=results / "gallery_flips.jsonl")
    args = parser.parse_args()
    counts = run(args.flips, args.seed, args.out)
    print(f"{sum(counts.values())} flips: {dict(counts)}")
    return int(any(counts[fault] for fault in FAULTS))


if __name__ == "__main__":
    sys.exit(main())
