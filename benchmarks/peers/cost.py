"""What a network of the comparison costs: parameters, multiply-adds, milliseconds, memory.

Costs do not depend on what the weights are, so networks are drawn at random here. Letters: s
frames, p parts, d embedding dimensions.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from cstl_edge.bench.record import Case, Check, Ran, Row, Subject
from cstl_edge.measure import environment
from cstl_edge.measure.timing import Timed, in_turn
from cstl_edge.training.checkpoint import weights_sha256
from peers.blocks import SIZE, Peer
from peers.networks import FRAMES, network
from peers.running import WHOLE, Eager, Floats, Onnx, Ring, Runner, Silhouettes, as_peer, exported

COMMON, PUBLISHED = "common cost", "published"  # widths
BACKENDS = ("pytorch", "onnxruntime")
SAME = 1e-3  # largest difference of two runtimes, of the largest number of the embedding
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


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
    whole = further = _multiply_adds(lambda: peer(silhouettes))
    kept_bytes = 0
    if peer.per_frame:
        with torch.inference_mode():
            kept = peer.frames(silhouettes[0])
        windows = [x[None] for x in kept]
        further = _multiply_adds(lambda: peer.frames(silhouettes[0, :1]))
        further += _multiply_adds(lambda: peer.answer(windows))
        kept_bytes = sum(4 * x[0].numel() for x in kept)
    return Counts(sum(p.numel() for p in peer.parameters()), whole, further, kept_bytes)


def drawn(name: str, widths: str) -> Peer:
    """Return a network with random weights at COMMON or PUBLISHED widths."""
    torch.manual_seed(0)
    found = network(name)
    return as_peer(found.published() if widths == PUBLISHED else found.scaled(0))


def rows(
    widths: str, names: Sequence[str], *, run: str, threads: int, seconds: float
) -> Iterator[Row]:
    """Yield the cost of networks, in both runtimes, whole windows and one further frame.

    All calls are timed in turn, so that their ratios share the conditions.
    widths: COMMON or PUBLISHED
    seconds: of samples for each call
    """
    torch.set_num_threads(threads)
    silhouettes = coarse(FRAMES)
    made = {name: _Made.of(name, widths, threads) for name in names}
    calls = {
        (name, backend, graph): call
        for name, one in made.items()
        for backend in BACKENDS
        for graph, call in one.calls(backend, silhouettes).items()
    }
    keys = {f"{name}, {backend}, {graph}": (name, backend, graph) for name, backend, graph in calls}
    timed = in_turn(
        {said: calls[key] for said, key in keys.items()},
        warm_up_s=0.2,
        seconds=seconds,
        samples=5,
    )
    about = {"run": run, "environment": environment()}
    for said, (name, backend, graph) in keys.items():
        yield made[name].row(backend, graph, timed[said], silhouettes, about)
        if not made[name].peer.per_frame:
            yield made[name].skipped(backend, about)


def coarse(frames: int) -> Silhouettes:
    """Return random silhouettes [1, frames, h, w] in blocks of four pixels."""
    height, width = SIZE
    blocks = np.random.default_rng(0).integers(0, 2, (1, frames, height // 4, width // 4), np.uint8)
    return np.ascontiguousarray(blocks.repeat(4, 2).repeat(4, 3) * np.uint8(255))


@dataclass(frozen=True)
class _Made:
    """One network that is ready to be timed."""

    name: str
    widths: str
    threads: int
    peer: Peer
    counts: Counts
    runners: dict[str, Runner]
    memory_mb: dict[str, float | None]

    @classmethod
    def of(cls, name: str, widths: str, threads: int) -> _Made:
        peer = drawn(name, widths)
        graphs = exported(peer)
        runners: dict[str, Runner] = {"pytorch": Eager(peer), "onnxruntime": Onnx(graphs, threads)}
        memory = {
            backend: peak_memory_mb(name, widths, backend, graphs[WHOLE], threads)
            for backend in BACKENDS
        }
        return cls(name, widths, threads, peer, counts(peer), runners, memory)

    def calls(self, backend: str, silhouettes: Silhouettes) -> dict[str, Callable[[], None]]:
        """Return what is timed, by graph: the whole window, and a further frame of a walker."""
        runner = self.runners[backend]
        found: dict[str, Callable[[], None]] = {"full": lambda: _drop(runner.whole(silhouettes))}
        if self.peer.per_frame:
            stream = Stream(runner, silhouettes)
            found["streaming"] = lambda: _drop(stream())
        return found

    def row(
        self, backend: str, graph: str, timed: Timed, silhouettes: Silhouettes, about: Any
    ) -> Row:
        """Return what was measured; what answers wrongly has no time."""
        check = self._check(backend, graph, silhouettes)
        whole = graph == "full"
        values = {
            "parameters": self.counts.parameters,
            "multiply_adds": self.counts.whole if whole else self.counts.further,
            "kept_bytes_per_frame": self.counts.kept_bytes,
        }
        memory = self.memory_mb[backend]
        if whole and memory is not None:
            values["peak_memory_mb"] = memory
        return self._row(backend, graph, about).model_copy(
            update={
                "samples": timed.samples if check.ok else {},
                "skipped": None if check.ok else "it does not answer as eager PyTorch does",
                "dropped": timed.dropped,
                "warnings": timed.warnings,
                "conditions": timed.conditions,
                "values": values,
                "check": check,
            }
        )

    def skipped(self, backend: str, about: Any) -> Row:
        """Return the row of what this network cannot do."""
        why = "sees frames together from its first layer on: a further frame costs a whole window"
        return self._row(backend, "streaming", about).model_copy(update={"skipped": why})

    def _row(self, backend: str, graph: Any, about: Any) -> Row:
        found = network(self.name)
        common = self.widths == COMMON
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
                threads=self.threads,
            ),
            subject=Subject(
                name=self.name,
                weights_sha256=weights_sha256(self.peer.state_dict()),
                size=SIZE,
                parts=self.peer.parts,
                widths=found.widths if common else found.published_widths,
                trained=False,
            ),
            case=Case(graph=graph, batch=1, frames=FRAMES, hop=None if graph == "full" else 1),
            details={"widths": self.widths, "kept": found.kept},
        )

    def _check(self, backend: str, graph: str, silhouettes: Silhouettes) -> Check:
        expected = Eager(self.peer).whole(silhouettes)[0]  # [p, d]
        runner = self.runners[backend]
        got = runner.whole(silhouettes) if graph == "full" else answered(runner, silhouettes)
        far = float(np.abs(got[0] - expected).max())
        norms = np.linalg.norm(got[0], axis=1) * np.linalg.norm(expected, axis=1)
        cosine = float(((got[0] * expected).sum(1) / np.maximum(norms, 1e-30)).min())
        return Check(
            reference="pytorch float32, whole window",
            cosine=cosine,
            max_abs=far,
            ok=far <= SAME * float(np.abs(expected).max()),
        )


class Stream:
    """A walker that goes on: every call is one more frame and the answer after it."""

    def __init__(self, runner: Runner, silhouettes: Silhouettes) -> None:
        self._runner, self._silhouettes = runner, silhouettes
        self._ring, self._frame = Ring(silhouettes.shape[1]), 0
        for _ in range(silhouettes.shape[1]):
            self()

    def __call__(self) -> Floats:
        place = self._frame % self._silhouettes.shape[1]
        self._frame += 1
        kept = self._runner.frame(self._silhouettes[0, place : place + 1])
        return self._runner.answer(self._ring.push(kept))


def answered(runner: Runner, silhouettes: Silhouettes) -> Floats:
    """Return the embedding [1, p, d] of a sequence that came frame by frame."""
    ring = Ring(silhouettes.shape[1])
    for silhouette in silhouettes[0]:
        window = ring.push(runner.frame(silhouette[None]))
    return runner.answer(window)


def peak_memory_mb(
    name: str, widths: str, backend: str, graph: bytes, threads: int
) -> float | None:
    """Return what a process of its own needs at most for whole windows, over its libraries [MB].

    None where the system does not tell the peak of a process.
    """
    spawn = multiprocessing.get_context("spawn")
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        file.write(graph)
        file.flush()
        with ProcessPoolExecutor(1, mp_context=spawn) as child:
            return child.submit(_peak, name, widths, backend, file.name, threads).result()


def _peak(name: str, widths: str, backend: str, graph: str, threads: int) -> float | None:
    """Load and run a network three times in this process; see `peak_memory_mb`."""
    torch.set_num_threads(threads)
    silhouettes = coarse(FRAMES)
    before = _status_mb("VmRSS")
    try:
        RESET.write_text("5")  # the peak so far, of the imports, is forgotten
    except OSError:
        return None
    runner: Runner
    if backend == "pytorch":
        runner = Eager(drawn(name, widths))
    else:
        runner = Onnx({WHOLE: Path(graph).read_bytes()}, threads)
    for _ in range(3):
        runner.whole(silhouettes)
    peak = _status_mb("VmHWM")
    return None if before is None or peak is None else round(peak - before, 1)


def _status_mb(key: str) -> float | None:
    try:
        lines = STATUS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{key}:")]
    return int(found[0]) / 1024 if found else None


def _multiply_adds(call: Callable[[], Any]) -> int:
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        call()
    return int(counter.get_total_flops()) // 2


def _drop(_: Any) -> None:
    """Return no stages: the wall clock alone times these calls."""
