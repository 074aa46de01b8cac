"""TensorRT backend: `frames` and `head` as engines that `cstl-edge build` made for this machine.

Nothing is deserialised before files, model, GPU, TensorRT and plugin were compared with the record
beside the plan (see `record`). All threads share the engines; each has a stream and contexts of its
own, which compute in one block of memory. None of this has run on a device yet: the tests run it on
stand-ins for TensorRT and the GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from cstl_edge.errors import ModelError, one_line
from cstl_edge.runtime.base import EncoderInfo, model_folder, refuse_precision
from cstl_edge.runtime.cuda.open import open_buffers
from cstl_edge.runtime.graph import Arrays
from cstl_edge.runtime.graph_encoder import GraphEncoder
from cstl_edge.runtime.manifest import Manifest, read_manifest
from cstl_edge.runtime.matching_file import read_distance
from cstl_edge.runtime.tensorrt.engine import Engine
from cstl_edge.runtime.tensorrt.library import (
    board,
    import_tensorrt,
    make_logger,
    make_runtime,
    plugin_library,
    plugin_sha256,
    register_plugin,
)
from cstl_edge.runtime.tensorrt.pool import Engines, SessionPool
from cstl_edge.runtime.tensorrt.record import (
    ENGINES,
    TENSORRT,
    EngineRecord,
    Machine,
    build_command,
    check_machine,
    read_plan,
    read_records,
)
from cstl_edge.runtime.tensorrt.session import OwningSession, Session
from cstl_edge.runtime.tensorrt.windows import DeviceWindows

GRAPHS = ("frames", "head")


class Host(NamedTuple):
    """Libraries and GPU of this machine, for plans that fit it."""

    trt: Any  # the `tensorrt` (or `tensorrt_rtx`) module
    gpu: str  # its name
    buffers: str  # library of `runtime.cuda` that serves
    plugin: Path | None  # library of the plugin, where a plan needs it

    @property
    def part_gather(self) -> str:
        """Return what computes the part gather."""
        return "plugin" if self.plugin else "function body"


class TrtEncoder(GraphEncoder):
    """An exported folder's engines. Use `load`, or `load_engines`."""

    def __init__(
        self, info: EncoderInfo, deserialise: Callable[[], Engines], most_slots: int | None = None
    ) -> None:
        """Open the engines and a session for this thread; others get one at their first call.

        Args:
            info: Description of the encoder.
            deserialise: Function that opens the engines, called again after the GPU failed.
            most_slots: Shapes that a session keeps ready at once; by default all.
        """
        graphs = {graph: partial(self._run_engine, graph) for graph in GRAPHS}
        info = replace(info, keeps_windows=True)
        super().__init__(info, graphs, "engines have no incremental head: use `head`")
        self._pool = SessionPool(lambda: open_buffers(), deserialise, most_slots)

    def warm_up(self, walkers: int) -> None:
        """Make contexts, memory and CUDA graphs for so many live walkers, in this thread."""
        self._pool.retried(lambda session: session.warm_up(walkers))

    def windows(self, window: int, walkers: int) -> DeviceWindows:
        """Return windows in the GPU's memory, of so many frames for so many walkers at once."""
        return DeviceWindows(self._pool.retried, window, walkers)

    def close(self) -> None:
        """Give back what every thread holds."""
        super().close()
        self._pool.close()

    def _run_engine(self, graph: str, inputs: Arrays) -> Arrays:
        return self._pool.retried(lambda session: session.run(graph, inputs))


def load_engines(
    path: Path | None, threads: int | None = None, precision: str | None = None
) -> TrtEncoder:
    """Open the engines of an exported folder.

    Args:
        path: Exported folder; None for the shipped model.
        threads: Ignored number: a GPU computes.
        precision: None; any other value is a ConfigError.

    Raises:
        ModelError: no engines, or engines of another model or for another machine
        BackendUnavailable: TensorRT, a CUDA library or a GPU is missing
    """
    refuse_precision(precision, "tensorrt")
    folder = model_folder(path)
    manifest = read_manifest(folder)
    place = folder / ENGINES / TENSORRT
    if not place.exists():
        raise ModelError(
            f"no engines for TensorRT in {one_line(folder)}. Build them on the machine that runs "
            f"them: {build_command(folder)}"
        )
    records = read_records(folder, GRAPHS, manifest)
    plans = {graph: read_plan(place, record) for graph, record in records.items()}
    return open_plans(plans, records, manifest, folder)


def open_plans(
    plans: dict[str, bytes],
    records: dict[str, EngineRecord],
    manifest: Manifest,
    folder: Path,
    most_slots: int | None = None,
) -> TrtEncoder:
    """Open plans whose records and bytes are in order, after comparing them with this machine.

    Args:
        plans: Bytes by graph; ModelError for another machine's, or where TensorRT refuses one.
        records: Records of the plans, by graph.
        manifest: Manifest of the exported model.
        folder: Folder of the exported model, for the command that builds anew.
        most_slots: Shapes kept ready at once, where memory matters more than time.

    Raises BackendUnavailable where TensorRT, a CUDA library or a GPU is missing.
    """
    host = detect_host(records, folder)
    provider = f"{host.gpu} (TensorRT {host.trt.__version__}, {host.part_gather}, {host.buffers})"
    info = manifest.encoder_info(
        "tensorrt",
        provider,
        records["frames"].precision,
        threads=1,
        distance=read_distance(folder, manifest),
    )
    info = replace(info, engines=str(folder))
    return TrtEncoder(info, lambda: deserialise(host, plans, records), most_slots)


def detect_host(records: dict[str, EngineRecord], folder: Path) -> Host:
    """Return this machine's libraries and GPU after comparing records of a folder (ModelError)."""
    trt = import_tensorrt()
    with closing(open_buffers()) as buffers:
        gpu = buffers.gpu()
    plugin = plugin_library(trt) if any(record.plugin for record in records.values()) else None
    sha256 = plugin_sha256(plugin) if plugin else None
    version, processors = str(trt.__version__), gpu.multiprocessors
    machine = Machine("tensorrt", version, gpu.sm, gpu.name, sha256, processors, board())
    for record in records.values():
        check_machine(record, machine, folder)
    return Host(trt, gpu.name, buffers.name, plugin)


def open_session(
    host: Host,
    plans: dict[str, bytes],
    records: dict[str, EngineRecord],
    most_slots: int | None = None,
) -> Session:
    """Open checked plans for this thread alone.

    Args:
        host: Result of `detect_host`.
        plans: Bytes by graph; ModelError where TensorRT refuses one, or memory is short.
        records: Records of the plans, by graph.
        most_slots: Shapes kept ready at once; by default all.
    """
    buffers = open_buffers()  # first, for TensorRT works in the context that is current
    try:
        return OwningSession(buffers, deserialise(host, plans, records), most_slots)
    except BaseException:
        buffers.close()
        raise


def deserialise(host: Host, plans: dict[str, bytes], records: dict[str, EngineRecord]) -> Engines:
    """Open checked plans: the only place where anything is deserialised.

    Args:
        host: Result of `detect_host`.
        plans: Bytes by graph; ModelError where TensorRT refuses one, or memory is short.
        records: Records of the plans, by graph.
    """
    runtime = make_runtime(host.trt, make_logger(host.trt))
    if host.plugin is not None:
        register_plugin(runtime, host.plugin)
    return {graph: Engine(host.trt, runtime, plan, records[graph]) for graph, plan in plans.items()}
