"""What a camera's worker is told; a change of it starts the worker again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cstl_edge.serve.site import CameraSettings


@dataclass(frozen=True)
class WorkerSettings:
    """What one worker is told."""

    camera: str
    settings: CameraSettings
    segmenter: str
    size: tuple[int, int]  # height and width of a silhouette [pixels]
    snapshots: bool  # whether pictures of visits are kept
    ring_s: float  # seconds of pictures kept for clips; 0 keeps none
    spool: Path
