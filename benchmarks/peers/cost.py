"""Cost of a peer: parameters, multiply-adds, milliseconds, memory in a process of its own.

Costs do not depend on the values of the weights, so networks are drawn at random here. Letters: s
frames, p parts, d embedding dimensions.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import multiprocessing
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from cstl_edge.arrays import Silhouettes
from cstl_edge.bench.record import Case, Check, ModelUnderTest, Ran, Row
from cstl_edge.checkpoint.weights import weights_sha256
from cstl_edge.measure.timing import measure_interleaved
from cstl_edge.numerics import cosine_per_part, largest_error
from cstl_edge.reproduce.peers.blocks import SIZE, Peer
from peers.networks import COMMON, FRAMES, network
from peers.running import WHOLE, Eager, Onnx, Runner, Stream, exported, random_blocks, random_peer

BACKENDS = ("pytorch", "onnxruntime")
SAME = 1e-3  # largest difference from eager PyTorch, of the largest number of the embedding
WARM_UP_S, SAMPLES = 0.2, 5
TOGETHER = "sees frames together from its first layer on: a further frame costs a whole window"
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
MEMORY_RUNS = 3

About = Mapping[str, Any]
"""Fields that every row of a call has: `run` and `environment`."""
Graph = Literal["full", "streaming"]  # a whole window; one more frame of a walker and an answer


@dataclass(frozen=True)
class Counts:
    """Costs that are counted without a clock."""

    parameters: int
    whole: int  # multiply-adds of one sequence of 30 frames
    further: int  # multiply-adds of one more frame of a walker and the answer after it
    kept_bytes: int  # of what is kept of each frame in float32; 0 where nothing can be


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


def _multiply_adds(call: Callable[[], Any]) -> int:
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        call()
    return int(counter.get_total_flops()) // 2


@dataclass(frozen=True)
class MeasuredPeer:
    """A network at certain widths, in float32 on the CPU."""

    name: str
    peer: Peer
    weights_sha256: str
    threads: int
    widths: str = COMMON  # or PUBLISHED
    trained: bool = False  # otherwise its weights are random

    @classmethod
    def random(cls, name: str, widths: str, threads: int) -> MeasuredPeer:
        """Return a network with random weights.

        Args:
            name: Name of the network.
            widths: COMMON or PUBLISHED.
            threads: Threads of both runtimes.
        """
        peer = random_peer(name, widths)
        return cls(name, peer, weights_sha256(peer.state_dict()), threads, widths)

    def row(self, backend: str, about: About, **fields: Any) -> Row:
        """Return a row of one of BACKENDS.

        Args:
            backend: One of BACKENDS.
            about: Fields of every row.
            fields: Further fields of this row.
        """
        kind = network(self.name)
        ran = Ran(
            backend=backend,
            provider="cpu" if backend == "pytorch" else "CPUExecutionProvider",
            precision="float32",
            computed_in="float32",
            version=metadata.version("torch" if backend == "pytorch" else backend),
            threads=self.threads,
        )
        subject = ModelUnderTest(
            name=self.name,
            weights_sha256=self.weights_sha256,
            size=SIZE,
            parts=self.peer.parts,
            widths=kind.widths if self.widths == COMMON else kind.published_widths,
            trained=self.trained,
        )
        contender = f"{backend} float32"
        return Row(
            scenario="peers", contender=contender, ran=ran, subject=subject, **about, **fields
        )

    def cost_row(self, backend: str, graph: Graph, about: About, **fields: Any) -> Row:
        """Return a row of a graph's cost.

        Args:
            backend: One of BACKENDS.
            graph: `full` or `streaming`.
            about: Fields of every row.
            fields: Further fields of this row.
        """
        hop = 1 if graph == "streaming" else None
        case = Case(graph=graph, batch=1, frames=FRAMES, hop=hop)
        details = {"widths": self.widths, "kept": network(self.name).kept}
        return self.row(backend, about, case=case, details=details, **fields)


def cost_rows(
    widths: str, names: Sequence[str], about: About, *, threads: int, seconds: float
) -> Iterator[Row]:
    """Yield counts and times of networks in both runtimes, all calls timed in turn.

    Args:
        widths: COMMON or PUBLISHED.
        names: Names of the networks.
        about: Fields of every row.
        threads: Threads of both runtimes.
        seconds: Total of the samples of each call.
    """
    torch.set_num_threads(threads)
    silhouettes = random_blocks(FRAMES)
    peers = [MeasuredPeer.random(name, widths, threads) for name in names]
    calls = [call for peer in peers for call in _calls(peer, silhouettes)]
    runs = {str(number): call.run for number, call in enumerate(calls)}
    timings = measure_interleaved(runs, warm_up_s=WARM_UP_S, seconds=seconds, samples=SAMPLES)
    for call, timing in zip(calls, timings.values(), strict=True):
        check = call.check()
        yield call.peer.cost_row(
            call.backend,
            "streaming" if call.stream else "full",
            about,
            samples=timing.samples if check.ok else {},
            skipped=None if check.ok else "it does not answer as eager PyTorch does",
            dropped=timing.dropped,
            warnings=timing.warnings,
            conditions=timing.conditions,
            values={
                "parameters": call.counts.parameters,
                "multiply_adds": call.counts.further if call.stream else call.counts.whole,
                "kept_bytes_per_frame": call.counts.kept_bytes,
            },
            check=check,
        )
    for peer in peers:
        for backend in BACKENDS if not peer.peer.per_frame else ():
            yield peer.cost_row(backend, "streaming", about, skipped=TOGETHER)


def memory_rows(widths: str, names: Sequence[str], about: About, *, threads: int) -> Iterator[Row]:
    """Yield the peak memory of whole windows.

    Args:
        widths: COMMON or PUBLISHED.
        names: Names of the networks.
        about: Fields of every row.
        threads: Threads of both runtimes.
    """
    for name in names:
        peer = MeasuredPeer.random(name, widths, threads)
        for backend in BACKENDS:
            peak_mb = peak_memory_mb(name, widths, backend, threads)
            figure: dict[str, Any] = {"values": {"peak_memory_mb": peak_mb}}
            if peak_mb is None:
                figure = {"skipped": "the system tells no peak of a process"}
            yield peer.cost_row(backend, "full", about, **figure)


@dataclass(frozen=True)
class _Call:
    """A call that is timed: a whole window, or a step of a stream."""

    peer: MeasuredPeer
    counts: Counts
    backend: str
    runner: Runner
    silhouettes: Silhouettes
    stream: Stream | None

    def run(self) -> None:
        if self.stream is None:
            self.runner.whole(self.silhouettes)
        else:
            self.stream.step()

    def check(self) -> Check:
        """Compare with the whole window in eager PyTorch: a wrong output reports no time."""
        expected = Eager(self.peer.peer).whole(self.silhouettes)[0]  # [p, d]
        if self.stream is None:
            actual = self.runner.whole(self.silhouettes)[0]
        else:
            actual = Stream(self.runner, self.silhouettes).last[0]
        error = largest_error(expected, actual)
        return Check(
            reference="pytorch float32, whole window",
            cosine=float(cosine_per_part(expected, actual).min()),
            max_abs=error,
            ok=error <= SAME * float(np.abs(expected).max()),
        )


def _calls(peer: MeasuredPeer, silhouettes: Silhouettes) -> Iterator[_Call]:
    counted = counts(peer.peer)
    runners: dict[str, Runner] = {
        "pytorch": Eager(peer.peer),
        "onnxruntime": Onnx(exported(peer.peer), peer.threads),
    }
    for backend, runner in runners.items():
        yield _Call(peer, counted, backend, runner, silhouettes, None)
        if peer.peer.per_frame:
            stream = Stream(runner, silhouettes)
            yield _Call(peer, counted, backend, runner, silhouettes, stream)


def peak_memory_mb(name: str, widths: str, backend: str, threads: int) -> float | None:
    """Return the peak memory of whole windows over the loaded libraries [MB], weights included.

    Args:
        name: Name of the network.
        widths: COMMON or PUBLISHED.
        backend: One of BACKENDS.
        threads: Threads of the runtime.

    Returns:
        None where the system does not report the peak of a process.
    """
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "full.onnx"
        if backend == "onnxruntime":
            graph.write_bytes(exported(random_peer(name, widths), only=(WHOLE,))[WHOLE])
        with ProcessPoolExecutor(1, mp_context=spawn) as child:
            return child.submit(_peak, name, widths, backend, graph, threads).result()


def _peak(name: str, widths: str, backend: str, graph: Path, threads: int) -> float | None:
    """Load a network and run it a few times in this process; see `peak_memory_mb`."""
    torch.set_num_threads(threads)
    silhouettes = random_blocks(FRAMES)

    def use(times: int) -> None:
        onnx = backend == "onnxruntime"
        runner: Runner = (
            Onnx({WHOLE: graph.read_bytes()}, threads) if onnx else Eager(random_peer(name, widths))
        )
        for _ in range(times):
            runner.whole(silhouettes)

    use(1)  # memory that libraries load at their first call is theirs
    return peak_of(lambda: use(MEMORY_RUNS))


def peak_of(use: Callable[[], None]) -> float | None:
    """Return by how much a call raises this process's memory at most [MB]; None where unknown."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError, TypeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)  # so that using free memory again counts
    before = _status_mb("VmRSS")
    try:
        RESET.write_text("5")  # forgets the peak so far
    except OSError:
        return None
    use()
    peak = _status_mb("VmHWM")
    return None if before is None or peak is None else round(peak - before, 1)


def _status_mb(key: str) -> float | None:
    try:
        lines = STATUS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    values = [line.split()[1] for line in lines if line.startswith(f"{key}:")]
    return int(values[0]) / 1024 if values else None
