"""PyTorch as the reference backend: a checkpoint, or a network in memory, as an `Encoder`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cstl_edge.arrays import Floats, Indices, Ints, Silhouettes
from cstl_edge.errors import BackendUnavailable, ModelError, one_line
from cstl_edge.runtime.base import (
    Embedded,
    EncoderInfo,
    check_features,
    check_lengths,
    check_silhouettes,
    encode_in_parts,
)
from cstl_edge.runtime.manifest import read_manifest
from cstl_edge.runtime.streaming.rings import KEPT, check_rows, check_slots

if TYPE_CHECKING:
    from cstl_edge.model import Cstl


log = logging.getLogger(__name__)

NO_CUTS = (
    "expected an encoder whose info says `slides`; this network has no sliding form: use `head`"
)


class TorchEncoder:
    """A network of `cstl_edge.model`, in evaluation mode, where its weights are."""

    def __init__(
        self,
        model: Cstl,
        name: str = "unnamed",
        weights_sha256: str = "",
        impostors: Mapping[str, Any] | None = None,
    ) -> None:
        """Take a network as it is; only its mode is changed."""
        import torch

        from cstl_edge.model.incremental_head import Mix, Slide, Taps, slides

        self._torch, self._model = torch, model.eval()
        weight = next(model.parameters())
        config = model.config
        can_slide = slides(config) and weight.dtype == torch.float32
        self._cuts = [cut(model) for cut in (Taps, Mix, Slide)] if can_slide else []
        self._device = weight.device
        self._info = EncoderInfo(
            backend="pytorch",
            provider=str(weight.device),
            precision=str(weight.dtype).removeprefix("torch."),
            threads=torch.get_num_threads(),
            model_name=name,
            weights_sha256=weights_sha256,
            size=config.size,
            parts=config.parts,
            channels=config.widths[-1],
            embedding=config.embedding,
            impostors=impostors,
            slides=can_slide,
        )

    @property
    def info(self) -> EncoderInfo:
        """Return what this encoder is."""
        return self._info

    def frames(self, silhouettes: Silhouettes) -> Floats:
        """Return the part features [m, p, c] of silhouettes [m, h, w]."""
        check_silhouettes(silhouettes, self._info.size, ("m",))
        with self._torch.inference_mode():
            features = self._model.frame_features(self._tensor(silhouettes))
            return np.asarray(features.float().cpu().numpy(), np.float32)

    def head(self, features: Floats, lengths: Ints) -> Embedded:
        """Return the embeddings of windows [n, s, p, c], of which `lengths` [n] frames count."""
        check_features(features, self._info)
        check_lengths(lengths, *features.shape[:2])
        with self._torch.inference_mode():
            return _as_arrays(*self._model.head(self._tensor(features), self._tensor(lengths)))

    def taps(self, features: Floats) -> tuple[Floats, Floats]:
        """Return of frames [p, m, c] the shares [p, m, 7c] and gates [p, m, 2c]."""
        check_rows("features", features, self._info.parts, self._info.channels)
        shares, gates = self._cut(0, features)
        return shares, gates

    def mix(self, features: Floats, sums: Floats) -> tuple[Floats, Floats]:
        """Return of frames' T_f and T_f + T_s [p, m, c] the logits [p, m, 3c], judged [p, m, h]."""
        for name, rows in (("features", features), ("sums", sums)):
            check_rows(name, rows, self._info.parts, self._info.channels)
        logits, judged = self._cut(1, features, sums)
        return logits, judged

    def slide(self, kept: Mapping[str, Floats], slots: Indices) -> Embedded:
        """Return the embeddings of windows of what is kept of s frames, [n, p, s, ..] by name."""
        check_slots(slots, kept)
        return Embedded(*self._cut(2, *(kept[name] for name in KEPT), slots))

    def encode(self, silhouettes: Silhouettes, lengths: Ints | None = None) -> Embedded:
        """Return the embeddings of sequences [n, s, h, w]."""
        return encode_in_parts(self, silhouettes, lengths)

    def close(self) -> None:
        """Nothing to give back: the network belongs to whoever made it."""

    def _cut(self, index: int, *inputs: Any) -> tuple[Any, ...]:
        """Run one of the head's cuts on arrays."""
        if not self._cuts:
            raise ModelError(NO_CUTS)
        with self._torch.inference_mode():
            outputs = self._cuts[index](*map(self._tensor, inputs))
            return tuple(output.cpu().numpy() for output in outputs)

    def _tensor(self, array: Any) -> Any:
        """Copy an array to the network's device; an array may be read-only, a tensor must not."""
        return self._torch.tensor(array, device=self._device)


def load_weights(path: Path, threads: int | None = None) -> TorchEncoder:
    """Open a `.safetensors` checkpoint (ModelError, BackendUnavailable).

    `threads` sets PyTorch's count, which is one for the whole process; None leaves it alone.
    """
    if path.suffix != ".safetensors":
        raise ModelError(
            f"expected a .safetensors checkpoint for backend 'pytorch'; got {one_line(path)}"
        )
    try:
        import torch

        from cstl_edge.checkpoint.weights import load_checkpoint, read_header
    except ImportError as err:
        raise BackendUnavailable(
            "backend 'pytorch' is not on this machine: pip install 'cstl-edge[train]', or export "
            "the weights where it is (cstl-edge export)"
        ) from err
    model, training = load_checkpoint(path)
    digest = read_header(path)[0]["weights_sha256"]  # load_checkpoint has just confirmed it
    if threads is not None:
        torch.set_num_threads(threads)
    name = str(training.get("name") or path.stem)
    return TorchEncoder(model, name, digest, _impostors(path, digest))


def _impostors(path: Path, weights_sha256: str) -> Mapping[str, Any] | None:
    """Return the impostor distances of the exported folder beside, where it is of these weights."""
    folder = path.with_suffix("")
    if not folder.is_dir():
        return None
    try:
        manifest = read_manifest(folder)
    except ModelError as err:
        log.warning("no impostor distances for %s: %s", one_line(path), err)
        return None
    return manifest.impostors if manifest.weights_sha256 == weights_sha256 else None


def _as_arrays(embedding: Any, salient_frames: Any | None) -> Embedded:
    """Bring the head's two tensors to the CPU; a network without SSFL has only the first."""
    vectors = np.asarray(embedding.float().cpu().numpy(), np.float32)
    if salient_frames is None:
        return Embedded(vectors, np.full(vectors.shape[:2], -1, np.int32))
    return Embedded(vectors, np.asarray(salient_frames.cpu().numpy(), np.int32))
