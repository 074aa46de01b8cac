"""Silhouettes that are kept with a walk, by consent alone: one compressed row each.

Letters: s frames, h w pixels.
"""

from __future__ import annotations

import io
import zlib

import numpy as np

from cstl_edge.arrays import Silhouettes
from cstl_edge.gallery.sealed_rows import SealedRows
from cstl_edge.gallery.sealing import BrokenSeal
from cstl_edge.gallery.stored_people import StoredEnrolment

_HEAD = np.dtype("<u4")  # s, h, w before the compressed pixels


def pack(silhouettes: Silhouettes) -> bytes:
    """Return the content of a row for silhouettes uint8 [s, h, w]."""
    head = np.array(silhouettes.shape, _HEAD).tobytes()
    return head + zlib.compress(np.ascontiguousarray(silhouettes, np.uint8).tobytes())


def read_silhouettes(rows: SealedRows, walk: StoredEnrolment) -> list[Silhouettes]:
    """Return the silhouettes [s, h, w] kept with a walk (GalleryError: damaged or missing)."""
    kept = list[Silhouettes]()
    for row in walk.record.silhouettes:
        what = f"silhouettes (number {row})"
        stored = rows.one("SELECT body FROM silhouettes WHERE id = ?", row)
        if stored is None:
            raise rows.damaged(what)
        content = bytes(rows.content(stored[0], walk.place_of("silhouettes", row), what))
        try:
            shape = np.frombuffer(content[:12], _HEAD)
            limit = int(shape.astype(np.int64).prod())
            pixels = zlib.decompressobj().decompress(content[12:], limit or 1)
            kept.append(np.frombuffer(pixels, np.uint8).reshape(shape))
        except (ValueError, zlib.error, BrokenSeal) as err:
            raise rows.damaged(what) from err
    return kept


def as_png(silhouette: Silhouettes) -> bytes:
    """Return one silhouette uint8 [h, w] as a PNG file."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(silhouette).save(file, "PNG")
    return file.getvalue()
