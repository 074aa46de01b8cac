"""TensorRT: the engines of the exported model, call by call with its stages, and as CUDA graphs.

Engines without the plugin are looked for in a second folder, `NAME-no-plugin`, for a folder has one
set of engines. The GPU itself times the stages. Not run on a device yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cstl_edge.bench.backends.base import GRAPHS, Arrays, Backend, Call, Unavailable
from cstl_edge.bench.context import Context
from cstl_edge.bench.model_under_test import PRECISION_NAMES
from cstl_edge.bench.record import Ran
from cstl_edge.errors import BackendUnavailable, ModelError, one_line
from cstl_edge.runtime.manifest import read_manifest
from cstl_edge.runtime.tensorrt import record as record_module
from cstl_edge.runtime.tensorrt.encoder import Host, detect_host, open_session
from cstl_edge.runtime.tensorrt.engine import Session
from cstl_edge.runtime.tensorrt.record import EngineRecord

NO_PLUGIN, CUDA_GRAPH = ", no plugin", ", cuda graph"
NOT_BUILT = "no engines: cstl-edge build FOLDER, then --model FOLDER"
NOT_BUILT_WITHOUT = (
    "no engines: cp -r FOLDER FOLDER-no-plugin; cstl-edge build FOLDER-no-plugin --plugin off"
)


def contenders(context: Context) -> Iterator[Backend | Unavailable]:
    """Yield the engines with the plugin and those without, each in two ways to run it."""
    folder = context.engines or context.folder
    beside = folder.with_name(f"{folder.name}-no-plugin")
    missing = {"": NOT_BUILT, NO_PLUGIN: NOT_BUILT_WITHOUT}
    for place, expected in ((folder, ""), (beside, NO_PLUGIN)):
        if not (place / record_module.ENGINES / record_module.TENSORRT).is_dir():
            continue
        try:
            built = _records(place)
            here = detect_host(built, place)
        except ModelError as err:
            missing[expected] = str(err)
            continue
        option = "" if here.library else NO_PLUGIN
        if missing.pop(option, None) is not None:
            yield from _two_ways(place, here, built, option)
    yield from (Unavailable(f"tensorrt float16{option}", why) for option, why in missing.items())


def _two_ways(
    place: Path, here: Host, built: dict[str, EngineRecord], option: str
) -> Iterator[Backend]:
    precision = PRECISION_NAMES.get(built["frames"].precision, built["frames"].precision)
    for graphed in (False, True):
        yield Backend(
            f"tensorrt {precision}{option}{CUDA_GRAPH if graphed else ''}",
            partial(_prepare, place, here, graphed),
            graphs=tuple(graph for graph in GRAPHS if graph in built),
        )


def engine_call(session: Session, graph: str, feed: Arrays, ran: Ran, graphed: bool) -> Call:
    """Return a call of one engine for inputs of exactly these shapes (ModelError).

    graphed: as a CUDA graph; BackendUnavailable where none could be captured
    """
    engine = session.engines[graph]
    shapes = {name: feed[name].shape for name in engine.inputs}
    try:
        lane = engine.lane(session.buffers, shapes, graphed)
        for name in engine.inputs:
            lane.host[name][...] = feed[name]
        lane.run()  # allocates, and captures what is to be captured
        if graphed and not lane.captured:
            raise BackendUnavailable("no CUDA graph could be captured: it runs call by call only")
    except ModelError:
        session.close()
        raise

    def outputs() -> dict[str, Any]:
        return {name: _plain(lane.host[name]) for name in engine.out}

    return Call(ran, lane.timed, outputs, session.close)


def _plain(array: Any) -> Any:
    """Return an output as float32, or as the int32 that it is."""
    return array.astype(np.float32) if array.dtype.kind == "f" else array.copy()


def _records(folder: Path) -> dict[str, EngineRecord]:
    """Return the records of a folder's engines, compared with its model (ModelError)."""
    manifest = read_manifest(folder)
    place = folder / record_module.ENGINES / record_module.TENSORRT
    present = [graph for graph in GRAPHS if (place / f"{graph}{record_module.SUFFIX}").exists()]
    if "frames" not in present:
        raise ModelError(f"no engines in {one_line(folder)}: cstl-edge build {one_line(folder)}")
    built = {graph: record_module.read_record(place, graph) for graph in present}
    for record in built.values():
        record_module.check_model(record, manifest, folder)
    return built


def _prepare(folder: Path, here: Host, graphed: bool, graph: str, feed: Arrays) -> Call:
    built = {graph: _records(folder)[graph]}
    place = folder / record_module.ENGINES / record_module.TENSORRT
    plans = {graph: record_module.read_plan(place, built[graph])}
    precision = PRECISION_NAMES.get(built[graph].precision, built[graph].precision)
    ran = Ran(
        backend="tensorrt",
        provider=here.gpu,
        precision=precision,
        computed_in=precision,
        version=str(here.trt.__version__),
        threads=1,
        options={
            "part gather": "plugin" if here.library else "function body",
            "memory": here.buffers,
            **({"cuda graph": "yes"} if graphed else {}),
        },
    )
    return engine_call(open_session(here, plans, built), graph, feed, ran, graphed)
