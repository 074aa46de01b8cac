"""Build a plan from one ONNX graph with TensorRT, or ahead of time with TensorRT-RTX.

This runs in a child process (`child`), because a builder can abort or be killed for its memory,
which on small devices happens without a word; `check_memory` refuses what will not fit before.
Networks are strongly typed always: the precision is what the graph says, and there is no switch.

TensorRT-RTX builds engines for RTX cards (compute capabilities 8.0 to 12.1) on a machine that has
none; not for Jetson nor for data-centre cards. It knows no plugins, so the part gather is its
function body. It is NVIDIA's own parser and strongly typed builder, of the family of TensorRT 11,
on any CPU; running its engines is not part of this package.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from cstl_edge.errors import ConfigError, ExportError, one_line
from cstl_edge.export.tensorrt.checks import count_layer_types, inspect_plan
from cstl_edge.runtime.cuda.base import Gpu
from cstl_edge.runtime.graph_format import OPERATOR
from cstl_edge.runtime.tensorrt.library import (
    make_builder,
    make_logger,
    register_plugin,
    version_of,
)
from cstl_edge.runtime.tensorrt.record import Profile

if TYPE_CHECKING:
    from typing_extensions import NotRequired

PLUGIN_BEATS_FUNCTION = (10, 7)  # before, a function body in the file wins over a plugin
RTX = "tensorrt_rtx"
RTX_CANNOT = (75,)  # seen with 1.7.1: the head's product in float32 finds no kernel

GIB = 2**30
MIB = 2**20
BUILDER_BYTES = 3 * GIB // 2  # libraries, their kernels and a CUDA context, before any graph
COPIES = 6  # of the weights: the file, the network, both precisions, tactics under test, the plan
MEMINFO = Path("/proc/meminfo")

Step = Callable[[str, int, int], bool]
"""Called at every step of the builder: phase, step, steps of it. False stops the build."""


@dataclass(frozen=True)
class PlanRequest:
    """What the child process is to build."""

    library: str  # `tensorrt` or `tensorrt_rtx`
    profiles: list[Profile]
    sm: int | None = None  # compute capability; only TensorRT-RTX builds for a GPU that is not here
    plugin: str = "off"  # `auto`, `on` or `off`: whether the part gather is the plugin's kernel
    workspace_bytes: int | None = None  # scratch memory of kernels; by default a share of the free
    level: int = 3  # optimisation level, 0..5: how long the builder may look for faster kernels
    compatibility: str = "none"
    cache_folder: str | None = None  # where timings of earlier builds are kept
    activation_bytes: int = 0  # about what the engine computes in at its largest profile


class EngineAudit(TypedDict):
    """What a plan holds."""

    part_gather: str  # `plugin`, `function body` or `none in this graph`
    network: dict[str, dict[str, int]]  # layers as parsed, by kind and type of their output
    engine: NotRequired[dict[str, Any]]
    """Layers of the built engine; TensorRT-RTX cannot list them without a GPU."""


@dataclass(frozen=True)
class BuiltPlan:
    """A plan with its audit."""

    plan: bytes
    audit: EngineAudit
    timings: bytes  # the timing cache after the build
    plugin_sha256: str | None
    memory: dict[str, Any]  # [bytes]: `plan`, and `activations` by profile


def sm_of_target(target: str) -> int:
    """Return the compute capability that a target names (ConfigError).

    >>> sm_of_target("rtx-sm89")
    89
    """
    match = re.fullmatch(r"rtx-sm(\d{2,3})", target)
    if match is None:
        raise ConfigError(
            f"expected a target of tensorrt, or rtx-sm and a number such as rtx-sm89; "
            f"got {one_line(target)!r}"
        )
    if int(match[1]) in RTX_CANNOT:
        raise ConfigError(
            f"TensorRT-RTX builds no head for sm{match[1]}: it has no float32 matrix products "
            "there. Build on that card with TensorRT, or run ONNX Runtime"
        )
    return int(match[1])


def build_plan(
    trt: Any,
    graph: bytes,
    request: PlanRequest,
    step: Step,
    plugin: Path | None = None,
    timings: bytes = b"",
) -> BuiltPlan:
    """Parse, configure, build and inspect.

    Args:
        trt: Module of TensorRT or TensorRT-RTX.
        graph: ONNX file.
        request: Description of the plan to build.
        step: Callback at every step of the builder.
        plugin: Library to register before parsing.
        timings: Timing cache of an earlier build on this machine.

    Raises:
        ExportError: the parser or the builder refuses the graph.
        ModelError: TensorRT does not open what it built.
    """
    logger = make_logger(trt)
    builder = make_builder(trt, logger)
    sha256 = None
    if plugin is not None:
        sha256 = register_plugin(builder, plugin)
        if version_of(trt) < PLUGIN_BEATS_FUNCTION:
            graph = without_function_body(graph)
    network = builder.create_network(_creation_flags(trt))
    _parse(trt, network, logger, graph)
    memory = {"plan": 0}
    audit: EngineAudit = {
        "part_gather": _path_taken(trt, network, plugin is not None),
        "network": count_layer_types(trt, network),
    }
    config = _config(trt, builder, request, step)
    cache = None
    if request.library != RTX:  # TensorRT-RTX has none, and asking for one would need a GPU
        cache = config.create_timing_cache(timings)
        if cache is None or not config.set_timing_cache(cache, False):
            raise ExportError("TensorRT refuses its timing cache: delete it and build again")
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ExportError(f"the builder gave no engine: {logger.last_error or 'no reason told'}")
    data = bytes(plan)
    if request.library != RTX:
        audit["engine"], memory = inspect_plan(trt, data, plugin)
    timings = b"" if cache is None else bytes(config.get_timing_cache().serialize())
    return BuiltPlan(data, audit, timings, sha256, memory | {"plan": len(data)})


def without_function_body(graph: bytes) -> bytes:
    """Return the graph without the local function of our operator, so that only the plugin fits."""
    import onnx

    model = onnx.load_model_from_string(graph)
    for function in [f for f in model.functions if f.name == OPERATOR]:
        model.functions.remove(function)
    return bytes(model.SerializeToString())


def _creation_flags(trt: Any) -> int:
    """Return strong typing as a flag; since 11 every network is so, and older enums shift."""
    if version_of(trt) >= (11, 0) or trt.__name__.startswith(RTX):
        return 0
    return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def _parse(trt: Any, network: Any, logger: Any, graph: bytes) -> None:
    """Read the graph into the network; ExportError with the parser's own words."""
    parser = trt.OnnxParser(network, logger)
    if parser.parse(graph):
        return
    errors = [one_line(parser.get_error(i).desc(), 300) for i in range(parser.num_errors)]
    raise ExportError(f"the ONNX parser refuses the graph: {'; '.join(errors) or 'no reason told'}")


def _path_taken(trt: Any, network: Any, plugin: bool) -> str:
    """Return how the network gathers parts (ExportError if a registered plugin was not taken)."""
    kinds = [network.get_layer(i).type for i in range(network.num_layers)]
    taken = trt.LayerType.PLUGIN_V3 in kinds
    body = trt.LayerType.TOPK in kinds  # what an ArgMax becomes
    if plugin and body and not taken:
        raise ExportError(
            f"the parser took the function body of {OPERATOR}, though the plugin is registered. "
            "Build with --plugin off, or with another TensorRT"
        )
    return "plugin" if taken else "function body" if body else "none in this graph"


def _config(trt: Any, builder: Any, request: PlanRequest, step: Step) -> Any:
    config = builder.create_builder_config()
    config.progress_monitor = _monitor(trt, step)
    config.builder_optimization_level = request.level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # the audit reads layer types
    # It would round float32 products to 10 bits, and engines are compared with float32.
    config.clear_flag(trt.BuilderFlag.TF32)
    if request.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, request.workspace_bytes)
    if request.library == RTX:
        target = getattr(trt.ComputeCapability, f"SM{request.sm}", None)
        if target is None:
            cannot = [f"SM{sm}" for sm in RTX_CANNOT]
            known = [
                name
                for name in trt.ComputeCapability.__members__
                if name.startswith("SM") and name not in cannot
            ]
            raise ExportError(f"expected one of {', '.join(known).lower()}; got sm{request.sm}")
        config.num_compute_capabilities = 1
        if not config.set_compute_capability(target, 0):
            raise ExportError(f"TensorRT-RTX refuses to build for sm{request.sm}")
    elif request.compatibility != "none":
        config.hardware_compatibility_level = _compatibility(trt, request.compatibility)
    for profile in request.profiles:
        added = builder.create_optimization_profile()
        for name, sizes in profile.items():
            added.set_shape(name, sizes.min, sizes.opt, sizes.max)
        if config.add_optimization_profile(added) < 0:
            raise ExportError(f"TensorRT refuses the profile {one_line(profile)}")
    return config


def _compatibility(trt: Any, level_name: str) -> Any:
    """Return a hardware-compatibility level (ExportError where this TensorRT lacks it)."""
    name = {"same": "SAME_COMPUTE_CAPABILITY", "ampere": "AMPERE_PLUS"}[level_name]
    level = getattr(trt.HardwareCompatibilityLevel, name, None)
    if level is None:
        raise ExportError(
            f"expected TensorRT 10.9 or newer for --compatibility {level_name}; "
            f"got {one_line(trt.__version__)}. Leave it out: build on each model of GPU"
        )
    return level


def _monitor(trt: Any, step: Step) -> Any:
    """Return a progress monitor that calls `step` and stops the build when that returns False."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}
            self.going = True

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.steps[phase_name] = num_steps

        def step_complete(self, phase_name: str, step_number: int) -> bool:
            self.going = self.going and step(phase_name, step_number + 1, self.steps[phase_name])
            return self.going

        def phase_finish(self, phase_name: str) -> None:
            self.steps.pop(phase_name, None)

    return Monitor()


# Memory


def workspace(gpu: Gpu, requested: int | None) -> int:
    """Return the scratch memory [bytes] for kernels: `requested`, or a quarter of what is free.

    Left to itself TensorRT takes all of it, which on a Jetson is the memory of everyone.
    """
    return requested if requested is not None else min(GIB, gpu.free_bytes // 4)


def check_memory(gpu: Gpu, graph_bytes: int, workspace_bytes: int) -> None:
    """Raise ExportError with advice when a build would not fit.

    The need is an estimate: it was not measured on a device yet.

    Args:
        gpu: GPU that builds.
        graph_bytes: Size of the ONNX file.
        workspace_bytes: Scratch memory for kernels.
    """
    need = BUILDER_BYTES + COPIES * graph_bytes + workspace_bytes
    free, swap = _meminfo("MemAvailable"), _meminfo("SwapFree") or 0
    if free is not None and free + swap < need:
        raise ExportError(
            f"expected about {need // MIB} MiB for the build; free are {free // MIB} MiB and "
            f"{swap // MIB} MiB of swap. {_advice(gpu)}"
        )
    if gpu.free_bytes < COPIES * graph_bytes + workspace_bytes:
        raise ExportError(
            f"expected about {(COPIES * graph_bytes + workspace_bytes) // MIB} MiB of GPU memory "
            f"for the build; {gpu.name} has {gpu.free_bytes // MIB} MiB free. {_advice(gpu)}"
        )


def _advice(gpu: Gpu) -> str:
    steps = ["Close what else runs", "or ask for less: --workspace 256, --level 2"]
    if gpu.integrated:
        steps.insert(1, "stop the desktop (sudo systemctl isolate multi-user.target)")
        steps.append("or add swap: sudo fallocate -l 4G /swap && sudo chmod 600 /swap && ")
        steps[-1] += "sudo mkswap /swap && sudo swapon /swap"
    return "; ".join(steps)


def _meminfo(key: str) -> int | None:
    """Return an entry of /proc/meminfo [bytes], None where there is none."""
    try:
        entry = re.search(rf"^{key}: *(\d+) kB", MEMINFO.read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        return None
    return int(entry[1]) * 1024 if entry else None
