"""Shifted test set of Walkers: frozen masks in an asset, unpacked into a shard of the cache.

Its people walk like six recorded ones that no training sees, in other garments, with other bags,
before other pictures, cut out by another segmenter (`benchmarks/make_shifted_walkers.py`). Each has
five walks from four sides: nm-01 enrolls; nm-05 is another walk of that day, nm-06 one in other
clothes, bg-01 and cl-01 add a bag and a coat to the first outfit. Letters: `m` sequences, `f`
frames, `h w` pixels.
"""

from __future__ import annotations

import hashlib
import lzma
from importlib import resources
from pathlib import Path

import numpy as np

from cstl_edge.arrays import Silhouettes
from cstl_edge.data.shards import ShardWriter
from cstl_edge.silhouette import LARGE, SMALL

ASSET = "walkers_shifted.npz"


def shifted_fingerprint() -> str:
    """Return 12 hex digits that name the asset."""
    data = (resources.files("cstl_edge") / "assets" / ASSET).read_bytes()
    return hashlib.sha256(data).hexdigest()[:12]


def shifted_shards(cache: str | Path, size: tuple[int, int] = SMALL) -> list[Path]:
    """Return the shard of the shifted set; it is unpacked when the cache lacks it.

    Args:
        cache: Folder of caches.
        size: Height and width of a silhouette in pixels.
    """
    folder = Path(cache) / f"walkers-shifted-{shifted_fingerprint()}"
    path = folder / f"people-{size[0]}.json"
    if not path.exists():
        with (resources.files("cstl_edge") / "assets" / ASSET).open("rb") as file:
            stored = np.load(file, allow_pickle=False)
            labels = {name: stored[name] for name in stored.files}
        frames = _unpacked(labels.pop("packed").tobytes(), size)
        ends = np.cumsum(labels["lengths"])
        with ShardWriter(path.with_suffix(""), size) as writer:
            for row, (end, length) in enumerate(zip(ends, labels["lengths"], strict=True)):
                writer.add(
                    frames[end - length : end],
                    person=int(labels["people"][row]),
                    sequence=str(labels["sequences"][row]),
                    view_deg=int(labels["views_deg"][row]),
                )
    return [path]


def _unpacked(packed: bytes, size: tuple[int, int]) -> Silhouettes:
    """Return all frames [f, h, w]; at the small size a pixel is the mean of four."""
    h, w = LARGE
    block = np.frombuffer(lzma.decompress(packed), np.uint8).reshape(-1, h, w // 8)
    bits = np.unpackbits(np.bitwise_xor.accumulate(block, axis=0), axis=-1)  # [f, 128, 88]
    if size == LARGE:
        return bits * np.uint8(255)
    quarters = bits.reshape(len(bits), h // 2, 2, w // 2, 2).sum((2, 4), dtype=np.uint16)
    return np.asarray((quarters * 255 + 2) // 4, np.uint8)
