"""Compare an exported float32 graph with the PyTorch network that it came from.

The graph runs in ONNX Runtime on batches and frame counts other than those it was traced with, with
ragged lengths: the classic trap of an export is a batch index baked in, and it shows nowhere else.

Letters: n sequences, s frames, m frames of any sequences, p parts, c channels, d embedding
dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cstl_edge.arrays import Bools, Floats, Indices
from cstl_edge.errors import ExportError, one_line
from cstl_edge.model import Cstl
from cstl_edge.model.incremental_head import Mix, Taps, incremental_state
from cstl_edge.numerics import (
    TOLERANCES,
    Flips,
    allowed_error,
    count_flips,
    largest_error,
    random_blocks,
)
from cstl_edge.runtime.manifest import INCREMENTAL_FILES
from cstl_edge.runtime.streaming.rings import KEPT

FRAMEWISE = {"taps.onnx": (Taps, ("taps", "gates")), "mix.onnx": (Mix, ("logits", "judged"))}
SALIENT = "salient_frames"
SEED = 20211
TOLERANCE = TOLERANCES["parity"]["float32"]
CASES = ((1, (1,)), (1, (30,)), (3, (7, 1, 4)), (5, (12, 12, 3, 9, 2)))
"""Sequences and their lengths; the example of the trace has 2 sequences of 5 frames."""


@dataclass
class Deviation:
    """How far one output is from PyTorch, over all cases."""

    max_abs_error: float = 0.0
    max_abs_value: float = 0.0

    def add(self, expected: Floats, actual: Floats, same: Bools | None) -> None:
        """Take in one case.

        Args:
            expected: Output of PyTorch.
            actual: Output of the graph, of the same shape.
            same: Parts [n, p] to compare; one that came from another frame on a tie is left out.
        """
        error = largest_error(expected, actual, same)
        self.max_abs_error = float(np.maximum(self.max_abs_error, error))  # lets a NaN through
        self.max_abs_value = max(self.max_abs_value, float(np.abs(expected).max()))


@dataclass
class Parity:
    """The deviations of all graphs of an export."""

    graphs: dict[str, dict[str, Deviation | Flips]] = field(default_factory=dict)  # by file, output

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest's entry."""
        return {
            "against": f"PyTorch {torch.__version__}, float32, CPU",
            "tolerance": TOLERANCE.relative,
            "seed": SEED,
            "lengths": [list(lengths) for _, lengths in CASES],
            "graphs": {
                name: {output: asdict(measured) for output, measured in outputs.items()}
                for name, outputs in self.graphs.items()
            },
        }

    def check(self) -> None:
        """Raise ExportError naming the first output that is over the tolerance."""
        for name, outputs in self.graphs.items():
            for output, measured in outputs.items():
                problem = _problem(measured)
                if problem:
                    raise ExportError(
                        f"{name}: {output} differs from PyTorch {problem}. Nothing was exported; "
                        "try without simplification"
                    )


def measure(network: Cstl, name: str, session: Any) -> dict[str, Deviation | Flips]:
    """Run a graph and the network on every case, and return the deviations by output.

    Args:
        network: Network with its norms folded.
        name: File of the graph, such as `frames.onnx`.
        session: Graph in ONNX Runtime.
    """
    outputs = [output.name for output in session.get_outputs()]
    deviations = {output: Deviation() for output in outputs if output != SALIENT}
    flips = Flips()
    for feed in feeds(network, name):
        expected, scores = _reference(network, name, feed)
        actual = dict(zip(outputs, _run(name, session, feed), strict=True))
        same = None
        if scores is not None:
            same = actual[SALIENT] == expected[SALIENT]
            flips += count_flips(
                expected[SALIENT], actual[SALIENT], scores, TOLERANCE.tie, floor=1.0
            )
        for output, deviation in deviations.items():
            deviation.add(expected[output], actual[output], same)
    return {**deviations, SALIENT: flips} if SALIENT in outputs else {**deviations}


def feeds(network: Cstl, name: str) -> Iterator[dict[str, Any]]:
    """Yield the inputs of a graph for every case: coarse random silhouettes, or their features."""
    config, rng = network.config, np.random.default_rng(SEED)
    height, width = config.size
    for n, lengths in CASES:
        s = max(lengths)
        silhouettes = random_blocks(rng, n, s, config.size)
        if name == "frames.onnx":
            yield {"silhouettes": silhouettes.reshape(-1, height, width)}
        elif name == "full.onnx":
            yield {"silhouettes": silhouettes, "lengths": np.array(lengths, np.int32)}
        else:
            with torch.no_grad():
                flat = torch.tensor(silhouettes.reshape(-1, height, width))
                features = network.frame_features(flat).numpy()
            windows = features.reshape(n, s, *features.shape[1:])  # [n, s, p, c]
            if name in INCREMENTAL_FILES:
                yield _incremental_feed(network, name, windows, rng.integers(0, s, n, np.int64))
            else:
                yield {"features": windows, "lengths": np.array(lengths, np.int32)}


def _incremental_feed(network: Cstl, name: str, windows: Floats, oldest: Indices) -> dict[str, Any]:
    """Return the inputs of `taps`, `mix` or `slide` for windows [n, s, p, c].

    oldest: [n], where in its ring each window begins
    """
    n, s = windows.shape[:2]
    rows = windows.reshape(n * s, *windows.shape[2:]).swapaxes(0, 1)  # [p, m, c]
    if name == "taps.onnx":
        return {"features": rows}
    with torch.no_grad():
        state = incremental_state(network, torch.tensor(windows))  # [n, p, s, ..] each
    if name == "mix.onnx":
        sums = torch.chunk(state[0].transpose(0, 1).flatten(1, 2), 3, 2)[2]  # [p, m, c]
        return {"features": rows, "sums": sums.numpy()}
    feed: dict[str, Any] = {}
    for key, values in zip(KEPT, state, strict=True):
        rotated = [ring.roll(int(by), 1) for ring, by in zip(values, oldest, strict=True)]
        feed[key] = torch.stack(rotated).numpy()
    return {**feed, "slots": (oldest[:, None] + np.arange(s)) % s}


def _in_order(feed: dict[str, Tensor]) -> Tensor:
    """Return the features [n, s, p, c] of windows in rings, each from its first frame on."""
    features, _, _ = torch.chunk(feed["kept_values"], 3, 3)  # [n, p, s, c]
    pairs = zip(features, feed["slots"], strict=True)
    return torch.stack([ring[:, slots] for ring, slots in pairs]).transpose(1, 2)


def _run(name: str, session: Any, feed: dict[str, Any]) -> list[Any]:
    """Run the graph; one that was traced too narrowly fails here."""
    try:
        outputs: list[Any] = session.run(None, feed)
    except Exception as err:  # ONNX Runtime's exceptions have no public base
        shapes = {key: list(value.shape) for key, value in feed.items()}
        raise ExportError(f"{name} does not run on {shapes}: {one_line(err)}") from err
    return outputs


def _reference(
    network: Cstl, name: str, feed: dict[str, Any]
) -> tuple[dict[str, Any], Floats | None]:
    """Return the network's outputs, and the scores [n, p, s] behind `salient_frames`."""
    tensors = {key: torch.tensor(value) for key, value in feed.items()}
    if name == "frames.onnx":
        with torch.no_grad():
            return {"features": network.frame_features(tensors["silhouettes"]).numpy()}, None
    if name in FRAMEWISE:
        graph, outputs = FRAMEWISE[name]
        with torch.no_grad():
            values = graph(network)(*tensors.values())
        return dict(zip(outputs, (value.numpy() for value in values), strict=True)), None
    if name == "slide.onnx":  # is compared with the head itself
        tensors = {"features": _in_order(tensors)}
    scored: list[Tensor] = []
    hook = None
    if network.scores is not None:
        hook = network.scores.register_forward_hook(lambda _m, _i, output: scored.append(output))
    try:
        with torch.no_grad():
            run = network if name == "full.onnx" else network.head
            embedding, frames = run(*tensors.values())
    finally:
        if hook is not None:
            hook.remove()
    if frames is None:
        return {"embedding": embedding.numpy()}, None
    expected = {"embedding": embedding.numpy(), SALIENT: frames.numpy()}
    return expected, scored[0].transpose(0, 1).numpy()


def _problem(measured: Deviation | Flips) -> str | None:
    """Say by how much an output is over the tolerance, or None."""
    if isinstance(measured, Flips):
        wrong = measured.wrong
        return f"in {wrong} of {measured.compared} choices" if wrong else None
    allowed = allowed_error(TOLERANCE.relative, measured.max_abs_value)
    if measured.max_abs_error <= allowed:
        return None
    return f"by {measured.max_abs_error:.3g}, expected at most {allowed:.3g}"
