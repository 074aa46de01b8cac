"""Build the TensorRT engines of an exported folder for this machine's GPU: `build_engines`.

Each plan is built in a child process, checked (types of its layers, outputs beside ONNX Runtime)
and written with its record, all engines of a folder at once or none. Building has not run on a
device yet: the tests run it with a stand-in for TensorRT, and TensorRT-RTX runs the same code.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cstl_edge.errors import ConfigError, ExportError, one_line
from cstl_edge.export.folder import json_bytes, sha256, write_files
from cstl_edge.export.tensorrt.builder import RTX, PlanRequest, sm_of_target
from cstl_edge.export.tensorrt.checks import RUN, check_types, compare_engines
from cstl_edge.export.tensorrt.child import BuildReport, run_child
from cstl_edge.runtime.graph_format import DOMAIN, OPERATOR, PLUGIN_VERSION
from cstl_edge.runtime.manifest import Manifest, Shape, read_manifest
from cstl_edge.runtime.model_check import checked_graphs
from cstl_edge.runtime.tensorrt.record import (
    ENGINES,
    SUFFIX,
    TENSORRT,
    EngineRecord,
    Plugin,
    Profile,
    SizeRange,
)

log = logging.getLogger(__name__)

GRAPHS = ("frames", "head", "full")
PLUGIN = ("auto", "on", "off")
COMPATIBILITY = ("none", "same", "ampere")
TYPICAL_WALKERS = 8  # what the second profile is fastest for
MOST_WALKERS = 32

Progress = Callable[[str, str, float], None]
"""Called with the graph that is built, the builder's phase, and the share of it done (0..1)."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of the calls that an engine has to take."""

    walkers: int = MOST_WALKERS  # in one call; more are cut into several
    window: int = 30  # frames of a live window
    frames: int = 240  # frames of the longest sequence

    def __post_init__(self) -> None:
        """Refuse sizes out of range (ConfigError)."""
        if not 1 <= self.walkers <= MOST_WALKERS:
            raise ConfigError(f"expected 1..{MOST_WALKERS} walkers; got {self.walkers}")
        if not 1 <= self.window <= self.frames:
            raise ConfigError(
                f"expected a window of 1..{self.frames} frames, the longest sequence; "
                f"got {self.window}"
            )


@dataclass(frozen=True)
class BuildOptions:
    """How engines are built."""

    precision: str | None = None  # by default fp16 where the folder has it, else float32
    graphs: Sequence[str] = RUN  # some of `GRAPHS`
    target: str = TENSORRT  # this machine's, or one for TensorRT-RTX ahead of time, as `rtx-sm89`
    plugin: str = "auto"  # one of `PLUGIN`: whether the part gather is the plugin's kernel
    sizes: Sizes = field(default_factory=Sizes)
    workspace_mib: int | None = None  # scratch memory for kernels; by default 1/4 of what is free
    level: int = 3  # optimisation level, 0..5
    compatibility: str = "none"  # one of `COMPATIBILITY`: other GPUs that the engines shall run on

    def __post_init__(self) -> None:
        """Refuse values that do not exist (ConfigError)."""
        for name, allowed in (("plugin", PLUGIN), ("compatibility", COMPATIBILITY)):
            if getattr(self, name) not in allowed:
                got = one_line(getattr(self, name))
                raise ConfigError(f"expected {name} of {', '.join(allowed)}; got {got!r}")
        if self.target != TENSORRT:
            sm_of_target(self.target)
        if not 0 <= self.level <= 5:
            raise ConfigError(f"expected a level of 0..5; got {self.level}")
        if self.workspace_mib is not None and self.workspace_mib < 1:
            raise ConfigError(f"expected a workspace of at least 1 MiB; got {self.workspace_mib}")
        if not self.graphs or set(self.graphs) - set(GRAPHS):
            got = one_line(",".join(self.graphs))
            raise ConfigError(f"expected graphs of {', '.join(GRAPHS)}; got {got!r}")

    def words(self, precision: str) -> dict[str, Any]:
        """Return the options of the command line that ask for the same again, by name."""
        words: dict[str, Any] = {"precision": precision, "graphs": ",".join(self.graphs)}
        words |= {"for": self.target} if self.target != TENSORRT else {}
        words |= {"plugin": self.plugin, "level": self.level, "compatibility": self.compatibility}
        words |= {"workspace": self.workspace_mib} if self.workspace_mib else {}
        return {**words, **asdict(self.sizes)}


def build_engines(
    folder: str | Path, options: BuildOptions | None = None, progress: Progress | None = None
) -> dict[str, EngineRecord]:
    """Build the engines of an exported folder into its `engines`; return their records by graph.

    What was there before stays when something fails.

    Args:
        folder: Exported model.
        options: Options of the build.
        progress: Callback at every step of a builder.

    Raises:
        BackendUnavailable: there is no TensorRT or no GPU.
        ExportError: a build or a check failed.
        ModelError: the folder is refused.
    """
    source, notify = Path(folder), progress or (lambda graph, phase, share: None)
    options = options or BuildOptions()
    manifest = read_manifest(source)
    precision = options.precision or ("fp16" if "fp16" in manifest.precisions else "float32")
    sources = graph_files(manifest, precision, options.graphs)
    graphs = checked_graphs(source, manifest, sources.values())
    records: dict[str, EngineRecord] = {}
    plans: dict[str, bytes] = {}
    for graph, file in sources.items():
        notify(graph, "starting", 0.0)
        start = time.perf_counter()
        request = _request(options, manifest, graph)
        report, plan = run_child(graphs[file], request, lambda *step, g=graph: notify(g, *step))
        check_types(graph, precision, report["audit"]["network"])
        entries: dict[str, Any] = {"graph": graph, "onnx": file, "precision": precision}
        entries |= {"plan_sha256": sha256(plan), "build_s": time.perf_counter() - start}
        plans[graph] = plan
        records[graph] = _record(manifest, options, request, report, **entries)
    if options.target == TENSORRT:
        notify("all", "comparing with ONNX Runtime", 0.0)
        parity = compare_engines(plans, records, manifest, source)
        records = {g: r.model_copy(update={"parity": parity.get(g)}) for g, r in records.items()}
    files = {f"{graph}{SUFFIX}": plan for graph, plan in plans.items()}
    files |= {f"{graph}{SUFFIX}.json": json_bytes(record) for graph, record in records.items()}
    write_files(source / ENGINES / options.target, files)
    return records


def graph_files(manifest: Manifest, precision: str, graphs: Sequence[str]) -> dict[str, str]:
    """Return the file of each graph in a precision, as the manifest names it.

    Args:
        manifest: Manifest of the exported folder.
        precision: Precision, `float32`, `fp16` or `int8`.
        graphs: Some of `GRAPHS`.

    Raises:
        ModelError: the folder does not have this precision.
        ExportError: it does not have one of the graphs in it.
    """
    frames, head = manifest.graphs(precision, TENSORRT)
    fulls = (x.full for name, x in manifest.precisions.items() if name == precision)
    files = {"frames": frames, "head": head, "full": next(fulls, "full.onnx")}
    if precision == "int8" and "full" in graphs:
        raise ExportError("int8 is of frames and head, there is no full graph in it: leave it out")
    missing = [graph for graph in graphs if files[graph] not in manifest.files]
    if missing:
        raise ExportError(
            f"expected the graph {missing[0]} in {precision}; the folder has "
            f"{', '.join(sorted(manifest.files))}. Export it, or leave it out: --graphs"
        )
    return {graph: str(files[graph]) for graph in GRAPHS if graph in graphs}


def _request(options: BuildOptions, manifest: Manifest, graph: str) -> PlanRequest:
    sm = sm_of_target(options.target) if options.target != TENSORRT else None
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    mib = options.workspace_mib
    return PlanRequest(
        library=TENSORRT if sm is None else RTX,
        profiles=profiles(graph, manifest.shape, options.sizes),
        sm=sm,
        plugin="off" if sm is not None else options.plugin,  # TensorRT-RTX aborts on plugins
        workspace_bytes=None if mib is None else mib * 2**20,
        level=options.level,
        compatibility=options.compatibility,
        cache_folder=str(Path(cache) / "cstl-edge") if sm is None else None,
    )


def profiles(graph: str, shape: Shape, sizes: Sizes) -> list[Profile]:
    """Return the profiles of a graph.

    Args:
        graph: Name of the graph, `frames`, `head` or `full`.
        shape: Shape of the network.
        sizes: Sizes of the calls.
    """
    one, many = (1, 1, 1), (1, min(TYPICAL_WALKERS, sizes.walkers), sizes.walkers)
    window, any_length = (sizes.window,) * 3, (1, sizes.window, sizes.frames)
    pixels, feature = _fixed(*shape.size), _fixed(shape.parts, shape.channels)
    if graph == "frames":
        return [{"silhouettes": _range(rows, *pixels)} for rows in _distinct(one, many)]
    name, rest = ("features", feature) if graph == "head" else ("silhouettes", pixels)
    return [
        {name: _range(rows, frames, *rest), "lengths": _range(rows)}
        for rows, frames in _distinct((one, window), (many, any_length))
    ]


def _distinct(*wanted: Any) -> list[Any]:
    """Drop duplicates: an engine for one walker has one profile."""
    return list(dict.fromkeys(wanted))


def _fixed(*sizes: int) -> list[tuple[int, int, int]]:
    return [(size, size, size) for size in sizes]


def _range(*axes: tuple[int, int, int]) -> SizeRange:
    """Return the range of an input from (min, opt, max) of its axes."""
    low, best, high = zip(*axes, strict=True)
    return SizeRange(min=low, opt=best, max=high)


def _record(
    manifest: Manifest,
    options: BuildOptions,
    request: PlanRequest,
    report: BuildReport,
    **own: Any,
) -> EngineRecord:
    """Return the record of a plan, to which the caller gives entries of its own."""
    from cstl_edge import __version__

    gpu = report["gpu"] or {"name": None, "sm": request.sm, "cuda": None}
    plugin = None
    digest = report["plugin_sha256"]
    if report["audit"]["part_gather"] == "plugin" and digest is not None:
        plugin = Plugin(name=OPERATOR, version=PLUGIN_VERSION, namespace=DOMAIN, sha256=digest)
    return EngineRecord.model_validate(
        own
        | {
            "format": 1,
            "model": manifest.model,
            "weights_sha256": manifest.weights_sha256,
            "onnx_sha256": manifest.files[own["onnx"]],
            "library": request.library,
            "version": report["version"],
            "sm": gpu["sm"],
            "gpu": gpu["name"],
            "cuda": gpu["cuda"],
            "compatibility": request.compatibility,
            "plugin": plugin,
            "profiles": request.profiles,
            "window": options.sizes.window,
            "options": options.words(own["precision"]),
            "audit": report["audit"],
            "created_with": {"cstl_edge": __version__, "python": sys.version.split()[0]},
            "created_utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
    )
