"""Runners of a peer as it is deployed: eager PyTorch or ONNX Runtime, whole windows or per frame.

Letters: n sequences, s frames, h w pixels, p parts, d embedding dimensions.
"""

from __future__ import annotations

import io
import itertools
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from cstl_edge.arrays import Array, Floats, Silhouettes
from cstl_edge.export.graphs import build_graph
from cstl_edge.model import Cstl
from cstl_edge.reproduce.peers.blocks import SIZE, Peer
from cstl_edge.runtime.backends.ort_session import open_session
from cstl_edge.runtime.graph_format import OPSET
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


class Runner(ABC):
    """One network in one runtime, one walker at a time."""

    @abstractmethod
    def run(self, graph: str, inputs: Sequence[Array]) -> Sequence[Floats]:
        """Return the outputs of WHOLE, FRAME or ANSWER (see `part`)."""

    def whole(self, silhouettes: Silhouettes) -> Floats:
        """Return the embedding [1, p, d] of a sequence [1, s, h, w]."""
        return self.run(WHOLE, [silhouettes])[0]


class Eager(Runner):
    """PyTorch as most people run it."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer.eval()

    def run(self, graph: str, inputs: Sequence[Array]) -> Sequence[Floats]:
        """See `Runner`."""
        with torch.inference_mode():
            outputs = part(self._peer, graph, [torch.from_numpy(x) for x in inputs])
        return [np.ascontiguousarray(x.numpy(), np.float32) for x in outputs]


class Onnx(Runner):
    """ONNX Runtime, with the options of the package's own sessions."""

    def __init__(self, graphs: Mapping[str, bytes], threads: int) -> None:
        """Open graphs of `exported`; those that are missing cannot be run."""
        self._sessions = {
            name: open_session(f"{name}.onnx", graph, threads) for name, graph in graphs.items()
        }

    def run(self, graph: str, inputs: Sequence[Array]) -> Sequence[Floats]:
        """See `Runner`."""
        session = self._sessions[graph]
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

    last: Floats  # [1, p, d], the last answer

    def __init__(self, runner: Runner, silhouettes: Silhouettes) -> None:
        """Walk silhouettes [1, s, h, w] once, with an answer at their end."""
        frames = silhouettes.shape[1]
        self._runner, self._ring = runner, Ring(frames)
        self._frames = itertools.cycle(silhouettes[0, k : k + 1] for k in range(frames))
        for _ in range(frames - 1):
            self._push()
        self.step()

    def step(self) -> None:
        """Take the next frame; behind the last comes the first."""
        self.last = self._runner.run(ANSWER, self._push())[0]

    def _push(self) -> list[Floats]:
        return self._ring.push(self._runner.run(FRAME, [next(self._frames)]))


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


def part(peer: Peer, graph: str, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
    """Run a graph of a peer: the embedding of a sequence, what is kept of a frame, the answer.

    Args:
        peer: The network.
        graph: WHOLE, FRAME or ANSWER.
        inputs: Inputs of that graph.
    """
    if graph == FRAME:
        return peer.frames(*inputs)
    return (peer(*inputs) if graph == WHOLE else peer.answer(inputs),)


def exported(peer: Peer, only: Sequence[str] = (WHOLE, FRAME, ANSWER)) -> dict[str, bytes]:
    """Return a network as ONNX graphs: `full`, and where frames are seen alone both halves of it.

    The peers' graphs are for one sequence of FRAMES frames, CSTL's for any.
    """
    names = [name for name in only if name == WHOLE or peer.per_frame]
    if isinstance(peer, CstlPeer):
        return {name: build_graph(peer.network, name).SerializeToString() for name in names}
    return {name: _traced(_Graph(peer, name)) for name in names}


class _Graph(nn.Module):
    """A graph of a peer, and inputs of it."""

    def __init__(self, peer: Peer, name: str) -> None:
        super().__init__()
        self.peer, self.name = peer, name

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(part(self.peer, self.name, inputs))

    def example(self) -> tuple[Tensor, ...]:
        silhouettes = torch.zeros((1, FRAMES, *SIZE), dtype=torch.uint8)
        if self.name == WHOLE:
            return (silhouettes,)
        if self.name == FRAME:
            return (silhouettes[0, :1],)
        return tuple(x[None] for x in self.peer.frames(silhouettes[0]))


def _traced(graph: _Graph) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # tracer notes and the exporter's own deprecation
        example = graph.example()
        torch.onnx.export(
            graph.eval(),
            example,
            file,  # type: ignore[arg-type]  # a stream is fine, the annotation forgets it
            dynamo=False,
            opset_version=OPSET,
            input_names=[f"input{number}" for number in range(len(example))],
        )
    return file.getvalue()
