"""The network that is measured: the shipped one, one that is given, or one of random weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cstl_edge.bench.context import Context
from cstl_edge.bench.exported import cache_folder, is_export, kept, prepared
from cstl_edge.bench.record import Subject
from cstl_edge.errors import ConfigError, one_line
from cstl_edge.runtime.manifest import read_manifest
from cstl_edge.runtime.provenance import ENGINES

NETWORKS = ("shipped", "paper")
SEED = 0
Tell = Callable[[str], None]


def chosen(
    model: Path | None, weights: Path | None, network: str, make: bool, tell: Tell
) -> tuple[Path, Path | None, Path | None]:
    """Return the exported model, its checkpoint, and another export with engines, if there are.

    make: export what is not there yet, which takes a minute
    Raises ConfigError for choices that contradict each other, ModelError for files refused.
    """
    if network not in NETWORKS:
        raise ConfigError(f"expected --network of {', '.join(NETWORKS)}; got {one_line(network)!r}")
    if network == "paper":
        if model or weights:
            raise ConfigError("--network paper has random weights: leave out --model and --weights")
        weights = _random({})
    if model is not None:
        return model, _checkpoint_of(model, weights), None
    if weights is not None:
        return prepared(weights, tell), weights, None
    return _shipped(make, tell)


def subject_of(folder: Path, trained: bool) -> Subject:
    """Return what an exported model says of itself (ModelError)."""
    manifest = read_manifest(folder)
    shape = manifest.shape
    return Subject(
        name=manifest.model,
        weights_sha256=manifest.weights_sha256,
        size=shape.size,
        parts=shape.parts,
        widths=shape.widths,
        trained=trained,
    )


def with_random_weights(context: Context, size: tuple[int, int]) -> Context:
    """Return the context of the same network for another silhouette size, with random weights."""
    weights = _random({**read_manifest(context.folder).config, "size": list(size)})
    folder = prepared(weights, context.tell)
    subject = subject_of(folder, trained=False)
    return replace(context, folder=folder, weights=weights, subject=subject, engines=None)


def _shipped(make: bool, tell: Tell) -> tuple[Path, Path | None, Path | None]:
    """Return the shipped model, or an export of its weights with more precisions."""
    import cstl_edge

    folder = Path(cstl_edge.__file__).parent / "assets" / "cstl-walkers"
    weights = folder.with_suffix(".safetensors")
    engines = folder if (folder / ENGINES).is_dir() else None
    made = kept(read_manifest(folder).weights_sha256)
    if is_export(made):
        return made, weights, engines
    if make:
        try:
            return prepared(weights, tell), weights, engines
        except ConfigError as err:
            tell(f"only the graphs that are shipped: {err}")
    return folder, weights, None


def _checkpoint_of(model: Path, weights: Path | None) -> Path | None:
    """Return the checkpoint of an exported model, the one beside it when none is given.

    Raises ConfigError for a checkpoint of other weights.
    """
    beside = model.with_name(f"{model.name}.safetensors")
    candidate = weights or (beside if beside.is_file() else None)
    if candidate is None:
        return None
    try:
        from cstl_edge.training.checkpoint import read_header
    except ImportError:
        return None  # nobody could run it either
    theirs = read_header(candidate)[0].get("weights_sha256")
    if theirs == read_manifest(model).weights_sha256:
        return candidate
    if weights is None:
        return None
    raise ConfigError(
        f"{one_line(weights)} and {one_line(model)} are different networks: export the weights "
        "again, or leave one of the two out"
    )


def _random(config: Mapping[str, Any]) -> Path:
    """Return a checkpoint with random weights, always the same; ConfigError without torch."""
    try:
        import torch

        from cstl_edge.model import Cstl, CstlConfig
        from cstl_edge.training.checkpoint import save_checkpoint
    except ImportError as err:
        raise ConfigError(
            'random weights are made with torch: pip install "cstl-edge[export]"'
        ) from err
    shape = CstlConfig.from_dict(config)
    digest = hashlib.sha256(json.dumps(shape.to_dict(), sort_keys=True).encode()).hexdigest()
    path = cache_folder() / f"random-{digest[:16]}.safetensors"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with torch.random.fork_rng():
            torch.manual_seed(SEED)
            save_checkpoint(path, Cstl(shape), {"name": "random weights"}, half=True)
    return path
