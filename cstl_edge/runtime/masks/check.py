"""Check a mask network before any runtime opens it: sha256, then a child process.

As with other models: only the shipped networks are opened without the child.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from cstl_edge.errors import ModelError, one_line
from cstl_edge.runtime.manifest import read_file
from cstl_edge.runtime.masks.manifest import SHIPPED, SMALL, MaskManifest, read_mask_manifest
from cstl_edge.runtime.model_check import run_probe

MAX_MASK_BYTES = 64 * 2**20
SHIPPED_SHA256 = {
    SHIPPED: "70d99bcba10c0b97dfe024b4e44824eceb1e2ea6e0aeac355e8da56e1c1f2e2d",
    SMALL: "d0511468d325ed66238584667f0e4aeecabc488076dbc611b9be8591fef3864f",
}


def checked_mask(path: Path | None = None) -> tuple[MaskManifest, bytes]:
    """Return a mask network's manifest and the bytes of its graph, both checked (ModelError).

    path: the manifest; None for the larger shipped network
    """
    named = SHIPPED if path is None else path
    manifest = read_mask_manifest(named)
    place = named.parent / manifest.file
    data = read_file(place, MAX_MASK_BYTES)
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 != manifest.sha256:
        raise ModelError(
            f"{one_line(place)}: expected sha256 {manifest.sha256[:12]}… as in its manifest; got "
            f"{sha256[:12]}…. The file was changed or damaged"
        )
    if sha256 != SHIPPED_SHA256.get(named):
        run_probe({"mask": manifest.model_dump()}, {manifest.file: data})
    return manifest, data
