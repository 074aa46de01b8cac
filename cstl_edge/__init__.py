"""cstl_edge: recognise people by their walk on a small computer.

The public names load on first use, so that `import cstl_edge` costs nothing:

load              a model on a backend: `load()` is the shipped one on ONNX Runtime
Gallery           people and their templates in one SQLite file
read_silhouettes  a folder of silhouettes or masks, aligned: uint8 [s, h, w]
read_walks        the walkers of a video, one by one, with silhouettes and embeddings
watch             events of a camera, a file or a stream, as they happen
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cstl_edge.gallery.gallery import Gallery
    from cstl_edge.live.api import read_walks, watch
    from cstl_edge.runtime import load
    from cstl_edge.silhouette import read_silhouettes


__version__ = "0.1.0.dev0"
__all__ = ["Gallery", "load", "read_silhouettes", "read_walks", "watch"]

# ONNX Runtime from 1.32 on writes a device id and looks up a host when it is imported; this, set
# before and inherited by child processes, is the only thing that stops both
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_HOMES = {
    "Gallery": "cstl_edge.gallery.gallery",
    "load": "cstl_edge.runtime",
    "read_silhouettes": "cstl_edge.silhouette",
    "read_walks": "cstl_edge.live.api",
    "watch": "cstl_edge.live.api",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'cstl_edge' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
