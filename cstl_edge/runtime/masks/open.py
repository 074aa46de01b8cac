"""Open a mask network: on the GPU where its engine lies beside those in use, else on the CPU."""

from __future__ import annotations

import logging
from pathlib import Path

from cstl_edge.errors import BackendUnavailable, ModelError
from cstl_edge.runtime.masks.base import MaskNetwork
from cstl_edge.runtime.masks.check import checked_mask
from cstl_edge.runtime.masks.cpu import CpuMaskNetwork

log = logging.getLogger(__name__)


def open_mask_network(
    path: Path | None = None, *, threads: int = 1, model: Path | None = None
) -> MaskNetwork:
    """Return a checked network that is ready to run (ModelError, BackendUnavailable).

    Args:
        path: Manifest of the network; None for the shipped one.
        threads: Number of crops at once on a CPU.
        model: Exported model whose TensorRT engines are in use; its folder is where an engine of
            the network may lie. None on a CPU.
    """
    manifest, data = checked_mask(path)
    if model is not None:
        from cstl_edge.runtime.tensorrt.masks import open_mask_engine

        try:
            network = open_mask_engine(model, manifest)
        except (ModelError, BackendUnavailable) as err:
            log.warning("people are masked on the CPU, because %s", err)
        else:
            log.info("people are masked on %s", network.provider)
            return network
    return CpuMaskNetwork(manifest, data, threads)
