"""TensorRT-RTX: an engine built for this card once, in a folder of its own. Not run on a card yet.

The library supports RTX cards alone. On another it is tried once, and its own message is reported.
"""

from __future__ import annotations

import importlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing
from functools import lru_cache, partial
from pathlib import Path

from cstl_edge.bench.backends.base import Backend, GraphUnderTest, Unavailable
from cstl_edge.bench.backends.tensorrt import open_engine
from cstl_edge.bench.context import Context
from cstl_edge.errors import CstlEdgeError, ModelError, one_line
from cstl_edge.runtime.cuda.base import Gpu
from cstl_edge.runtime.cuda.open import open_buffers
from cstl_edge.runtime.graph import Arrays
from cstl_edge.runtime.manifest import read_manifest
from cstl_edge.runtime.tensorrt.encoder import Host
from cstl_edge.runtime.tensorrt.record import ENGINES, EngineRecord, read_plan, read_records

NAME = "tensorrt-rtx float16"
CARDS = (75, 80, 86, 89, 120, 121)  # compute capabilities that its support matrices list
GRAPHS = ("frames", "head")
Engines = dict[str, tuple[bytes, EngineRecord]]
"""Plans and their records by graph."""


def backends(context: Context) -> Iterator[Backend | Unavailable]:
    """Yield the engines of this card, built now where they are not in the folder."""
    try:
        rtx = importlib.import_module("tensorrt_rtx")
    except (ImportError, OSError, RuntimeError) as err:
        yield Unavailable(
            NAME, f"TensorRT-RTX is not here ({one_line(err, 80)}): pip install tensorrt-rtx"
        )
        return
    try:
        with closing(open_buffers()) as buffers:
            gpu = buffers.gpu()
    except CstlEdgeError as err:
        yield Unavailable(NAME, str(err))
        return
    try:
        engines = _engines(context, gpu)
    except CstlEdgeError as err:
        listed = gpu.sm in CARDS
        why = "" if listed else f"not supported on this architecture (sm_{gpu.sm}); tried: "
        yield Unavailable(NAME, f"{why}{err}")
        return
    host = Host(rtx, gpu.name, buffers.name, None)
    yield Backend(NAME, partial(_open_graph, host, gpu.sm, engines), graphs=GRAPHS)


def _engines(context: Context, gpu: Gpu) -> Engines:
    """Return the engines for this card, from the folder or built beside it once."""
    folder, target = context.engines or context.folder, f"rtx-sm{gpu.sm}"
    if (folder / ENGINES / target).is_dir():
        return _read(folder, target)
    context.progress(f"tensorrt-rtx: building for sm_{gpu.sm}")
    engines = _build(context.folder, target)
    if isinstance(engines, CstlEdgeError):
        raise engines
    return engines


@lru_cache(maxsize=2)
def _build(folder: Path, target: str) -> Engines | CstlEdgeError:
    """Build once, or fail once: it takes minutes, and every scenario lists the backends."""
    from cstl_edge.export.tensorrt.build import BuildOptions, build_engines

    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / "model"
        shutil.copytree(folder, copy, ignore=lambda *_: [ENGINES])
        try:
            build_engines(copy, BuildOptions(target=target, graphs=GRAPHS))
            return _read(copy, target)
        except CstlEdgeError as err:
            return err


def _read(folder: Path, target: str) -> Engines:
    records = read_records(folder, GRAPHS, read_manifest(folder), target)
    place = folder / ENGINES / target
    return {graph: (read_plan(place, record), record) for graph, record in records.items()}


def _open_graph(host: Host, sm: int, engines: Engines, graph: str, feed: Arrays) -> GraphUnderTest:
    plan, record = engines[graph]
    version = str(host.trt.__version__)
    if (record.library, record.version, record.sm) != ("tensorrt_rtx", version, sm):
        raise ModelError(
            f"the engine was built with {record.library} {one_line(record.version)} for "
            f"sm_{record.sm}; here is tensorrt_rtx {version} on sm_{sm}: build it again"
        )
    return open_engine("tensorrt-rtx", host, plan, record, feed)
