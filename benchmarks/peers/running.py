"""Runners of a peer as it is deployed: eager PyTorch or ONNX Runtime, whole windows or per frame.

Letters: n sequences, s frames, h w pixels, p parts, d embedding dimensions.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from cstl_edge.arrays import Floats, Silhouettes
from cstl_edge.export.graphs import build_graph
from cstl_edge.model import Cstl
from cstl_edge.runtime.backends.ort_session import open_session
from cstl_edge.runtime.graph_format import OPSET
from peers.blocks import SIZE, Peer
from peers.networks import FRAMES, PUBLISHED, network

WHOLE, FRAME, ANSWER = "full", "frames", "head"


class CstlPeer(Peer):
    """CSTL in the form in which it is deployed, norms folded, behind the peers' interface."""

    def __init__(self, cstl: Cstl) -> None:
        super().__init__()
        self.network = cstl.fused()
        self.parts, self.embedding = cstl.config.parts, cstl.config.embedding

    def frames(self, silhouettes: Tensor) -> tuple[Tensor, ...]:
        """Return the part features of every frame, [m, p, c]."""
        return (self.network.frame_features(silhouettes),)

    def answer(self, kept: Sequence[Tensor]) -> Tensor:
        """Return the embedding of frames in their order."""
        return self.network.head(kept[0])[0]


class Runner(Protocol):
    """One network in one runtime, one walker at a time."""

    def whole(self, silhouettes: Silhouettes) -> Floats:
        """Return the embedding [1, p, d] of a sequence [1, s, h, w]."""

    def frame(self, silhouette: Silhouettes) -> list[Floats]:
        """Return what is kept of one frame [1, h, w], [1, ...] each."""

    def answer(self, kept: Sequence[Floats]) -> Floats:
        """Return the embedding [1, p, d] of what was kept of a window, [1, s, ...] each."""


class Eager:
    """PyTorch as most people run it."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer.eval()

    def whole(self, silhouettes: Silhouettes) -> Floats:
        """See `Runner`."""
        with torch.inference_mode():
            return _array(self._peer(torch.from_numpy(silhouettes)))

    def frame(self, silhouette: Silhouettes) -> list[Floats]:
        """See `Runner`."""
        with torch.inference_mode():
            return [_array(x) for x in self._peer.frames(torch.from_numpy(silhouette))]

    def answer(self, kept: Sequence[Floats]) -> Floats:
        """See `Runner`."""
        with torch.inference_mode():
            return _array(self._peer.answer([torch.from_numpy(x) for x in kept]))


class Onnx:
    """ONNX Runtime, with the options of the package's own sessions."""

    def __init__(self, graphs: Mapping[str, bytes], threads: int) -> None:
        """Open graphs of `exported`; those that are missing cannot be run."""
        self._sessions = {
            name: open_session(f"{name}.onnx", graph, threads) for name, graph in graphs.items()
        }

    def whole(self, silhouettes: Silhouettes) -> Floats:
        """See `Runner`."""
        return self._run(WHOLE, [silhouettes])[0]

    def frame(self, silhouette: Silhouettes) -> list[Floats]:
        """See `Runner`."""
        return self._run(FRAME, [silhouette])

    def answer(self, kept: Sequence[Floats]) -> Floats:
        """See `Runner`."""
        return self._run(ANSWER, kept)[0]

    def _run(self, name: str, inputs: Sequence[Any]) -> list[Floats]:
        session = self._sessions[name]
        names = [x.name for x in session.get_inputs()]
        if names[-1] == "lengths":  # CSTL's graphs take windows of any length
            inputs = [*inputs, np.full(1, inputs[0].shape[1], np.int32)]
        outputs: list[Floats] = session.run(None, dict(zip(names, inputs, strict=True)))
        return outputs


class Ring:
    """What was kept of a walker's last frames, oldest first, without a copy per frame.

    Each frame is written twice, s places apart: s places in a row then always hold the window.
    """

    def __init__(self, frames: int) -> None:
        """Hold so many frames; until then the window holds zeros."""
        self.frames, self._next = frames, 0
        self._rows: list[Floats] = []

    def push(self, kept: Sequence[Floats]) -> list[Floats]:
        """Add what was kept of one frame, [1, ...] each; return the window, [1, s, ...] each."""
        if not self._rows:
            self._rows = [np.zeros((2 * self.frames, *x.shape[1:]), np.float32) for x in kept]
        place = self._next % self.frames
        self._next += 1
        for rows, x in zip(self._rows, kept, strict=True):
            rows[place] = rows[place + self.frames] = x[0]
        return [rows[None, place + 1 : place + 1 + self.frames] for rows in self._rows]


class Stream:
    """An endless walker: every step is one more frame and the answer after it."""

    last: Floats
    """[1, p, d], the last answer."""

    def __init__(self, runner: Runner, silhouettes: Silhouettes) -> None:
        """Walk silhouettes [1, s, h, w] once, with an answer at their end."""
        self._runner, self._silhouettes, self._next = runner, silhouettes, 0
        self._ring = Ring(silhouettes.shape[1])
        for _ in silhouettes[0, 1:]:
            self._push()
        self.step()

    def step(self) -> None:
        """Take the next frame; behind the last comes the first."""
        self.last = self._runner.answer(self._push())

    def _push(self) -> list[Floats]:
        frames = self._silhouettes.shape[1]
        place = self._next % frames
        self._next += 1
        return self._ring.push(self._runner.frame(self._silhouettes[0, place : place + 1]))


def random_blocks(frames: int) -> Silhouettes:
    """Return random silhouettes uint8 [1, frames, h, w] in blocks of four pixels."""
    height, width = SIZE
    blocks = np.random.default_rng(0).integers(0, 2, (1, frames, height // 4, width // 4), np.uint8)
    return np.ascontiguousarray(blocks.repeat(4, 2).repeat(4, 3) * np.uint8(255))


def random_peer(name: str, widths: str) -> Peer:
    """Return a network with random weights, at COMMON or PUBLISHED widths."""
    torch.manual_seed(0)
    kind = network(name)
    return as_peer(kind.published() if widths == PUBLISHED else kind.scaled(0))


def as_peer(model: nn.Module) -> Peer:
    """Return a network behind the peers' interface, for inference."""
    if isinstance(model, Cstl):
        return CstlPeer(model).eval()
    assert isinstance(model, Peer)
    return model.eval()


def exported(peer: Peer, only: Sequence[str] = (WHOLE, FRAME, ANSWER)) -> dict[str, bytes]:
    """Return a network as ONNX graphs: `full`, and where frames are seen alone both halves of it.

    The peers' graphs are for one sequence of FRAMES frames, CSTL's for any.
    """
    names = [name for name in only if name == WHOLE or peer.per_frame]
    if isinstance(peer, CstlPeer):
        return {name: build_graph(peer.network, name).SerializeToString() for name in names}
    return {name: _traced(*_half(peer, name)) for name in names}


def _half(peer: Peer, name: str) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Return the module of one graph, and inputs of it."""
    silhouettes = torch.zeros((1, FRAMES, *SIZE), dtype=torch.uint8)
    if name == WHOLE:
        return peer, (silhouettes,)
    if name == FRAME:
        return _Frames(peer), (silhouettes[0, :1],)
    with torch.no_grad():
        kept = peer.frames(silhouettes[0])
    return _Answer(peer), tuple(x[None] for x in kept)


class _Frames(nn.Module):
    def __init__(self, peer: Peer) -> None:
        super().__init__()
        self.peer = peer

    def forward(self, silhouettes: Tensor) -> tuple[Tensor, ...]:
        return self.peer.frames(silhouettes)


class _Answer(_Frames):
    def forward(self, *kept: Tensor) -> Tensor:  # type: ignore[override]
        return self.peer.answer(kept)


def _traced(module: nn.Module, example: tuple[Tensor, ...]) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # tracer notes and the exporter's own deprecation
        torch.onnx.export(
            module.eval(),
            example,
            file,  # type: ignore[arg-type]  # a stream is fine, the annotation forgets it
            dynamo=False,
            opset_version=OPSET,
            input_names=[f"input{number}" for number in range(len(example))],
        )
    return file.getvalue()


def _array(tensor: Tensor) -> Floats:
    return np.ascontiguousarray(tensor.numpy(), np.float32)
