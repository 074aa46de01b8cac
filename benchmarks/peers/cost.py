"""What a network of the comparison costs: parameters, multiply-adds, milliseconds, memory.

Costs do not depend on what the weights are, so networks are drawn at random here. Letters: s
frames, p parts, d embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from cstl_edge.bench.record import Case, Check, ModelUnderTest, Ran, Row
from cstl_edge.checkpoint.weights import weights_sha256
from cstl_edge.measure.timing import in_turn
from peers.blocks import SIZE, Peer
from peers.memory import peak_memory_mb
from peers.networks import COMMON, FRAMES, network
from peers.running import Eager, Floats, Onnx, Runner, Silhouettes, Stream, coarse, drawn, exported

BACKENDS = ("pytorch", "onnxruntime")
SAME = 1e-3  # largest difference from eager PyTorch, of the largest number of the embedding
WARM_UP_S, SAMPLES = 0.2, 5
TOGETHER = "sees frames together from its first layer on: a further frame costs a whole window"

Graph = Literal["full", "streaming"]  # a whole window; one more frame of a walker and an answer


@dataclass(frozen=True)
class Counts:
    """What can be counted without a clock."""

    parameters: int
    whole: int
    """Multiply-adds of one sequence of 30 frames."""
    further: int
    """Multiply-adds of one more frame of a walker and the answer after it."""
    kept_bytes: int
    """Of what is kept of each frame in float32; 0 where nothing can be."""


def counts(peer: Peer) -> Counts:
    """Count a network; products of convolutions and matrices count, nothing else does."""
    silhouettes = torch.zeros((1, FRAMES, *SIZE), dtype=torch.uint8)
    parameters = sum(p.numel() for p in peer.parameters())
    whole = _multiply_adds(lambda: peer(silhouettes))
    if not peer.per_frame:
        return Counts(parameters, whole, whole, 0)
    with torch.inference_mode():
        kept = peer.frames(silhouettes[0])
    trunk = _multiply_adds(lambda: peer.frames(silhouettes[0, :1]))
    answer = _multiply_adds(lambda: peer.answer([x[None] for x in kept]))
    return Counts(parameters, whole, trunk + answer, sum(4 * x[0].numel() for x in kept))


def cost_rows(
    widths: str, names: Sequence[str], about: Mapping[str, Any], *, threads: int, seconds: float
) -> Iterator[Row]:
    """Yield counts and times of networks in both runtimes, all calls timed in turn.

    widths: COMMON or PUBLISHED
    about: what every row says: `run` and `environment`
    seconds: of samples for each call
    """
    torch.set_num_threads(threads)
    silhouettes = coarse(FRAMES)
    made = [
        made for name in names for made in _made(_Subject.of(name, widths), threads, silhouettes)
    ]
    runs = {str(number): one.call for number, one in enumerate(made)}
    timed = in_turn(runs, warm_up_s=WARM_UP_S, seconds=seconds, samples=SAMPLES)
    for one, found in zip(made, timed.values(), strict=True):
        check = one.check(silhouettes)
        row = one.subject.row(one.backend, one.graph, threads, about)
        yield row.model_copy(
            update={
                "samples": found.samples if check.ok else {},
                "skipped": None if check.ok else "it does not answer as eager PyTorch does",
                "dropped": found.dropped,
                "warnings": found.warnings,
                "conditions": found.conditions,
                "values": one.subject.values(one.graph),
                "check": check,
            }
        )
    for subject in {one.subject.name: one.subject for one in made}.values():
        for backend in BACKENDS if not subject.peer.per_frame else ():
            row = subject.row(backend, "streaming", threads, about)
            yield row.model_copy(update={"skipped": TOGETHER})


def memory_rows(
    widths: str, names: Sequence[str], about: Mapping[str, Any], *, threads: int
) -> Iterator[Row]:
    """Yield the peak memory of whole windows; arguments as for `cost_rows`."""
    for name in names:
        subject = _Subject.of(name, widths)
        for backend in BACKENDS:
            peak_mb = peak_memory_mb(name, widths, backend, threads)
            row = subject.row(backend, "full", threads, about)
            if peak_mb is None:
                yield row.model_copy(update={"skipped": "the system tells no peak of a process"})
            else:
                yield row.model_copy(update={"values": {"peak_memory_mb": peak_mb}})


@dataclass(frozen=True)
class _Subject:
    """One network at certain widths."""

    name: str
    widths: str
    peer: Peer
    counts: Counts

    @classmethod
    def of(cls, name: str, widths: str) -> _Subject:
        peer = drawn(name, widths)
        return cls(name, widths, peer, counts(peer))

    def values(self, graph: Graph) -> dict[str, float]:
        """Return the counts that belong to a graph."""
        return {
            "parameters": self.counts.parameters,
            "multiply_adds": self.counts.whole if graph == "full" else self.counts.further,
            "kept_bytes_per_frame": self.counts.kept_bytes,
        }

    def row(self, backend: str, graph: Graph, threads: int, about: Mapping[str, Any]) -> Row:
        """Return a row without figures."""
        found = network(self.name)
        return Row(
            **about,
            scenario="peers",
            contender=f"{backend} float32",
            ran=Ran(
                backend=backend,
                provider="cpu" if backend == "pytorch" else "CPUExecutionProvider",
                precision="float32",
                computed_in="float32",
                version=metadata.version("torch" if backend == "pytorch" else backend),
                threads=threads,
            ),
            subject=ModelUnderTest(
                name=self.name,
                weights_sha256=weights_sha256(self.peer.state_dict()),
                size=SIZE,
                parts=self.peer.parts,
                widths=found.widths if self.widths == COMMON else found.published_widths,
                trained=False,
            ),
            case=Case(graph=graph, batch=1, frames=FRAMES, hop=1 if graph == "streaming" else None),
            details={"widths": self.widths, "kept": found.kept},
        )


@dataclass(frozen=True)
class _Call:
    """What is timed."""

    subject: _Subject
    backend: str
    graph: Graph
    runner: Runner
    call: Callable[[], None]

    def check(self, silhouettes: Silhouettes) -> Check:
        """Compare with the whole window in eager PyTorch: what answers wrongly has no time."""
        expected = Eager(self.subject.peer).whole(silhouettes)[0]  # [p, d]
        return compared(_answer(self.runner, self.graph, silhouettes)[0], expected)


def compared(got: Floats, expected: Floats) -> Check:
    """Compare embeddings [p, d]."""
    far = float(np.abs(got - expected).max())
    norms = np.linalg.norm(got, axis=1) * np.linalg.norm(expected, axis=1)
    return Check(
        reference="pytorch float32, whole window",
        cosine=float(((got * expected).sum(1) / np.maximum(norms, 1e-30)).min()),
        max_abs=far,
        ok=far <= SAME * float(np.abs(expected).max()),
    )


def _made(subject: _Subject, threads: int, silhouettes: Silhouettes) -> Iterator[_Call]:
    runners: dict[str, Runner] = {
        "pytorch": Eager(subject.peer),
        "onnxruntime": Onnx(exported(subject.peer), threads),
    }
    for backend, runner in runners.items():
        yield _Call(subject, backend, "full", runner, _whole(runner, silhouettes))
        if subject.peer.per_frame:
            stream = Stream(runner, silhouettes)
            yield _Call(subject, backend, "streaming", runner, stream.step)


def _whole(runner: Runner, silhouettes: Silhouettes) -> Callable[[], None]:
    def call() -> None:
        runner.whole(silhouettes)

    return call


def _answer(runner: Runner, graph: Graph, silhouettes: Silhouettes) -> Floats:
    if graph == "full":
        return runner.whole(silhouettes)
    return Stream(runner, silhouettes).last


def _multiply_adds(call: Callable[[], Any]) -> int:
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        call()
    return int(counter.get_total_flops()) // 2
