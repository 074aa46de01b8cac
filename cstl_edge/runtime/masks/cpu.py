"""A mask network in ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from cstl_edge.arrays import Floats, Image
from cstl_edge.errors import ModelError, one_line
from cstl_edge.runtime.backends.ort_session import open_session
from cstl_edge.runtime.masks.base import logits_and_presence
from cstl_edge.runtime.masks.manifest import MaskManifest


class CpuMaskNetwork:
    """Runs a network on crops, one crop per run and `threads` runs at once.

    Threads inside the network wait for each other at its many small layers: of five to eight crops
    on two busy cores each took 14 to 17 ms that way, and 7.5 ms this way.
    """

    def __init__(self, manifest: MaskManifest, data: bytes, threads: int = 1) -> None:
        """Open a network that was checked (ModelError, BackendUnavailable).

        Args:
            manifest: Manifest of the network.
            data: Bytes of its ONNX file.
            threads: Number of crops at once.
        """
        self.side = manifest.input.side
        self._manifest = manifest
        self._session = open_session(manifest.file, data, threads=1)
        self.provider = str(self._session.get_providers()[0])
        self._outputs = [manifest.mask.name]
        self._outputs += [manifest.presence.name] if manifest.presence else []
        self._mean = np.array(manifest.input.mean, np.float32)
        self._std = np.array(manifest.input.std, np.float32)
        self._helpers = threads - 1  # beside the calling thread, which would only wait
        self._workers = ThreadPoolExecutor(max(1, self._helpers), "cstl-edge-segment")

    def __call__(self, crops: Image) -> tuple[Floats, Floats]:
        """Return logits [m, side, side] and presence [m] of crops uint8 BGR [m, side, side, 3]."""
        outputs: dict[int, list[Any]] = {}
        todo = iter(enumerate(crops))
        helpers = min(self._helpers, len(crops) - 1)
        helping = [self._workers.submit(self._work, todo, outputs) for _ in range(helpers)]
        self._work(todo, outputs)
        for helper in helping:
            if not helper.cancel():  # it has begun
                helper.result()
        in_order = zip(*(outputs[i] for i in range(len(crops))), strict=True)
        mask, *presence = (np.concatenate(crops_of) for crops_of in in_order)
        return logits_and_presence(self._manifest, mask, presence[0] if presence else None)

    def close(self) -> None:
        """Let the helpers go."""
        self._workers.shutdown(wait=False)

    def _work(self, todo: Iterator[tuple[int, Image]], outputs: dict[int, list[Any]]) -> None:
        """Run crops as long as `todo` has any; threads that share `todo` share the work."""
        for i, crop in todo:
            feed = {self._manifest.input.name: self._prepared(crop)}
            try:
                outputs[i] = self._session.run(self._outputs, feed)
            except Exception as err:  # its exceptions have no public base
                raise ModelError(
                    f"{self._manifest.file}: ONNX Runtime failed: {one_line(err)}"
                ) from err

    def _prepared(self, crop: Image) -> Floats:
        """Return one crop as the network wants it, [1, side, side, 3] or [1, 3, side, side]."""
        wanted = self._manifest.input
        colours = crop[..., ::-1] if wanted.colours == "RGB" else crop
        pixels = colours.astype(np.float32, order="C")  # [side, side, 3]
        if self._mean.any():
            pixels -= self._mean
        pixels /= self._std
        if wanted.layout == "NCHW":
            pixels = np.ascontiguousarray(pixels.transpose(2, 0, 1))  # [3, side, side]
        return pixels[None]
