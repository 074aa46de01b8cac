"""What processes a site needs, and which of them a change of the site starts again."""

from __future__ import annotations

from pathlib import Path

from cstl_edge.errors import ModelError
from cstl_edge.foreign import load_json, open_regular, parsing
from cstl_edge.runtime.base import model_folder
from cstl_edge.runtime.manifest import read_manifest
from cstl_edge.serve.messages import FRONT, RECOGNISER, camera_process
from cstl_edge.serve.process import MIB, ProcessPlan
from cstl_edge.serve.site import Site
from cstl_edge.serve.worker_settings import WorkerSettings

WORKER_HANG_S, RECOGNISER_HANG_S, FRONT_HANG_S = 20.0, 30.0, 20.0
FRONT_MEMORY = 1500 * MIB
DEFAULT_SIZE = (64, 44)  # of a silhouette, where the model does not say: a server's
MAX_HEADER_BYTES = 2**24


def plans_of(site: Site, error: str | None = None, *, safe: bool = False) -> list[ProcessPlan]:
    """Return the processes of a site, in the order of their start.

    Args:
        site: The site.
        error: Why the file does not load, for the page.
        safe: Whether nothing is to run but the page.
    """
    front = ProcessPlan(
        FRONT,
        "cstl_edge.serve.front:main",
        (site, error, safe),
        FRONT_HANG_S,
        FRONT_MEMORY,
        identity=(safe, error if safe else None, site.page, site.data),
    )
    if safe:
        return [front]
    recogniser = ProcessPlan(
        RECOGNISER,
        "cstl_edge.serve.recogniser:main",
        (site,),
        RECOGNISER_HANG_S,
        site.recogniser.memory_mb * MIB,
        identity=(site.data, site.model, site.gallery_path, site.recogniser),
    )
    size = silhouette_size(site.model)
    return [front, recogniser, *(_worker(site, name, size) for name in enabled_cameras(site))]


def enabled_cameras(site: Site) -> list[str]:
    """Return the cameras that are looked at."""
    return [name for name, camera in site.cameras.items() if camera.enabled]


def _worker(site: Site, name: str, size: tuple[int, int]) -> ProcessPlan:
    camera, clips = site.cameras[name], site.keep.clips
    settings = WorkerSettings(
        camera=name,
        settings=camera,
        segmenter=camera.segmenter or site.segmenter,
        size=size,
        snapshots=site.keep.snapshots.enabled,
        ring_s=clips.before_s + clips.max_s if clips.enabled else 0.0,
        spool=site.spool,
    )
    return ProcessPlan(
        camera_process(name),
        "cstl_edge.serve.worker:main",
        (settings,),
        WORKER_HANG_S,
        camera.memory_mb * MIB,
        identity=(settings,),
    )


def silhouette_size(model: Path | None) -> tuple[int, int]:
    """Return height and width of a model's silhouettes, without loading it (ModelError)."""
    if model is None or model.is_dir():
        return read_manifest(model_folder(model)).shape.size
    if "://" in str(model):
        return DEFAULT_SIZE
    with parsing(model, "an exported folder or a checkpoint", ModelError):
        with open_regular(model) as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= MAX_HEADER_BYTES:
                raise ValueError("something else")
            header = load_json(file.read(length))
        height, width = load_json(header["__metadata__"]["config"])["size"]
        return int(height), int(width)
