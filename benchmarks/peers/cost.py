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
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from cstl_edge.arrays import Floats, Silhouettes
from cstl_edge.bench.record import Case, Check, ModelUnderTest, Ran, Row
from cstl_edge.checkpoint.weights import weights_sha256
from cstl_edge.measure.timing import measure_interleaved
from cstl_edge.numerics import cosine_per_part, largest_error
from peers.blocks import SIZE, Peer
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


def _multiply_adds(call: Callable[[], Any]) -> int:
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        call()
    return int(counter.get_total_flops()) // 2


def peer_row(
    name: str,
    peer: Peer,
    backend: str,
    sha256: str,
    about: About,
    *,
    common: bool,
    threads: int,
    trained: bool,
    **fields: Any,
) -> Row:
    """Return a row of a peer in float32 on the CPU.

    Args:
        name: of the network
        peer: the network
        backend: one of BACKENDS
        sha256: of its weights
        about: fields of every row
        common: whether it has the widths of the common cost
        threads: of the backend
        trained: False for random weights
        fields: further fields of the row
    """
    kind = network(name)
    return Row(
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
            name=name,
            weights_sha256=sha256,
            size=SIZE,
            parts=peer.parts,
            widths=kind.widths if common else kind.published_widths,
            trained=trained,
        ),
        **about,
        **fields,
    )


def cost_rows(
    widths: str, names: Sequence[str], about: About, *, threads: int, seconds: float
) -> Iterator[Row]:
    """Yield counts and times of networks in both runtimes, all calls timed in turn.

    Args:
        widths: COMMON or PUBLISHED
        names: of the networks
        about: fields of every row
        threads: of both runtimes
        seconds: of samples for each call
    """
    torch.set_num_threads(threads)
    silhouettes = random_blocks(FRAMES)
    peers = [_CountedPeer.of(name, widths, threads) for name in names]
    calls = [call for peer in peers for call in _calls(peer, silhouettes)]
    runs = {str(number): call.run for number, call in enumerate(calls)}
    timings = measure_interleaved(runs, warm_up_s=WARM_UP_S, seconds=seconds, samples=SAMPLES)
    for call, timing in zip(calls, timings.values(), strict=True):
        check = call.check(silhouettes)
        yield call.peer.row(
            call.backend,
            call.graph,
            about,
            samples=timing.samples if check.ok else {},
            skipped=None if check.ok else "it does not answer as eager PyTorch does",
            dropped=timing.dropped,
            warnings=timing.warnings,
            conditions=timing.conditions,
            values=call.peer.values(call.graph),
            check=check,
        )
    for peer in peers:
        for backend in BACKENDS if not peer.peer.per_frame else ():
            yield peer.row(backend, "streaming", about, skipped=TOGETHER)


def memory_rows(widths: str, names: Sequence[str], about: About, *, threads: int) -> Iterator[Row]:
    """Yield the peak memory of whole windows; arguments are those of `cost_rows`."""
    for name in names:
        peer = _CountedPeer.of(name, widths, threads)
        for backend in BACKENDS:
            peak_mb = peak_memory_mb(name, widths, backend, threads)
            if peak_mb is None:
                skipped = "the system tells no peak of a process"
                yield peer.row(backend, "full", about, skipped=skipped)
            else:
                yield peer.row(backend, "full", about, values={"peak_memory_mb": peak_mb})


@dataclass(frozen=True)
class _CountedPeer:
    """One network at certain widths, with random weights."""

    name: str
    widths: str
    threads: int
    peer: Peer
    counts: Counts

    @classmethod
    def of(cls, name: str, widths: str, threads: int) -> _CountedPeer:
        peer = random_peer(name, widths)
        return cls(name, widths, threads, peer, counts(peer))

    def values(self, graph: Graph) -> dict[str, float]:
        """Return the counts that belong to a graph."""
        return {
            "parameters": self.counts.parameters,
            "multiply_adds": self.counts.whole if graph == "full" else self.counts.further,
            "kept_bytes_per_frame": self.counts.kept_bytes,
        }

    def row(self, backend: str, graph: Graph, about: About, **fields: Any) -> Row:
        """Return a row of a graph."""
        return peer_row(
            self.name,
            self.peer,
            backend,
            weights_sha256(self.peer.state_dict()),
            about,
            common=self.widths == COMMON,
            threads=self.threads,
            trained=False,
            case=Case(graph=graph, batch=1, frames=FRAMES, hop=1 if graph == "streaming" else None),
            details={"widths": self.widths, "kept": network(self.name).kept},
            **fields,
        )


@dataclass(frozen=True)
class _Call:
    """A call that is timed."""

    peer: _CountedPeer
    backend: str
    graph: Graph
    runner: Runner
    run: Callable[[], None]

    def check(self, silhouettes: Silhouettes) -> Check:
        """Compare with the whole window in eager PyTorch: a wrong output reports no time."""
        expected = Eager(self.peer.peer).whole(silhouettes)[0]  # [p, d]
        full = self.graph == "full"
        runner = self.runner
        actual = runner.whole(silhouettes) if full else Stream(runner, silhouettes).last
        return compared(actual[0], expected)


def compared(actual: Floats, expected: Floats) -> Check:
    """Compare embeddings [p, d]."""
    error = largest_error(expected, actual)
    return Check(
        reference="pytorch float32, whole window",
        cosine=float(cosine_per_part(expected, actual).min()),
        max_abs=error,
        ok=error <= SAME * float(np.abs(expected).max()),
    )


def _calls(peer: _CountedPeer, silhouettes: Silhouettes) -> Iterator[_Call]:
    runners: dict[str, Runner] = {
        "pytorch": Eager(peer.peer),
        "onnxruntime": Onnx(exported(peer.peer), peer.threads),
    }
    for backend, runner in runners.items():
        yield _Call(peer, backend, "full", runner, partial(_whole, runner, silhouettes))
        if peer.peer.per_frame:
            yield _Call(peer, backend, "streaming", runner, Stream(runner, silhouettes).step)


def _whole(runner: Runner, silhouettes: Silhouettes) -> None:
    runner.whole(silhouettes)


def peak_memory_mb(name: str, widths: str, backend: str, threads: int) -> float | None:
    """Return the peak memory of whole windows over the loaded libraries [MB], weights included.

    Args:
        name: of the network
        widths: COMMON or PUBLISHED
        backend: one of BACKENDS
        threads: of the runtime

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
        runner: Runner
        if backend == "onnxruntime":
            runner = Onnx({WHOLE: graph.read_bytes()}, threads)
        else:
            runner = Eager(random_peer(name, widths))
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
