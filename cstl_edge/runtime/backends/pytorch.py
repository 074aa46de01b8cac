"""PyTorch, the reference backend: a checkpoint, or a network in memory, as an `Encoder`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cstl_edge.arrays import Array
from cstl_edge.distance import EUCLIDEAN
from cstl_edge.errors import BackendUnavailable, ModelError, one_line
from cstl_edge.extras import install_command
from cstl_edge.runtime.base import EncoderInfo, model_folder, refuse_precision
from cstl_edge.runtime.graph import Arrays
from cstl_edge.runtime.graph_encoder import GraphEncoder
from cstl_edge.runtime.graph_format import signature
from cstl_edge.runtime.manifest import Manifest, Shape, read_manifest
from cstl_edge.runtime.matching_file import read_distance

if TYPE_CHECKING:
    from cstl_edge.model import Cstl


log = logging.getLogger(__name__)

NO_INCREMENTAL_HEAD = (
    "expected an encoder whose info says `slides`; this network has no sliding form: use `head`"
)


def load_weights(
    path: Path | None, threads: int | None = None, precision: str | None = None
) -> TorchEncoder:
    """Open a checkpoint.

    Args:
        path: Checkpoint, a `.safetensors` file (else ModelError); None for the shipped weights.
        threads: PyTorch's count, which is one for the whole process; None leaves it alone.
        precision: "float32" or None (else ConfigError).

    Raises BackendUnavailable where PyTorch is not installed.
    """
    refuse_precision(precision, "pytorch", but="float32")
    weights = model_folder(None).with_suffix(".safetensors") if path is None else path
    if weights.suffix != ".safetensors":
        raise ModelError(
            f"expected a .safetensors checkpoint for backend 'pytorch'; got {one_line(weights)}"
        )
    try:
        import torch

        from cstl_edge.checkpoint.weights import load_checkpoint, read_header
    except ImportError as err:
        raise BackendUnavailable(
            "backend 'pytorch' is not on this machine",
            remedy=f"{install_command('train')}, or export the weights where it is (cstl-edge "
            "export)",
        ) from err
    model, training = load_checkpoint(weights)
    digest = read_header(weights)[0]["weights_sha256"]  # load_checkpoint has just confirmed it
    if threads is not None:
        torch.set_num_threads(threads)
    name = str(training.get("name") or weights.stem)
    return TorchEncoder(model, name, digest, _export_beside(weights, digest))


class TorchEncoder(GraphEncoder):
    """A network of `cstl_edge.model`, in evaluation mode, where its weights are."""

    def __init__(
        self,
        model: Cstl,
        name: str = "unnamed",
        weights_sha256: str = "",
        export: tuple[Path, Manifest] | None = None,
    ) -> None:
        """Take a network as it is; only its mode is changed.

        Args:
            model: Network on any device, in any type.
            name: Name of the model.
            weights_sha256: Hash of the trained weights.
            export: Exported folder of the same weights, for thresholds and distance.
        """
        import torch

        from cstl_edge.model.head_matrices import has_fast_heads

        config, dtype = model.config, next(model.parameters()).dtype
        can_slide = has_fast_heads(config) and dtype == torch.float32
        names = ("frames", "head", *(("taps", "mix", "slide") if can_slide else ()))
        graphs = {graph: TorchGraph(model.eval(), graph) for graph in names}
        info = EncoderInfo(
            backend="pytorch",
            provider=graphs["head"].provider,
            precision=str(dtype).removeprefix("torch."),
            threads=graphs["head"].threads,
            model_name=name,
            weights_sha256=weights_sha256,
            size=config.size,
            parts=config.parts,
            channels=config.widths[-1],
            embedding=config.embedding,
            impostors=export[1].impostors if export else None,
            distance=read_distance(*export) if export else EUCLIDEAN,
            confidence=export[1].confidence if export else None,
            slides=can_slide,
        )
        super().__init__(info, graphs, NO_INCREMENTAL_HEAD)

    def close(self) -> None:
        """Keep everything: the network belongs to the caller."""


class TorchGraph:
    """One graph of a network, as an `OpenGraph` and as a function of tensors."""

    def __init__(self, model: Cstl, graph: str) -> None:
        """Take a network in evaluation mode and the name of a graph."""
        import torch

        weight = next(model.parameters())
        self._torch, self._device = torch, weight.device
        shape = Shape.model_validate(model.config.to_dict())
        self.inputs, self._outputs = map(tuple, signature(graph, shape))  # names, in order
        self.provider, self.threads = str(weight.device), torch.get_num_threads()
        self.compute = _in_type(_function(model, graph), weight.dtype)
        """From tensors to a tuple of tensors, None for the frames that a network without SSFL does
        not name. A compiled form may take its place."""

    def __call__(self, inputs: Arrays) -> Arrays:
        """Run it on arrays, which are copied to the network's device."""
        with self._torch.inference_mode():
            return self.named(self.compute(*self.tensors(inputs)))

    def tensors(self, inputs: Arrays) -> tuple[Any, ...]:
        """Copy arrays to the network's device: they may be read-only, tensors must not."""
        return tuple(self._torch.tensor(inputs[x], device=self._device) for x in self.inputs)

    def named(self, outputs: Sequence[Any]) -> dict[str, Array]:
        """Return tensors as float32 or int32 arrays by the names of the outputs."""
        arrays = {}
        for name, x in zip(self._outputs, outputs, strict=False):  # without SSFL the last is None
            kind = np.float32 if x.is_floating_point() else np.int32
            arrays[name] = np.asarray((x.float() if kind is np.float32 else x).cpu().numpy(), kind)
        return arrays


def _in_type(function: Callable[..., Any], dtype: Any) -> Callable[..., Sequence[Any]]:
    """Return a function that takes floats in the network's type and returns a tuple."""

    def compute(*tensors: Any) -> Sequence[Any]:
        outputs = function(*(x.to(dtype) if x.is_floating_point() else x for x in tensors))
        return outputs if isinstance(outputs, tuple) else (outputs,)

    return compute


def _function(model: Cstl, graph: str) -> Callable[..., Any]:
    """Return what computes a graph from the tensors of its inputs."""
    from cstl_edge.model.incremental_head import Mix, Slide, Taps

    modules: dict[str, Callable[[Cstl], Any]] = {"taps": Taps, "mix": Mix, "slide": Slide}
    methods: dict[str, Callable[..., Any]] = {
        "frames": model.frame_features,
        "head": model.head,
        "full": model.forward,
    }
    return methods[graph] if graph in methods else modules[graph](model)


def _export_beside(path: Path, weights_sha256: str) -> tuple[Path, Manifest] | None:
    """Return the exported folder beside with its manifest, where it is of these weights."""
    folder = path.with_suffix("")
    if not folder.is_dir():
        return None
    try:
        manifest = read_manifest(folder)
    except ModelError as err:
        log.warning("no thresholds for %s: %s", one_line(path), err)
        return None
    return (folder, manifest) if manifest.weights_sha256 == weights_sha256 else None
