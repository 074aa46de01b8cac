"""A mask network as an engine: crops in as bytes, logits out, beside `frames` and `head`.

Normalisation, order of colours and layout are in the graph that was built (`export.tensorrt`), so
that a crop goes to the GPU as it was cut out. Run on stand-ins so far, not on a device.
"""

from __future__ import annotations

import weakref
from pathlib import Path

from cstl_edge.arrays import Floats, Image
from cstl_edge.errors import ModelError, one_line
from cstl_edge.measure.nvtx import nvtx_range
from cstl_edge.runtime.cuda.open import open_buffers
from cstl_edge.runtime.graph import Arrays
from cstl_edge.runtime.masks.base import logits_and_presence
from cstl_edge.runtime.masks.manifest import MaskManifest
from cstl_edge.runtime.tensorrt.encoder import Host, deserialise, detect_host
from cstl_edge.runtime.tensorrt.pool import SessionPool
from cstl_edge.runtime.tensorrt.record import (
    ENGINES,
    TENSORRT,
    EngineRecord,
    build_command,
    read_plan,
    read_record,
)
from cstl_edge.runtime.tensorrt.session import ROWS, Session

GRAPH = "mask"


class TrtMaskNetwork:
    """The engine of a mask network. Use `masks.open.open_mask_network`."""

    def __init__(
        self, manifest: MaskManifest, host: Host, plan: bytes, record: EngineRecord
    ) -> None:
        """Open a plan whose record and bytes are in order.

        Args:
            manifest: Manifest of the network.
            host: Result of `detect_host`.
            plan: Bytes of the plan; ModelError where TensorRT refuses them.
            record: Record of the plan.
        """
        self.side, self._manifest = manifest.input.side, manifest
        self.provider = f"{host.gpu} (TensorRT {host.trt.__version__}, {record.precision})"
        self._warm: weakref.WeakSet[Session] = weakref.WeakSet()
        plans, records = {GRAPH: plan}, {GRAPH: record}
        self._pool = SessionPool(
            lambda: open_buffers(), lambda: deserialise(host, plans, records), None
        )

    def __call__(self, crops: Image) -> tuple[Floats, Floats]:
        """Return logits [m, side, side] and presence [m] of crops uint8 BGR [m, side, side, 3]."""

        def work(session: Session) -> Arrays:
            if session not in self._warm:  # the first frame waits, not the second person
                session.warm_up(ROWS[-1])
                self._warm.add(session)
            return session.run(GRAPH, {"crops": crops})

        with nvtx_range(GRAPH):
            outputs = self._pool.retried(work)
        return logits_and_presence(self._manifest, outputs["mask"], outputs.get("presence"))

    def close(self) -> None:
        """Give back what every thread holds."""
        self._pool.close()


def open_mask_engine(folder: Path, manifest: MaskManifest) -> TrtMaskNetwork:
    """Open the engine of a mask network that was built beside those of an exported model.

    Args:
        folder: Exported model.
        manifest: Manifest of the network; ModelError where the engine is another network's, or
            was built for another machine.

    Raises BackendUnavailable where TensorRT, a CUDA library or a GPU is missing.
    """
    place = folder / ENGINES / TENSORRT
    if not (place / f"{GRAPH}.plan.json").exists():
        raise ModelError(f"no engine masks people in {one_line(place)}: {build_command(folder)}")
    record = read_record(place, GRAPH)
    if record.onnx_sha256 != manifest.sha256:
        raise ModelError(
            f"the engine mask was built from {one_line(record.onnx)} {record.onnx_sha256[:12]}…, "
            f"the network is {manifest.file} {manifest.sha256[:12]}…. Build it again with "
            "--mask-network"
        )
    host = detect_host({GRAPH: record}, folder)
    return TrtMaskNetwork(manifest, host, read_plan(place, record), record)
