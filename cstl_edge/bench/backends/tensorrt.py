"""TensorRT: the engines of the exported model, call by call with its stages, and as CUDA graphs.

Engines without the plugin are looked for in a second folder, `NAME-no-plugin`, for a folder has one
set of engines. The GPU itself times the stages. Not run on a device yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from cstl_edge.bench.backends.base import (
    GRAPHS,
    Backend,
    GraphUnderTest,
    StreamingBackend,
    Unavailable,
)
from cstl_edge.bench.context import Context
from cstl_edge.bench.model_under_test import PRECISION_NAMES
from cstl_edge.bench.record import Ran
from cstl_edge.errors import ModelError, one_line
from cstl_edge.runtime import load
from cstl_edge.runtime.graph import Arrays
from cstl_edge.runtime.manifest import read_manifest
from cstl_edge.runtime.tensorrt.encoder import Host, detect_host, open_session
from cstl_edge.runtime.tensorrt.record import (
    ENGINES,
    SUFFIX,
    TENSORRT,
    EngineRecord,
    build_command,
    read_plan,
    read_records,
)

ENCODER = "tensorrt float16"
"""Name of the encoder, whatever its engines: it takes the plugin and CUDA graphs where it can."""
NO_PLUGIN, CUDA_GRAPH = ", no plugin", ", cuda graph"
NOT_BUILT = "no engines: cstl-edge build FOLDER, then --model FOLDER"
NOT_BUILT_WITHOUT = (
    "no engines: cp -r FOLDER FOLDER-no-plugin; cstl-edge build FOLDER-no-plugin --plugin off"
)


def backends(context: Context) -> Iterator[Backend | Unavailable]:
    """Yield the encoder, and the engines with the plugin and those without, each in two modes."""
    folder = context.engines or context.folder
    beside = folder.with_name(f"{folder.name}-no-plugin")
    built = (folder / ENGINES / TENSORRT).is_dir()
    if built:
        yield StreamingBackend(ENCODER, graphs=(), open_encoder=partial(load, folder, "tensorrt"))
    reasons = {"": NOT_BUILT, NO_PLUGIN: NOT_BUILT_WITHOUT}
    for place, expected in ((folder, ""), (beside, NO_PLUGIN)):
        if not (place / ENGINES / TENSORRT).is_dir():
            continue
        try:
            records = _records(place)
            host = detect_host(records, place)
        except ModelError as err:
            reasons[expected] = str(err)
            continue
        option = "" if host.plugin else NO_PLUGIN
        if reasons.pop(option, None) is not None:
            yield from _both_modes(place, host, records, option)
    for option, reason in reasons.items():
        yield Unavailable(f"tensorrt float16{option}", reason, streams=not (built or option))


def _both_modes(
    folder: Path, host: Host, records: dict[str, EngineRecord], option: str
) -> Iterator[Backend]:
    precision = records["frames"].precision
    name = f"tensorrt {PRECISION_NAMES.get(precision, precision)}{option}"
    for mode in ("", CUDA_GRAPH):
        yield Backend(f"{name}{mode}", partial(_open_graph, folder, host, mode), tuple(records))


def _records(folder: Path) -> dict[str, EngineRecord]:
    """Return the records of a folder's engines, compared with its model (ModelError)."""
    place = folder / ENGINES / TENSORRT
    present = [graph for graph in GRAPHS if (place / f"{graph}{SUFFIX}").exists()]
    if "frames" not in present:
        raise ModelError(f"no engines in {one_line(folder)}: {build_command(folder)}")
    return read_records(folder, present, read_manifest(folder))


def _open_graph(folder: Path, host: Host, mode: str, graph: str, feed: Arrays) -> GraphUnderTest:
    record = _records(folder)[graph]
    plan = read_plan(folder / ENGINES / TENSORRT, record)
    return open_engine("tensorrt", host, plan, record, feed, cuda_graph=mode == CUDA_GRAPH)


def open_engine(
    backend: str,
    host: Host,
    plan: bytes,
    record: EngineRecord,
    feed: Arrays,
    cuda_graph: bool = False,
) -> GraphUnderTest:
    """Open one engine for inputs of exactly these shapes.

    Args:
        backend: Name of the backend, `tensorrt` or `tensorrt-rtx`.
        host: Module of the library, and the GPU.
        plan: Bytes of the engine; ModelError where it does not open.
        record: Record of the plan.
        feed: Inputs by name; ModelError where the engine takes no such inputs.
        cuda_graph: True to replay a CUDA graph (BackendUnavailable where none is captured).
    """
    session = open_session(host, {record.graph: plan}, {record.graph: record})
    bound = session.bind(record.graph, feed, cuda_graph)
    precision = PRECISION_NAMES.get(record.precision, record.precision)
    options = {"part gather": host.part_gather, "memory": host.buffers}
    ran = Ran(
        backend=backend,
        provider=host.gpu,
        precision=precision,
        computed_in=precision,
        version=str(host.trt.__version__),
        threads=1,
        options=options | ({"cuda graph": "yes"} if cuda_graph else {}),
    )
    return GraphUnderTest(ran=ran, **vars(bound))
