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

from cstl_edge.errors import ConfigError, one_line
from cstl_edge.export.folder import json_bytes, sha256, write_files
from cstl_edge.export.tensorrt.builder import RTX, PlanRequest, sm_of_target
from cstl_edge.export.tensorrt.checks import RUN, check_types, compare_engines
from cstl_edge.export.tensorrt.child import BuildReport, run_child
from cstl_edge.export.tensorrt.mask_checks import judge_mask
from cstl_edge.export.tensorrt.sources import (
    GRAPHS,
    Sizes,
    Source,
    mask_source,
    model_sources,
)
from cstl_edge.export.tensorrt.timing import Candidate, time_candidates
from cstl_edge.output import user_folder
from cstl_edge.runtime.graph_format import DOMAIN, OPERATOR, PLUGIN_VERSION
from cstl_edge.runtime.manifest import PRECISIONS, read_manifest
from cstl_edge.runtime.tensorrt.record import (
    ENGINES,
    SUFFIX,
    TENSORRT,
    EngineRecord,
    Plugin,
)

log = logging.getLogger(__name__)

PLUGIN = ("auto", "on", "off")
COMPATIBILITY = ("none", "same", "ampere")
Progress = Callable[[str, str, float], None]
"""Called with the graph that is built, the builder's phase, and the share of it done (0..1)."""


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
    mask_network: str | None = None  # manifest of the graph `mask`; None for the shipped network

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
        if self.target != TENSORRT and self.precision == "int8":
            raise ConfigError(
                "int8 is not built for RTX cards: TensorRT-RTX makes more kernels of it than of "
                "fp16, and a larger engine",
                remedy="--precision fp16, or leave it out",
            )
        if not self.graphs or set(self.graphs) - set(GRAPHS):
            got = one_line(",".join(self.graphs))
            raise ConfigError(f"expected graphs of {', '.join(GRAPHS)}; got {got!r}")

    def words(self, precision: str) -> dict[str, Any]:
        """Return the options of the command line that ask for the same again, by name."""
        words: dict[str, Any] = {"precision": precision, "graphs": ",".join(self.graphs)}
        words |= {"for": self.target} if self.target != TENSORRT else {}
        words |= {"plugin": self.plugin, "level": self.level, "compatibility": self.compatibility}
        words |= {"workspace": self.workspace_mib} if self.workspace_mib else {}
        words |= {"mask-network": self.mask_network} if self.mask_network else {}
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
    sources = model_sources(source, manifest, options.graphs, precision, options.sizes)
    if "mask" in options.graphs:
        sources.append(mask_source(options.mask_network, options.precision))
    records: dict[str, EngineRecord] = {}
    plans: dict[str, bytes] = {}
    for graph in sources:

        def steps(phase: str, share: float, graph: str = graph.graph) -> None:
            notify(graph, phase, share)

        records[graph.graph], plans[graph.graph] = _chosen_plan(source, options, graph, steps)
    if "frames" in records and "head" in records:  # int8 is of frames alone
        kept = {"precision": records["frames"].precision}
        records["head"] = records["head"].model_copy(update=kept)
    notify("all", "comparing with ONNX Runtime", 0.0)
    parity = {}
    if options.target == TENSORRT:
        parity = compare_engines(plans, records, manifest, source)
    if "mask" in records:
        here = options.target == TENSORRT
        plan = plans["mask"] if here else None
        parity["mask"] = judge_mask(records["mask"], plan, options.mask_network, source)
    records = {g: r.model_copy(update={"parity": parity.get(g)}) for g, r in records.items()}
    files = {f"{graph}{SUFFIX}": plan for graph, plan in plans.items()}
    files |= {f"{graph}{SUFFIX}.json": json_bytes(record) for graph, record in records.items()}
    write_files(source / ENGINES / options.target, files)
    return records


def _chosen_plan(
    folder: Path,
    options: BuildOptions,
    source: Source,
    progress: Callable[[str, float], None],
) -> Candidate:
    """Build one graph; where the plugin may serve, without it too, and return the faster plan.

    Args:
        folder: Exported model.
        options: Options of the build.
        source: Graph to build.
        progress: Callback with the builder's phase and the share of it done.
    """
    record, plan = _built(options, source, progress)
    if source.rival is not None:
        rival = _built(options, source.rival, progress)
        candidates = {source.precision: (record, plan), source.rival.precision: rival}
        return _faster(candidates, "precision_ms", options.words(source.precision), folder)
    if options.plugin != "auto" or record.plugin is None:
        return record, plan
    without = _built(replace(options, plugin="off"), source, progress)
    candidates = {"plugin": (record, plan), "function body": without}
    progress("timing with and without the plugin", 0.0)
    return _faster(candidates, "part_gather_ms", options.words(source.precision), folder)


def _faster(
    candidates: dict[str, Candidate], label: str, words: dict[str, Any], folder: Path
) -> Candidate:
    """Return the faster of several plans of one graph, whose record holds all of their times.

    Args:
        candidates: Plans with their records, by name.
        label: Key of the times in the audit.
        words: Options that ask for the same choice again.
        folder: Exported model, for messages.
    """
    times_ms = time_candidates(candidates, folder)
    record, plan = candidates[min(times_ms, key=lambda name: times_ms[name])]
    audit = record.audit | {label: times_ms}
    return record.model_copy(update={"audit": audit, "options": words}), plan


def _built(
    options: BuildOptions,
    source: Source,
    progress: Callable[[str, float], None],
) -> Candidate:
    """Build one plan in a child process and check the types of its layers."""
    progress("starting", 0.0)
    start = time.perf_counter()
    request = _request(options, source)
    report, plan = run_child(source.onnx, request, progress)
    check_types(source.graph, source.precision, report["audit"]["network"])
    entries: dict[str, Any] = {"graph": source.graph, "onnx": source.file}
    entries |= {"precision": source.precision, "plan_sha256": sha256(plan)}
    entries |= {"build_s": time.perf_counter() - start, "model": source.model}
    entries |= {"weights_sha256": source.weights_sha256, "onnx_sha256": source.onnx_sha256}
    return _record(options, request, report, **entries), plan


def _request(options: BuildOptions, source: Source) -> PlanRequest:
    sm = sm_of_target(options.target) if options.target != TENSORRT else None
    mib = options.workspace_mib
    return PlanRequest(
        library=TENSORRT if sm is None else RTX,
        profiles=source.profiles,
        activation_bytes=source.activation_bytes,
        sm=sm,
        plugin="off" if sm is not None else options.plugin,  # TensorRT-RTX aborts on plugins
        workspace_bytes=None if mib is None else mib * 2**20,
        level=options.level,
        compatibility=options.compatibility,
        cache_folder=str(user_folder("cache")) if sm is None else None,
    )


def _record(
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
