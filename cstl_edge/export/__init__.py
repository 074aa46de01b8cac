"""From trained weights to a folder of ONNX graphs that every runtime of ours reads.

from cstl_edge.export import export_model
export_model("runs/train/best.safetensors", "exported/")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cstl_edge.export.exporter import export_model
    from cstl_edge.export.manifest import attach

__all__ = ["attach", "export_model"]


def __getattr__(name: str) -> Any:
    """Import late: the simplifier's child process passes through here and needs no torch."""
    if name == "export_model":
        from cstl_edge.export.exporter import export_model

        return export_model
    if name == "attach":
        from cstl_edge.export.manifest import attach

        return attach
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
