"""Build the TensorRT engines of an exported folder for this machine's GPU: `build_engines`.

Each plan is built in a child process, checked (types of its layers, outputs beside ONNX Runtime)
and written with its record, all engines of a folder at once or none. Building has not run on a
device yet: the tests run it with a stand-in for TensorRT, and TensorRT-RTX runs the same code.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from cstl_edge.errors import ConfigError, ExportError, one_line
from cstl_edge.export.folder import json_bytes, sha256, write_files
from cstl_edge.export.tensorrt.builder import RTX, PlanRequest, sm_of_target
from cstl_edge.export.tensorrt.checks import RUN, check_types, compare_engines
from cstl_edge.export.tensorrt.child import BuildReport, run_child
from cstl_edge.export.tensorrt.plugin_choice import Candidate, time_candidates
from cstl_edge.output import user_folder
from cstl_edge.runtime.graph_format import DOMAIN, OPERATOR, PLUGIN_VERSION
from cstl_edge.runtime.manifest import PRECISIONS, Manifest, Shape, read_manifest
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
TYPICAL_WALKERS = 8  # what the live profile is fastest for
MOST_WALKERS = 32
LONG_WALKERS = 4  # sequences beyond the window in one call: 32 of 240 frames need a gigabyte
LONG_WINDOWS = 4  # what the long profile is fastest for, in windows

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
        choices = (("plugin", PLUGIN), ("compatibility", COMPATIBILITY), ("precision", PRECISIONS))
        for name, allowed in choices:
            if getattr(self, name) not in (*allowed, None):
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
        source_of = Source(graph, file, precision, graphs[file])

        def steps(phase: str, share: float, graph: str = graph) -> None:
            notify(graph, phase, share)

        records[graph], plans[graph] = _chosen_plan(source, manifest, options, source_of, steps)
    if options.target == TENSORRT:
        notify("all", "comparing with ONNX Runtime", 0.0)
        parity = compare_engines(plans, records, manifest, source)
        records = {g: r.model_copy(update={"parity": parity.get(g)}) for g, r in records.items()}
    files = {f"{graph}{SUFFIX}": plan for graph, plan in plans.items()}
    files |= {f"{graph}{SUFFIX}.json": json_bytes(record) for graph, record in records.items()}
    write_files(source / ENGINES / options.target, files)
    return records


@dataclass(frozen=True)
class Source:
    """A graph to build."""

    graph: str  # one of `GRAPHS`
    file: str  # its name in the exported folder
    precision: str
    onnx: bytes


def _chosen_plan(
    folder: Path,
    manifest: Manifest,
    options: BuildOptions,
    source: Source,
    progress: Callable[[str, float], None],
) -> Candidate:
    """Build one graph; where the plugin may serve, without it too, and return the faster plan.

    Args:
        folder: Exported model.
        manifest: Its manifest.
        options: Options of the build.
        source: Graph to build.
        progress: Callback with the builder's phase and the share of it done.
    """
    record, plan = _built(manifest, options, source, progress)
    if options.plugin != "auto" or record.plugin is None:
        return record, plan
    without = _built(manifest, replace(options, plugin="off"), source, progress)
    candidates = {"plugin": (record, plan), "function body": without}
    progress("timing with and without the plugin", 0.0)
    times_ms = time_candidates(candidates, folder)
    record, plan = candidates[min(times_ms, key=lambda name: times_ms[name])]
    audit = record.audit | {"part_gather_ms": times_ms}
    words = options.words(source.precision)
    return record.model_copy(update={"audit": audit, "options": words}), plan


def _built(
    manifest: Manifest,
    options: BuildOptions,
    source: Source,
    progress: Callable[[str, float], None],
) -> Candidate:
    """Build one plan in a child process and check the types of its layers."""
    progress("starting", 0.0)
    start = time.perf_counter()
    request = _request(options, manifest, source.graph, source.precision)
    report, plan = run_child(source.onnx, request, progress)
    check_types(source.graph, source.precision, report["audit"]["network"])
    entries: dict[str, Any] = {"graph": source.graph, "onnx": source.file}
    entries |= {"precision": source.precision, "plan_sha256": sha256(plan)}
    entries |= {"build_s": time.perf_counter() - start}
    return _record(manifest, options, request, report, **entries), plan


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


def _request(options: BuildOptions, manifest: Manifest, graph: str, precision: str) -> PlanRequest:
    kinds = profiles(graph, manifest.shape, options.sizes)
    sm = sm_of_target(options.target) if options.target != TENSORRT else None
    mib = options.workspace_mib
    return PlanRequest(
        library=TENSORRT if sm is None else RTX,
        profiles=kinds,
        activation_bytes=activation_bytes(graph, precision, manifest.shape, kinds),
        sm=sm,
        plugin="off" if sm is not None else options.plugin,  # TensorRT-RTX aborts on plugins
        workspace_bytes=None if mib is None else mib * 2**20,
        level=options.level,
        compatibility=options.compatibility,
        cache_folder=str(user_folder("cache")) if sm is None else None,
    )


def profiles(graph: str, shape: Shape, sizes: Sizes) -> list[Profile]:
    """Return the profiles of a graph.

    Args:
        graph: Name of the graph, `frames`, `head` or `full`.
        shape: Shape of the network.
        sizes: Sizes of the calls.
    """
    one, many = (1, 1, 1), (1, min(TYPICAL_WALKERS, sizes.walkers), sizes.walkers)
    few = (1, 1, min(LONG_WALKERS, sizes.walkers))
    live = (1, sizes.window, sizes.window)
    long = (1, min(LONG_WINDOWS * sizes.window, sizes.frames), sizes.frames)
    pixels, feature = _fixed(*shape.size), _fixed(shape.parts, shape.channels)
    if graph == "frames":
        return [{"silhouettes": _range(rows, *pixels)} for rows in _distinct(one, many)]
    name, rest = ("features", feature) if graph == "head" else ("silhouettes", pixels)
    kinds = [(many, live)] + ([(few, long)] if sizes.frames > sizes.window else [])
    return [{name: _range(rows, frames, *rest), "lengths": _range(rows)} for rows, frames in kinds]


def activation_bytes(graph: str, precision: str, shape: Shape, kinds: list[Profile]) -> int:
    """Estimate the memory [bytes] that an engine computes in, at its largest profile.

    A head holds about twelve tensors of its features at once, a trunk four of its first layer's
    outputs: after what TensorRT-RTX reports of the paper's widths, never measured on a GPU.

    Args:
        graph: Name of the graph, `frames`, `head` or `full`.
        precision: Precision, `float32`, `fp16` or `int8`.
        shape: Shape of the network.
        kinds: Profiles of the engine.
    """
    number = 4 if precision == "float32" else 2
    h, w = shape.size
    most = 0
    for profile in kinds:
        rows = profile["features" if graph == "head" else "silhouettes"].max
        frames = rows[0] * (1 if graph == "frames" else rows[1])
        trunk = 0 if graph == "head" else 4 * frames * h * w * shape.widths[0]
        head = 0 if graph == "frames" else 12 * frames * shape.parts * shape.channels
        most = max(most, (trunk + head) * number)
    return most


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

    gpu = report["gpu"] or {"name": None, "sm": request.sm}
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
            "cuda": gpu.get("cuda"),
            "multiprocessors": gpu.get("multiprocessors"),
            "board": gpu.get("board"),
            "compatibility": request.compatibility,
            "plugin": plugin,
            "profiles": request.profiles,
            "window": options.sizes.window,
            "options": options.words(own["precision"]),
            "audit": report["audit"],
            "memory": report["memory"],
            "created_with": {"cstl_edge": __version__, "python": sys.version.split()[0]},
            "created_utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
    )
