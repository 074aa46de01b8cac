"""TensorRT-RTX: an engine built for this card once, in a folder of its own. Not run on a card yet.

The library knows RTX cards alone. On another it is tried once, and its own words are told.
"""

from __future__ import annotations

import importlib
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from cstl_edge.bench.backends.base import Arrays, Backend, Call, Unavailable
from cstl_edge.bench.backends.tensorrt import engine_call
from cstl_edge.bench.context import Context
from cstl_edge.bench.model_under_test import PRECISION_NAMES
from cstl_edge.bench.record import Ran
from cstl_edge.errors import CstlEdgeError, ModelError, one_line
from cstl_edge.runtime.cuda.base import Gpu
from cstl_edge.runtime.cuda.open import open_buffers
from cstl_edge.runtime.manifest import read_manifest
from cstl_edge.runtime.tensorrt import record
from cstl_edge.runtime.tensorrt.engine import Engine, Session
from cstl_edge.runtime.tensorrt.library import make_logger
from cstl_edge.runtime.tensorrt.record import EngineRecord

NAME = "tensorrt-rtx float16"
CARDS = (75, 80, 86, 89, 120, 121)  # compute capabilities that its support matrices list
GRAPHS = ("frames", "head")
Plans = dict[str, tuple[bytes, EngineRecord]]


def contenders(context: Context) -> Iterator[Backend | Unavailable]:
    """Yield the engines of this card, built now where they are not in the folder."""
    try:
        rtx = importlib.import_module("tensorrt_rtx")
    except (ImportError, OSError, RuntimeError) as err:
        yield Unavailable(NAME, f"TensorRT-RTX is not here ({one_line(err, 80)}): pip install tensorrt-rtx")  # fmt: skip # noqa: E501
        return
    try:
        buffers = open_buffers()
    except CstlEdgeError as err:
        yield Unavailable(NAME, str(err))
        return
    try:
        gpu = buffers.gpu()
    finally:
        buffers.close()
    try:
        plans = _plans(context, gpu)
    except CstlEdgeError as err:
        listed = gpu.sm in CARDS
        why = "" if listed else f"not supported on this architecture (sm_{gpu.sm}); tried: "
        yield Unavailable(NAME, f"{why}{err}")
        return
    yield Backend(NAME, partial(_prepare, rtx, gpu, plans), graphs=GRAPHS)


def _plans(context: Context, gpu: Gpu) -> Plans:
    """Return the plans for this card with their records, from the folder or built beside it."""
    folder, target = context.engines or context.folder, f"rtx-sm{gpu.sm}"
    if (folder / record.ENGINES / target).is_dir():
        return _read(folder, target)
    from cstl_edge.export.tensorrt.build import Options, build_engines

    context.tell(f"tensorrt-rtx: building for sm_{gpu.sm}")
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / "model"
        shutil.copytree(context.folder, copy, ignore=lambda *_: [record.ENGINES])
        build_engines(copy, Options(target=target, graphs=GRAPHS))
        return _read(copy, target)


def _read(folder: Path, target: str) -> Plans:
    manifest, place = read_manifest(folder), folder / record.ENGINES / target
    found: Plans = {}
    for graph in GRAPHS:
        built = record.read_record(place, graph)
        record.check_model(built, manifest, folder)
        found[graph] = record.read_plan(place, built), built
    return found


def _prepare(rtx: Any, gpu: Gpu, plans: Plans, graph: str, feed: Arrays) -> Call:
    plan, built = plans[graph]
    version = str(rtx.__version__)
    if (built.library, built.version, built.sm) != ("tensorrt_rtx", version, gpu.sm):
        raise ModelError(
            f"the engine was built with {built.library} {one_line(built.version)} for "
            f"sm_{built.sm}; here is tensorrt_rtx {version} on sm_{gpu.sm}: build it again"
        )
    buffers = open_buffers()  # first, for the engine works in the context that is current
    try:
        engine = Engine(rtx, rtx.Runtime(make_logger(rtx)), plan, built)
    except BaseException:
        buffers.close()
        raise
    precision = PRECISION_NAMES.get(built.precision, built.precision)
    ran = Ran(
        backend="tensorrt-rtx",
        provider=gpu.name,
        precision=precision,
        computed_in=precision,
        version=version,
        threads=1,
        options={"part gather": "function body", "memory": buffers.name},
    )
    return engine_call(Session(buffers, {graph: engine}), graph, feed, ran, graphed=False)
